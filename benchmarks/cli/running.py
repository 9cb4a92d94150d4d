"""The verbs that run cells: run, discover."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.cli.machine import Machine, machine_options
from benchmarks.cli.shared import EXAMPLE, end_with, resumable, verb
from benchmarks.hub import check_models, named_in

if TYPE_CHECKING:
    from benchmarks.grid.suite import Suite
    from benchmarks.run.runner import Outcome


class _Jobs(click.ParamType):
    """A number of jobs, or `ray`."""

    name = "N|ray"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value == "ray" else click.IntRange(min=1).convert(value, param, ctx)


PROMPTS = click.IntRange(1, 2**31 - 1)
SET = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="METHOD.KEY=VALUE",
    help="A setting instead of the suite's; a list, such as [1, 2], gives one cell per value.",
)
_JOBS = (
    click.option(
        "--jobs",
        type=_Jobs(),
        default=1,
        help="How many cells run at a time; ray: one per GPU or CPU slot of a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="A running Ray cluster; default: RAY_ADDRESS, or one on this machine for this run.",
    ),
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(min=0),
        default=60.0,
        metavar="SECONDS",
        help="How often long discoveries are saved; default: 60.",
    ),
)


def jobs_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A verb with the options on jobs, which it gets as one table `jobs`."""

    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> Any:
        names = ("jobs", "ray_address", "checkpoint_every")
        return command(*arguments, jobs={name: options.pop(name) for name in names}, **options)

    for option in reversed(_JOBS):
        gathered = option(gathered)
    return gathered


@click.command(epilog=EXAMPLE + "edgewise run tracr --out runs/tracr")
@click.argument("suite")
@click.option("--out", type=Path, metavar="DIR", help="Results folder; default: runs/NAME.")
@click.option("--only", "--method", metavar="METHOD", help="Run the cells of one method.")
@click.option("--task", "tasks", multiple=True, metavar="T", help="A task instead of the suite's.")
@click.option(
    "--model", "models", multiple=True, metavar="ID", help="A model instead of the suite's."
)
@click.option("--train", type=PROMPTS, metavar="N", help="Training prompts of every task.")
@click.option("--validation", type=PROMPTS, metavar="N", help="Validation prompts.")
@click.option("--test", type=PROMPTS, metavar="N", help="Test prompts.")
@SET
@machine_options
@jobs_options
@click.option("--dry-run", is_flag=True, help="Show what would run and what it may cost.")
@resumable
@verb
def run(
    suite: str,
    out: Path | None,
    only: str | None,
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    train: int | None,
    validation: int | None,
    test: int | None,
    assignments: tuple[str, ...],
    machine: Machine,
    jobs: dict[str, Any],
    dry_run: bool,
) -> None:
    """Run the cells of SUITE, a name or a TOML file.

    Finished cells are skipped and a killed run continues where it stopped, so you can give the same
    command again at any time. --task, --model, --train, --validation, --test and --set replace the
    suite's values for this run.
    """
    check_models(models or named_in(suite, "model"), tasks or named_in(suite, "tasks"))
    from benchmarks.grid.overrides import Overrides, parse_overrides
    from benchmarks.grid.suite import load_suite
    from benchmarks.run import runner
    from benchmarks.run.environment import device_of
    from edgewise.own_code import in_full

    given = {"train": train, "validation": validation, "test": test}
    sizes = {kind: number for kind, number in given.items() if number is not None}
    overrides = Overrides(models, tasks, sizes, parse_overrides(assignments)).in_full(Path.cwd())
    loaded = load_suite(suite, only=only and in_full(only, Path.cwd()), overrides=overrides)
    folder = out or Path("runs") / loaded.name
    if dry_run:
        options = machine.options(device_of(machine.device))
        click.echo(runner.dry_run(loaded.cells, folder, options, **loaded.comparisons))
        return
    outcomes = run_suite(loaded, folder, machine, **jobs)
    if outcomes is not None:
        click.echo(f"Tables and figures: edgewise report {folder}")
        end_with(outcomes)


def run_suite(
    suite: "Suite",
    folder: Path,
    machine: Machine,
    *,
    jobs: Any = 1,
    ray_address: str | None = None,
    checkpoint_every: float = 60.0,
) -> "list[Outcome] | None":
    """Run what is not finished and say what there is; None on all ranks but the first.

    Raises ValueError as `benchmarks.run.runner.run` does, and for a Ray cluster without `ray`.
    """
    from benchmarks.cli.live import shown
    from benchmarks.run.backends import ray_cluster
    from benchmarks.run.environment import device_of
    from benchmarks.run.runner import SKIPPED, run
    from edgewise.parallel import process_group, rank

    how: dict[str, Any] = {"checkpoint_seconds": checkpoint_every}
    if jobs == "ray":
        elsewhere = device_of(machine.device, here=False)
        with ray_cluster(ray_address, gpu=elsewhere.type != "cpu") as cluster:
            options = machine.options(elsewhere, **how)
            with shown():
                outcomes = run(suite.cells, folder, options, cluster, **suite.comparisons)
    elif ray_address is not None:
        raise ValueError(f"--ray-address {ray_address} with --jobs {jobs}; expected --jobs ray")
    else:
        with process_group(device_of(machine.device)) as own:
            options = machine.options(own, jobs=jobs, **how)
            with shown():
                outcomes = run(suite.cells, folder, options, **suite.comparisons)
            if rank() > 0:
                return None
    skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    searches = f" and {len(suite.searches)} searches" if suite.searches else ""
    click.echo(
        f"{suite.name}: {len(suite.cells)} cells{searches} in {folder / 'cells'}, "
        f"{skipped} of them from an earlier run"
    )
    return outcomes


@click.command(
    epilog=EXAMPLE + "edgewise discover --method acdc --task tracr-reverse --set threshold=0.01"
)
@click.option(
    "--method", required=True, metavar="M", help="A name from `edgewise list`, or FILE.py:NAME."
)
@click.option(
    "--task", required=True, metavar="T", help="A name, FILE.py:NAME or custom:FILE.jsonl."
)
@click.option(
    "--model", metavar="ID", help="A Hugging Face hub id or a folder; default: the bundled model."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Seed of the prompts and method."
)
@click.option(
    "--out", type=Path, default=Path("runs/discover"), metavar="DIR", help="Results folder."
)
@machine_options
@resumable
@verb
def discover(
    method: str,
    task: str,
    model: str | None,
    assignments: tuple[str, ...],
    seed: int,
    out: Path,
    machine: Machine,
) -> None:
    """Run one cell, its settings as in a suite, and print what it found."""
    check_models([model] if model else [], [task])
    from benchmarks.cli.live import shown
    from benchmarks.grid.overrides import with_inner_in_full
    from benchmarks.grid.settings import parse_assignments
    from benchmarks.grid.suite import single_cell
    from benchmarks.record import Finished
    from benchmarks.report.cell import show_record
    from benchmarks.run.environment import device_of
    from benchmarks.run.runner import run
    from benchmarks.store import Store
    from edgewise.own_code import in_full
    from edgewise.parallel import process_group, rank

    method, task = in_full(method, Path.cwd()), in_full(task, Path.cwd())
    given = with_inner_in_full(parse_assignments(assignments), Path.cwd())
    cell = single_cell(method, task, model=model, seed=seed, given=given)
    with process_group(device_of(machine.device)) as own:
        with shown():
            outcomes = run([cell], out, machine.options(own))
        if rank() > 0:
            return
    store = Store(out)
    name = outcomes[0].name
    record = store.record(name)
    if isinstance(record, Finished):
        click.echo(show_record(record))
        click.echo(f"Circuit and record: {store.cells / name}.safetensors, .json")
    end_with(outcomes)
