"""What there is to do in a run: cells, searches, benches' matching stages, crossings.

Each item does its own work, in this process or a worker's, and knows what to store of an error.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from benchmarks.grid.cell import Bench, Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.run import environment
from benchmarks.run.crossing import cross
from benchmarks.run.execute import discover, execute
from benchmarks.run.loading import Loader
from benchmarks.run.matching import match
from benchmarks.run.search import search
from benchmarks.store import FAILED, FINISHED, SCHEMA, UNSUPPORTED, Discovery, Record, Store
from edgewise import parallel
from edgewise.discovery import Unsupported
from methods import METHODS


@dataclass(frozen=True)
class Options:
    """How to run: none of it changes a result."""

    device: torch.device
    jobs: int = 1
    checkpoint_seconds: float = 60.0
    device_map: str | None = None
    """Of models larger than one device, as Hugging Face knows it; a task's own model is not."""
    recompute: bool = False
    """Whether backward passes run each block again instead of keeping what is inside it."""
    cuda_graphs: bool = False
    """Whether steps are recorded and replayed, where one GPU computes all of them."""

    @property
    def loader(self) -> Loader:
        return Loader(
            self.device, self.device_map, recompute=self.recompute, cuda_graphs=self.cuda_graphs
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    name: str
    status: str
    message: str = ""


@dataclass(frozen=True)
class Workplace:
    """What an item works with."""

    store: Store
    loader: Loader
    options: Options


class Item(Protocol):
    """Something to do; it can be pickled."""

    needs_circuits: ClassVar[bool] = False
    """Whether it works on what cells and searches have found, and so comes after them."""

    @property
    def label(self) -> str:
        """What an outcome calls it."""
        ...

    def do(self, place: Workplace) -> None: ...

    def note_error(self, error: Exception, message: str, place: Workplace) -> str:
        """Store what has to be known of an error that ended it: nothing. Gives its status."""
        return FAILED


def attempt(item: Item, place: Workplace) -> Outcome:
    """Do it; an error ends this item alone."""
    try:
        item.do(place)
    except Exception as error:
        outcome = failure(item, error, place)
        if parallel.size() > 1 and outcome.status == FAILED:
            raise  # the other ranks may be waiting for this one
        return outcome
    return Outcome(item.label, FINISHED)


def failure(item: Item, error: Exception, place: Workplace) -> Outcome:
    message = " ".join(str(error).split()) or type(error).__name__
    return Outcome(item.label, item.note_error(error, message, place), message)


@dataclass(frozen=True)
class CellItem(Item):
    """A cell, of which a record is stored even if it ends in an error."""

    cell: Cell

    @property
    def label(self) -> str:
        return self.cell.name

    def do(self, place: Workplace) -> None:
        cell, store, loader = self.cell, place.store, place.loader
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        checkpoint, every = store.checkpoint(cell.name), place.options.checkpoint_seconds
        if parallel.rank() > 0:
            discover(cell, model, task, checkpoint, every_seconds=every)
            return
        trained = _trained(cell, store) if parallel.size() == 1 else None
        record, discovery, prompts = execute(
            cell, model, task, checkpoint, every_seconds=every, trained=trained
        )
        record["environment"].setdefault("jobs", place.options.jobs)
        store.write(record, discovery, prompts)
        checkpoint.unlink(missing_ok=True)

    def note_error(self, error: Exception, message: str, place: Workplace) -> str:
        record: Record = {
            "schema": SCHEMA,
            "name": self.cell.name,
            "status": UNSUPPORTED if isinstance(error, Unsupported) else FAILED,
            "definition": self.cell.definition(),
            "error": {"message": message, "traceback": "".join(traceback.format_exception(error))},
            "environment": environment.describe(place.options.device),
        }
        if parallel.rank() == 0:
            place.store.write(record)
        return record["status"]


@dataclass(frozen=True)
class SearchItem(Item):
    """A search, whose trials run one after the other."""

    search: Search

    @property
    def label(self) -> str:
        return self.search.label

    def do(self, place: Workplace) -> None:
        search(self.search, place.store, lambda cell: attempt(CellItem(cell), place).message)


@dataclass(frozen=True)
class MatchingItem(Item):
    """A bench's matching stage: its rankings are cut to the sizes of its circuits."""

    bench: Bench
    needs_circuits: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"{self.bench.label}, seed {self.bench.seed}: matching"

    def do(self, place: Workplace) -> None:
        match(self.bench, place.store, place.loader)


@dataclass(frozen=True)
class CrossingItem(Item):
    """Circuits of two tasks, to be evaluated on the prompts of both."""

    crossing: Crossing
    needs_circuits: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return self.crossing.label

    def do(self, place: Workplace) -> None:
        cross(self.crossing, place.store, place.loader)


def _trained(cell: Cell, store: Store) -> tuple[Record, Discovery] | None:
    """A finished cell with the same training, and what it found."""
    after = METHODS[cell.method].after_training
    if not after:
        return None

    def training(definition: Mapping[str, Any]) -> dict[str, Any]:
        settings = definition["settings"].items()
        before = {name: value for name, value in settings if name not in after}
        return {**definition, "settings": before, "sparsities": None}

    wanted = training(cell.definition())
    for record in store.records():
        if record["status"] == FINISHED and training(record["definition"]) == wanted:
            return record, store.discovery(record["name"])
    return None
