"""Which circuits are crossed: those that one method found on two tasks."""

import hashlib
from collections.abc import Iterable
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


def crossings_of(cells: Iterable[Cell], first: str, second: str) -> list[Crossing]:
    """The cells of two tasks, pair by pair: of one method and model, in the order of the cells."""
    of_task: dict[str, dict[str, list[Cell]]] = {first: {}, second: {}}
    for cell in cells:
        if cell.bench.task in of_task:
            shared = replace(cell.bench, task="", task_version=0, sizes=Sizes())
            groups = of_task[cell.bench.task]
            groups.setdefault(repr((cell.method, shared)), []).append(cell)
    return [
        Crossing(*pair)
        for key, group in of_task[first].items()
        for pair in zip(group, of_task[second].get(key, []), strict=False)
    ]
