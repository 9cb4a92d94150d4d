"""Numbers of prompts that a comparison chose itself, lowered to what a tokenizer allows."""

from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.grid.tables import builder_of
from benchmarks.run.loading import tokenizer_of
from edgewise.task import Sizes
from tasks.shared.builder import DrawnTask


def fitted(table: Mapping[str, Any], asked: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """A comparison's table with no more prompts than there are, and a line on each change.

    Numbers of the kinds that were `asked` for do not change. What cannot be made at all is left to
    the check of the run.
    """
    numbers, lines = dict(table["task"]), []
    for name in table["tasks"]:
        builder = builder_of(name)
        if not isinstance(builder, DrawnTask):
            continue
        given = Sizes(**numbers.get(name, {}))
        sizes = _fitting(builder, table["model"], table["seeds"], given, asked)
        if sizes != given:
            numbers[name] = {kind: n for kind, n in vars(sizes).items() if n is not None}
            lines.append(
                f"{name}: {_in_words(builder, sizes)} prompts instead of "
                f"{_in_words(builder, given)}; the tokenizer of {table['model']} allows no more"
            )
    return {**table, "task": numbers}, lines


def _fitting(
    task: DrawnTask, model: str, seeds: Collection[int], sizes: Sizes, asked: Collection[str]
) -> Sizes:
    """Sizes that fit with every seed; unchanged where no size does."""
    given = sizes
    try:
        tokenizer = tokenizer_of(model)
        for seed in seeds:
            sizes = task.fitting(tokenizer, seed=seed, sizes=sizes, kept=asked)
    except ValueError:
        return given
    return sizes


def _in_words(task: DrawnTask, sizes: Sizes) -> str:
    """Such as `96 train / 48 validation / 144 test`; the task's own number where there is none."""
    return " / ".join(f"{n or getattr(task, kind):,} {kind}" for kind, n in vars(sizes).items())
