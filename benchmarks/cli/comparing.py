"""The verbs that make a suite: compare, init."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.cli.machine import Machine, machine_options
from benchmarks.cli.running import PROMPTS, SET, jobs_options, run_suite
from benchmarks.cli.shared import EXAMPLE, end_with, resumable, sparsities_of, verb
from benchmarks.hub import check_models
from benchmarks.names import split_names

if TYPE_CHECKING:
    from benchmarks.grid.comparison import Comparison
    from benchmarks.grid.suite import Suite
    from benchmarks.run.runner import Outcome

BUDGETS = ("small", "medium", "large")
SUITE = "suite.toml"
"""Where a results folder keeps the suite of its last comparison."""
TEMPLATE = Path(__file__).with_name("template.toml")


@click.command(
    epilog=EXAMPLE + "edgewise compare --model ./my-model --task ioi --methods random,eap,acdc"
)
@click.option(
    "--model", metavar="ID", help="A Hugging Face hub id or a folder; default: the bundled model."
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    required=True,
    metavar="T,...",
    help="Names from `edgewise list`, custom:FILE.jsonl or FILE.py:NAME.",
)
@click.option(
    "--methods",
    "--method",
    "methods",
    multiple=True,
    metavar="M,...",
    help="Names or FILE.py:NAME; default: random, eap, eap-ig, gim, acdc and edge-pruning.",
)
@click.option("--train", type=PROMPTS, metavar="N", help="Training prompts of every task.")
@click.option("--validation", type=PROMPTS, metavar="N", help="Validation prompts.")
@click.option("--test", type=PROMPTS, metavar="N", help="Test prompts.")
@click.option(
    "--sparsity", "sparsities", multiple=True, metavar="S,...", help="Sparsities, such as 0.9,0.98."
)
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0, 2**63 - 1), metavar="N")
@click.option(
    "--budget", type=click.Choice(BUDGETS), help="Prompts and settings of methods; default: small."
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    metavar="H",
    help="Take the largest budget whose estimate fits.",
)
@click.option(
    "--out", type=Path, metavar="DIR", help="Results folder; default: runs/compare-MODEL."
)
@click.option("--save", type=Path, metavar="FILE.toml", help="Keep the suite for `edgewise run`.")
@SET
@click.option("--dry-run", is_flag=True, help="Estimate the cost, and stop.")
@machine_options
@jobs_options
@resumable
@verb
def compare(
    model: str | None,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    sparsities: tuple[str, ...],
    seeds: tuple[int, ...],
    budget: str | None,
    hours: float | None,
    out: Path | None,
    save: Path | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    machine: Machine,
    jobs: dict[str, Any],
    **sizes: int | None,
) -> None:
    """Compare methods on your own model: check, estimate the cost, run, report.

    The suite is made from the options and kept in DIR/suite.toml. Finished cells are skipped, so
    the same command continues a run that was stopped.
    """
    check_models([model] if model else [], split_names(tasks))
    from benchmarks.grid.comparison import METHODS, Comparison, as_written
    from benchmarks.grid.overrides import Overrides, parse_overrides
    from edgewise.own_code import in_full

    here = Path.cwd()
    comparison = Comparison(
        [as_written(in_full(task, here), here) for task in split_names(tasks)],
        [in_full(method, here) for method in split_names(methods)] if methods else METHODS,
        model,
        {kind: number for kind, number in sizes.items() if number is not None},
        sparsities_of(sparsities),
        seeds or (0,),
        "" if out is None else out.resolve().name,
        Overrides(settings=parse_overrides(assignments)).in_full(here).settings,
    )
    folder = out or Path("runs") / comparison.title
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("compare under torchrun; expected `compare --save FILE.toml --dry-run`")
    if budget is not None and hours is not None:
        raise ValueError(f"--budget {budget} with --hours {hours:g}; expected one of them")
    names = BUDGETS if hours is not None else (budget or "small",)
    chosen, suite, text = _chosen(comparison, names, hours, folder, machine)
    if save is not None:
        _keep(text, save)
        click.echo(f"The suite: {save}; the same again: edgewise run {save} --out {folder}")
    if dry_run:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUITE).write_text(text, encoding="utf-8")
    outcomes = run_suite(suite, folder, machine, **jobs)
    _report(folder, outcomes or [])
    click.echo(f"The suite, with the {chosen} budget: {folder / SUITE}")
    end_with(outcomes or [])


def _chosen(
    comparison: "Comparison",
    budgets: tuple[str, ...],
    hours: float | None,
    folder: Path,
    machine: Machine,
) -> "tuple[str, Suite, str]":
    """The budget, its suite and the suite's text, after saying what it costs.

    Raises ValueError for what is wrong with the suite, and where no budget fits into the hours.
    """
    from benchmarks.grid.suite import suite_of
    from benchmarks.grid.written import to_toml
    from benchmarks.run.environment import device_of
    from benchmarks.run.estimate import estimates_of, in_words, summary, total_seconds
    from benchmarks.run.fitting import fitted

    tables = {name: comparison.table(name) for name in budgets}
    for table in tables.values():
        suite_of(table, "compare")  # says what is wrong with it before a tokenizer is loaded
    fits = {name: fitted(table, comparison.sizes) for name, table in tables.items()}
    tables = {name: table for name, (table, _) in fits.items()}
    texts = {name: to_toml(table) for name, table in tables.items()}
    suites = {name: suite_of(table, "compare") for name, table in tables.items()}
    loader = machine.options(device_of(machine.device)).loader
    cells = {name: suite.cells for name, suite in suites.items()}
    estimates = estimates_of(cells, folder, loader)
    chosen = budgets[0]
    if hours is not None:
        seconds = {name: total_seconds(own) for name, own in estimates.items()}
        chosen = _begun(folder, texts) or _largest(seconds, hours)
        others = [f"{name} {in_words(own)}" for name, own in seconds.items() if name != chosen]
        click.echo(f"Budget {chosen}, for {hours:g} h; the others at most: {', '.join(others)}")
    _say_what(suites[chosen], fits[chosen][1])
    click.echo(summary(estimates[chosen]))
    return chosen, suites[chosen], texts[chosen]


def _begun(folder: Path, texts: dict[str, str]) -> str | None:
    """The budget of the same comparison that was begun in this folder, if there is one."""
    file = folder / SUITE
    begun = file.read_text(encoding="utf-8") if file.is_file() else None
    return next((name for name, text in texts.items() if text == begun), None)


def _largest(seconds: dict[str, float], hours: float) -> str:
    """The last of the budgets that fits. Raises ValueError if none does."""
    fitting = [name for name, own in seconds.items() if own <= 3600 * hours]
    if not fitting:
        least = min(seconds.values())
        raise ValueError(
            f"--hours {hours:g}; the small budget takes at most {least / 3600:.2g} h: expected "
            "that many, fewer methods, or fewer prompts"
        )
    return fitting[-1]


def _say_what(suite: "Suite", lines: list[str]) -> None:
    """What is compared on what, and `lines` on its prompts."""
    benches = dict.fromkeys(cell.bench.label for cell in suite.cells)
    models = dict.fromkeys(cell.bench.model.id for cell in suite.cells if cell.bench.model)
    on = f" on {', '.join(models)}" if models else ""
    head = f"{suite.name}: {', '.join(benches)}{on}"
    click.echo("\n".join([head, *lines]) + "\n")


def _report(folder: Path, outcomes: "list[Outcome]") -> None:
    """The answer, and where to look."""
    if all(outcome.message for outcome in outcomes):
        return  # there is nothing to report
    from benchmarks.cli.answer import answer
    from benchmarks.report.report import report
    from benchmarks.report.results import Results

    _, written = report(folder)
    click.echo(f"\n{answer(Results(folder), {outcome.name for outcome in outcomes})}")
    pages = [str(path) for path in written if path.suffix == ".html"]
    where = dict.fromkeys(f"{path.parent}/" for path in written if path.suffix != ".html")
    click.echo(f"\nLook at: {', '.join([*pages, *where])}")


def _keep(text: str, file: Path) -> None:
    """Raises ValueError for a file with another content: nothing is overwritten."""
    if file.exists() and (not file.is_file() or file.read_text(encoding="utf-8") != text):
        raise ValueError(f"{file} exists; expected the name of a new file")
    if not file.parent.is_dir():
        raise ValueError(f"no folder {str(file.parent)!r} for {file.name!r}")
    file.write_text(text, encoding="utf-8")


@click.command(epilog=EXAMPLE + "edgewise init mine.toml")
@click.argument("file", type=Path, metavar="[FILE.toml]", default=Path(SUITE))
@verb
def init(file: Path) -> None:
    """Write a commented suite for you to change; default: suite.toml.

    It also runs unchanged. An existing file is not overwritten.
    """
    _keep(TEMPLATE.read_text(encoding="utf-8"), file)
    click.echo(f"wrote {file}; what it costs: edgewise run {file} --dry-run")
