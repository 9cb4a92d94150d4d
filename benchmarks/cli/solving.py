"""The verb that says whether a model solves tasks: solve."""

from pathlib import Path

import click

from benchmarks.cli.machine import Machine, machine_options
from benchmarks.cli.running import PROMPTS
from benchmarks.cli.shared import EXAMPLE, verb
from benchmarks.hub import check_models
from benchmarks.names import split_names


@click.command(epilog=EXAMPLE + "edgewise solve --model ./my-model --task ioi,greater-than")
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
@click.option("--test", type=PROMPTS, metavar="N", help="Test prompts of every task.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Seed of the prompts.")
@machine_options
@verb
def solve(
    model: str | None, tasks: tuple[str, ...], test: int | None, seed: int, machine: Machine
) -> None:
    """Say how many test prompts the full model solves, overall and for each template.

    A task that the model does not solve is marked, because a circuit of it explains little. The
    prompts are those of a run with the same seed.
    """
    names = split_names(tasks)
    check_models([model] if model else [], names)
    from benchmarks.grid.suite import single_bench
    from benchmarks.run.environment import device_of
    from benchmarks.solving import accuracies, table
    from edgewise.own_code import in_full
    from edgewise.task import Sizes

    benches = [
        single_bench(in_full(name, Path.cwd()), model=model, seed=seed, sizes=Sizes(test=test))
        for name in names
    ]
    loader = machine.options(device_of(machine.device)).loader
    made = [(loader.model(bench), loader.task(bench)) for bench in benches]
    click.echo("\n\n".join(table(task, accuracies(loaded, task)) for loaded, task in made))
