"""The command line, `edgewise`: run, discover, report, draw, check, migrate, list.

The user's mistakes are one line on stderr and exit code 2; a run with a failed cell ends with 1, a
check that finds a difference too.
Packages that take seconds to import are imported by the verbs that need them.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchmarks.run.runner import Outcome

_MOST_ERRORS = 20

# An epilog keeps its line breaks after \b.
_EXAMPLE = "\b\nExample:\n  "


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads the output has closed it: click knows what to do
        raise
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
        for line in lines[:_MOST_ERRORS]:
            click.echo(f"Error: {line}", err=True)
        if len(lines) > _MOST_ERRORS:
            click.echo(f"Error: and {len(lines) - _MOST_ERRORS:,} more", err=True)
        raise SystemExit(2) from None


def _verb(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def quiet(*arguments: Any, **options: Any) -> Any:
        with _one_line_errors():
            return command(*arguments, **options)

    return quiet


def resumable(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that goes on where Ctrl-C or SIGTERM stopped it, and says so in one line.

    Under torchrun, which ends the processes that it has started, this changes nothing.
    """

    @wraps(command)
    def stoppable(*arguments: Any, **options: Any) -> Any:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            return command(*arguments, **options)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            click.echo("stopped; run the same command to go on", err=True)
            raise SystemExit(130) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    return stoppable


class _Jobs(click.ParamType):
    """A number of jobs, or `ray`."""

    name = "N|ray"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value == "ray" else click.IntRange(min=1).convert(value, param, ctx)


_device = click.option(
    "--device", metavar="D", help="cpu, cuda, ...; default: the accelerator, if there is one."
)

_device_map = click.option(
    "--device-map",
    metavar="MAP",
    help="Spread a large model's layers over the devices here: auto, balanced_low_0, ...",
)
_recompute = click.option(
    "--recompute",
    is_flag=True,
    help="Run each block again in backward passes: less memory, more operations.",
)
_cuda_graphs = click.option(
    "--cuda-graphs",
    is_flag=True,
    help="On one GPU, record steps of Edge Pruning and tests of ACDC and replay them: faster.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgewise")
def main() -> None:
    """Compare methods that find circuits in transformers, edge by edge."""
    if not sys.stderr.isatty():  # as `edgewise.progress` does with the bars here
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@main.command(epilog=_EXAMPLE + "edgewise run tracr --out runs/tracr")
@click.argument("suite")
@click.option("--out", type=Path, metavar="DIR", help="Results folder; default: runs/NAME.")
@click.option("--only", metavar="METHOD", help="Run the cells of one method.")
@_device
@_device_map
@_recompute
@_cuda_graphs
@click.option(
    "--jobs",
    type=_Jobs(),
    default=1,
    help="Cells run at a time; ray: one in each GPU or CPU slot of a Ray cluster.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="A running Ray cluster; default: RAY_ADDRESS, or one on this machine for this run.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60.0,
    metavar="SECONDS",
    help="How often long discoveries are saved; default: 60.",
)
@click.option("--dry-run", is_flag=True, help="Show what would run and what it may cost.")
@resumable
@_verb
def run(
    suite: str,
    out: Path | None,
    only: str | None,
    device: str | None,
    device_map: str | None,
    recompute: bool,
    cuda_graphs: bool,
    jobs: Any,
    ray_address: str | None,
    checkpoint_every: float,
    dry_run: bool,
) -> None:
    """Run the cells of SUITE, a name or a TOML file.

    Finished cells are skipped and a killed run goes on where it stopped, so the same command can be
    given again at any time.
    """
    from benchmarks.grid.suite import load_suite
    from benchmarks.run import runner
    from benchmarks.run.backends import ray_cluster
    from benchmarks.run.environment import device_of
    from benchmarks.run.runner import SKIPPED, Options, run
    from edgewise.parallel import process_group, rank

    loaded = load_suite(suite, only=only)
    folder = out or Path("runs") / loaded.name
    plan = {"searches": loaded.searches, "crossings": loaded.crossings}
    if dry_run:
        options = Options(device_of(device), 1, checkpoint_every, device_map)
        click.echo(runner.dry_run(loaded.cells, folder, options, **plan))
        return
    if jobs == "ray":
        elsewhere = device_of(device, here=False)
        with ray_cluster(ray_address, gpu=elsewhere.type != "cpu") as cluster:
            options = Options(elsewhere, 1, checkpoint_every, device_map, recompute, cuda_graphs)
            outcomes = run(loaded.cells, folder, options, cluster, **plan)
    elif ray_address is not None:
        raise ValueError(f"--ray-address {ray_address} with --jobs {jobs}; expected --jobs ray")
    else:
        with process_group(device_of(device)) as own:
            options = Options(own, jobs, checkpoint_every, device_map, recompute, cuda_graphs)
            outcomes = run(loaded.cells, folder, options, **plan)
            if rank() > 0:
                return
    skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    searches = f" and {len(loaded.searches)} searches" if loaded.searches else ""
    click.echo(
        f"{loaded.name}: {len(loaded.cells)} cells{searches} in {folder / 'cells'}, "
        f"{skipped} of them from an earlier run"
    )
    click.echo(f"Tables and figures: edgewise report {folder}")
    _end(outcomes)


@main.command(
    epilog=_EXAMPLE + "edgewise discover --method acdc --task tracr-reverse --set threshold=0.01"
)
@click.option("--method", required=True, metavar="M", help="A name from `edgewise list`.")
@click.option("--task", required=True, metavar="T", help="Likewise, or custom:FILE.jsonl.")
@click.option(
    "--model", metavar="ID", help="A Hugging Face hub id or a folder; default: the bundled model."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Of prompts and method.")
@click.option("--out", type=Path, default=Path("runs/discover"), metavar="DIR", help="Results.")
@_device
@_device_map
@_recompute
@_cuda_graphs
@resumable
@_verb
def discover(
    method: str,
    task: str,
    model: str | None,
    assignments: tuple[str, ...],
    seed: int,
    out: Path,
    device: str | None,
    device_map: str | None,
    recompute: bool,
    cuda_graphs: bool,
) -> None:
    """Run one cell, its settings as in a suite, and print what it found."""
    from benchmarks.grid.settings import parse_assignments
    from benchmarks.grid.suite import single_cell
    from benchmarks.record import Finished
    from benchmarks.report.cell import show_record
    from benchmarks.run.environment import device_of
    from benchmarks.run.runner import Options, run
    from benchmarks.store import Store
    from edgewise.parallel import process_group, rank

    cell = single_cell(method, task, model=model, seed=seed, given=parse_assignments(assignments))
    with process_group(device_of(device)) as own:
        options = Options(own, device_map=device_map, recompute=recompute, cuda_graphs=cuda_graphs)
        outcomes = run([cell], out, options)
        if rank() > 0:
            return
    store = Store(out)
    name = outcomes[0].name
    record = store.record(name)
    if isinstance(record, Finished):
        click.echo(show_record(record))
        click.echo(f"Circuit and record: {store.cells / name}.safetensors, .json")
    _end(outcomes)


@main.command(epilog=_EXAMPLE + "edgewise report runs/tracr")
@click.argument("results", type=Path, metavar="DIR|FILE.json")
@click.option("--task", "tasks", multiple=True, metavar="T", help="A paper figure of this task.")
@click.option("--metric", metavar="M", help="Of paper figures; default: the primary metrics.")
@click.option("--width", metavar="column|text|INCHES", help="Of paper figures; default: text.")
@click.option("--format", "formats", metavar="LIST", help="pdf,svg,png; default: pdf.")
@_verb
def report(
    results: Path,
    tasks: tuple[str, ...],
    metric: str | None,
    width: str | None,
    formats: str | None,
) -> None:
    """Report the results in DIR: a page to open, DIR/report.html, tables and figures.

    With any of the options, figures for a paper instead: at their printed width, with the caption
    in a text file beside each, in DIR/figures. Of timings, a file that
    `pytest --benchmark --benchmark-json FILE.json` wrote, tables and figures are written beside it.
    """
    from benchmarks.report.report import report, report_for_paper
    from benchmarks.speed.timings import report_timings

    main_tables: list[str] = []
    if tasks or metric or width or formats:
        kinds = (formats or "pdf").split(",")
        written = report_for_paper(
            results, tasks=tasks, metric=metric, width=width or "text", formats=kinds
        )
    elif results.suffix == ".json":
        main_tables, written = report_timings(results)
    else:
        main_tables, written = report(results)
    for table in main_tables:
        click.echo(table + "\n")
    for path in written:
        click.echo(f"wrote {path}")


@main.command(epilog=_EXAMPLE + "edgewise draw runs/discover/cells/NAME.safetensors --out me.svg")
@click.argument("circuit", type=Path, metavar="CIRCUIT")
@click.option("--out", type=Path, metavar="FILE", help="An .svg, .png or .pdf; default: two here.")
@click.option("--edges", type=int, metavar="N", help="Cut scores to this number of edges.")
@click.option("--truth", type=Path, metavar="FILE", help="A circuit to compare with.")
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=250,
    metavar="N",
    help="Draw at most so many edges, the strongest; default: 250.",
)
@_verb
def draw(circuit: Path, out: Path | None, edges: int | None, truth: Path | None, most: int) -> None:
    """Draw the circuit in the file CIRCUIT, layer by layer.

    Wider edges have larger scores, dashed ones negative scores. Circuits of compiled programs are
    compared with the true one; --truth names another.
    """
    from benchmarks.drawing.draw import draw

    for path in draw(circuit, out=out, n_edges=edges, truth=truth, most=most):
        click.echo(f"wrote {path}")


@main.command(epilog=_EXAMPLE + "edgewise check")
@click.argument("folder", type=Path, metavar="[DIR]", required=False)
@click.option("--only", metavar="METHOD", help="Check the cells of one method.")
@click.option("--record", is_flag=True, help="Write the reference values anew, in minutes.")
@_verb
def check(folder: Path | None, only: str | None, record: bool) -> None:
    """Run the reference cells again and compare them with their stored values.

    With DIR, compare the reference cells of that results folder instead. Every difference is a
    line; the exit code is then 1.
    """
    from benchmarks.check import check
    from benchmarks.check.recording import record_reference
    from benchmarks.grid.suite import load_suite

    cells = load_suite(check.SUITE, only=only).cells
    if record:
        if folder is not None or only is not None:
            raise ValueError("--record writes all reference values; leave DIR and --only out")
        record_reference(cells)
        click.echo(f"Reference values of {len(cells)} cells: {check.REFERENCE}")
        return
    if folder is None:
        n_cells, differences = len(cells), check.check(cells)
    else:
        n_cells, differences = check.check_folder(folder, only=only)
    for difference in differences:
        click.echo(difference)
    click.echo(f"Compared {n_cells} reference cells; differences: {len(differences)}")
    if differences:
        raise SystemExit(1)


@main.command(epilog=_EXAMPLE + "edgewise migrate runs/quick")
@click.argument("folder", type=Path, metavar="DIR")
@_verb
def migrate(folder: Path) -> None:
    """Bring results of an earlier version in DIR up to date, without running anything again."""
    from benchmarks.run.migration import migrate

    click.echo(f"{folder}: {migrate(folder)} cells brought up to date")


@main.command(name="list", epilog=_EXAMPLE + "edgewise list edge-pruning")
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print the README's table of methods instead.")
@_verb
def list_(name: str | None, markdown: bool) -> None:
    """List methods, tasks and suites, one line each.

    With NAME, describe one of them: a method's settings with their defaults, ranges and meanings,
    a task's prompts and metrics, or what is in a suite.
    """
    from benchmarks.catalogue import catalogue, describe, method_table

    if markdown:
        if name is not None:
            raise ValueError("--markdown prints the table of all methods; leave NAME out")
        click.echo(method_table())
    else:
        click.echo(catalogue() if name is None else describe(name))


def _end(outcomes: "list[Outcome]") -> None:
    """Say what went wrong; exit with 1 if a cell failed."""
    bad = [outcome for outcome in outcomes if outcome.message]
    for outcome in bad:
        click.echo(f"{outcome.status}: {outcome.name}: {outcome.message}", err=True)
    if any(outcome.status == "failed" for outcome in bad):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
