"""What there is to do in a run: cells, searches, benches' matching stages, crossings.

Each item does its own work, in this process or a worker's, and knows what to store of an error.
"""

import json
import logging
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from benchmarks.grid.cell import Bench, Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.record import (
    FAILED,
    FINISHED,
    UNSUPPORTED,
    Definition,
    Failure,
    Finished,
    Unfinished,
)
from benchmarks.run import environment
from benchmarks.run.claims import Claimed, claim
from benchmarks.run.crossing import cross
from benchmarks.run.execute import discover, execute
from benchmarks.run.loading import Loader
from benchmarks.run.matching import match
from benchmarks.run.search import search
from benchmarks.store import Discovery, Store
from benchmarks.warnings import warnings_of
from edgewise import parallel
from edgewise.discovery import Unsupported
from edgewise.own_code import own_traceback
from methods import METHODS

CLAIMED = "claimed"
"""The status of an item that another run is doing."""
_log = logging.getLogger(__name__)
DISCOVERY, SECOND_CUT, COMPARISON = range(3)
"""Stages: discoveries; cells cut from the training of another; what compares circuits."""


@dataclass(frozen=True)
class Options:
    """How to run: none of it changes a result."""

    device: torch.device
    jobs: int = 1
    checkpoint_seconds: float = 60.0
    device_map: str | None = None
    """Hugging Face's, for models larger than one device. It is not used for a task's own model."""
    recompute: bool = False
    """Whether backward passes run each block again instead of keeping what is inside it."""
    cuda_graphs: bool = False
    """Whether steps are recorded and replayed, where one GPU computes all of them."""
    memory_bytes: int | None = None
    """The most that a pass may take; None is the default."""

    @property
    def loader(self) -> Loader:
        return Loader(
            self.device,
            self.device_map,
            recompute=self.recompute,
            cuda_graphs=self.cuda_graphs,
            memory=lambda: environment.memory_budget(self.memory_bytes, self.device, self.jobs),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    name: str
    status: str
    message: str = ""
    traceback_file: str = ""
    own_traceback: str = ""
    """Of an error in a user's own code."""


@dataclass(frozen=True)
class Workplace:
    """What an item works with."""

    store: Store
    loader: Loader
    options: Options


class Item(Protocol):
    """Something to do; it can be pickled."""

    @property
    def label(self) -> str:
        """What an outcome calls it."""
        ...

    @property
    def stage(self) -> int:
        """Workers begin a stage when the one before it is done."""
        return DISCOVERY

    @property
    def claim(self) -> str:
        """What only one of all runs in a folder may do at a time."""
        return self.label

    def do(self, place: Workplace) -> None: ...

    def note_error(self, error: Exception, message: str, place: Workplace) -> str:
        """Record the error that ended it and give its status. By default nothing is stored."""
        return FAILED


def attempt(item: Item, place: Workplace, *, wait: bool = True) -> Outcome:
    """Do it; an error ends this item alone.

    If another run in this folder is doing it, wait for that run or leave it to that run.
    """
    try:
        with claim(place.store.claims, item.claim, wait=wait, label=item.label):
            item.do(place)
    except Claimed:
        return Outcome(item.label, CLAIMED)
    except Exception as error:
        outcome = failure(item, error, place)
        if parallel.size() > 1 and outcome.status == FAILED:
            raise  # the other ranks may be waiting for this one
        return outcome
    if parallel.rank() == 0:
        place.store.clear_error(item.label)
    return Outcome(item.label, FINISHED)


def failure(item: Item, error: Exception, place: Workplace) -> Outcome:
    message = " ".join(str(error).split()) or type(error).__name__
    status = item.note_error(error, message, place)
    if status != FAILED or parallel.rank() > 0:
        return Outcome(item.label, status, message)
    file = place.store.write_error(item.label, _formatted(error))
    return Outcome(item.label, status, message, str(file), own_traceback(error))


def _formatted(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class CellItem(Item):
    """A cell, of which a record is stored even if it ends in an error.

    `cuts_again`: an earlier item has the same training, so this one waits for it and takes it over.
    """

    cell: Cell
    cuts_again: bool = False

    @property
    def label(self) -> str:
        return self.cell.name

    @property
    def stage(self) -> int:
        return SECOND_CUT if self.cuts_again else DISCOVERY

    @property
    def claim(self) -> str:
        """Cells with the same training run one after the other, so that one of them trains."""
        return _training(self.cell.definition()) or self.label

    def do(self, place: Workplace) -> None:
        cell, store, loader = self.cell, place.store, place.loader
        if parallel.from_first(lambda: store.is_done(cell.name)):
            return  # by another run, in the meantime
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        checkpoint, every = store.checkpoint(cell.name), place.options.checkpoint_seconds
        if parallel.rank() > 0:
            discover(cell, model, task, checkpoint, every_seconds=every)
            return
        trained = _trained(cell, store) if parallel.size() == 1 else None
        record, discovery, values = execute(
            cell,
            model,
            task,
            checkpoint,
            every_seconds=every,
            jobs=place.options.jobs,
            trained=trained,
        )
        store.write(record, discovery, values, task.test.clean_hashes())
        for warning in warnings_of(record):
            _log.warning("%s: %s", cell.name, warning)
        checkpoint.unlink(missing_ok=True)

    def note_error(self, error: Exception, message: str, place: Workplace) -> str:
        record = Unfinished(
            name=self.cell.name,
            status=UNSUPPORTED if isinstance(error, Unsupported) else FAILED,
            definition=Definition.model_validate(self.cell.definition()),
            error=Failure(message=message, traceback=_formatted(error)),
            environment=environment.describe(place.options.device, jobs=place.options.jobs),
        )
        if parallel.rank() == 0:
            place.store.write(record)
        return record.status


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

    @property
    def label(self) -> str:
        return f"{self.bench.label}, seed {self.bench.seed}: matching"

    @property
    def stage(self) -> int:
        return COMPARISON

    def do(self, place: Workplace) -> None:
        if parallel.rank() == 0:
            match(self.bench, place.store, place.loader)


@dataclass(frozen=True)
class CrossingItem(Item):
    """Circuits of two tasks, to be evaluated on the prompts of both."""

    crossing: Crossing

    @property
    def label(self) -> str:
        return self.crossing.label

    @property
    def stage(self) -> int:
        return COMPARISON

    def do(self, place: Workplace) -> None:
        if parallel.rank() == 0:
            cross(self.crossing, place.store, place.loader)


def cell_items(cells: Iterable[Cell]) -> list[CellItem]:
    """An item for each cell. A cell with the training of an earlier one uses that training."""
    items: list[CellItem] = []
    trainings: set[str] = set()
    for cell in cells:
        training = _training(cell.definition())
        items.append(CellItem(cell, cuts_again=training in trainings))
        if training is not None:
            trainings.add(training)
    return items


def _training(definition: Mapping[str, Any]) -> str | None:
    """What defines a cell's training; None for a method that trains nothing."""
    method = METHODS.get(definition["method"])
    if method is None or not method.after_training:
        return None
    settings = definition["settings"].items()
    before = {name: value for name, value in settings if name not in method.after_training}
    return json.dumps({**definition, "settings": before, "sparsities": None}, sort_keys=True)


def _trained(cell: Cell, store: Store) -> tuple[Finished, Discovery] | None:
    """A finished cell with the same training, and what it found."""
    wanted = _training(cell.definition())
    if wanted is None:
        return None
    for record in store.finished():
        if _training(record.definition.as_json()) == wanted:
            return record, store.discovery(record.name)
    return None
