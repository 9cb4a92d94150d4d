"""Which circuits are crossed: those that one method found on two tasks."""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from benchmarks.grid.cell import Cell, in_file_name
from edgewise.task import Sizes

FULL, SHARED = "full model", "intersection"
"""What is evaluated beside the two circuits: everything, and the edges that both have."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """Two cells of one method, model and seed, on different tasks."""

    first: Cell
    second: Cell

    @property
    def label(self) -> str:
        tasks = " and ".join(cell.bench.label for cell in (self.first, self.second))
        return f"{tasks}, seed {self.first.bench.seed}: {self.first.method}, crossed"

    @property
    def name(self) -> str:
        """A file name, the same for the same cells."""
        digest = crossing_digest(self.first.name, self.second.name)
        tasks = "-".join(in_file_name(cell.bench.label) for cell in (self.first, self.second))
        return f"{tasks}-{self.first.method}-{digest}"


def crossing_digest(first: str, second: str) -> str:
    """What a crossing's name ends in, for the names of two cells."""
    return hashlib.sha256(f"{first} {second}".encode()).hexdigest()[:12]


def crossings_of(
    cells: Iterable[Cell], first: str, second: str, *, settings: Collection[str], train: bool
) -> Iterator[Crossing]:
    """Each circuit of one task with each of the other that is like it, from one entry's cells.

    They have the same model and seed, the same values of these settings and, with `train`, as many
    training prompts: what the entry gives to both tasks.
    """
    of_task: dict[str, dict[str, list[Cell]]] = {first: {}, second: {}}
    for cell in cells:
        if cell.bench.task in of_task:
            sizes = Sizes(train=cell.bench.sizes.train if train else None)
            bench = replace(cell.bench, task="", task_version=0, sizes=sizes, data=None)
            given = {name: cell.settings[name] for name in settings}
            of_task[cell.bench.task].setdefault(repr((bench, given)), []).append(cell)
    for like, group in of_task[first].items():
        for pair in itertools.product(group, of_task[second].get(like, [])):
            yield Crossing(*pair)
