"""A folder of results: one JSON file per cell, written whole or not at all, tensors beside it.

    DIR/cells/NAME.json                    settings, cost, one row per circuit
    DIR/cells/NAME.safetensors             the circuit or the scores that were found
    DIR/cells/NAME.prompts.safetensors     the primary metric, [row, prompt]; the prompts' hashes
    DIR/matched/NAME.json                  a ranking's rows at the sizes of other methods' circuits
    DIR/searches/NAME.json                 the trials of a search, each a cell, and the nearest
    DIR/crossed/NAME.json                  circuits of two tasks on the prompts of both
    DIR/checkpoints/NAME.safetensors       an unfinished discovery
    DIR/claims/*.lock                      what a run is doing
    DIR/errors/NAME.txt                    the traceback of what failed

A cell's JSON is written last, and holds its status and the checksums of the files beside it. NAME
ends in a hash of what defines the cell.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float
from pydantic import TypeAdapter
from safetensors import safe_open
from torch import Tensor

from benchmarks.files import (
    FOUND,
    checksum,
    read_checked,
    read_prompt_ids,
    read_values,
    records_in,
    write_record,
    write_values,
)
from benchmarks.record import (
    FAILED,
    CellRecord,
    CrossedRecord,
    Damaged,
    Finished,
    MatchedRecord,
    Result,
    RowRecord,
    SearchRecord,
    Unfinished,
)
from edgewise import Circuit, EdgeScores
from edgewise.files import remove_leftovers, write_atomically

T = TypeVar("T")
LONGEST_NAME = 120
"""The most characters of a label in the name of an error's file."""

Discovery = Circuit | EdgeScores | Sequence[EdgeScores]

_CELL: TypeAdapter[Finished | Unfinished] = TypeAdapter(CellRecord)
_MATCHED = TypeAdapter(MatchedRecord)
_SEARCH = TypeAdapter(SearchRecord)
_CROSSED = TypeAdapter(CrossedRecord)


class Store:
    """Reads and writes a folder of results; several processes may write different cells of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells, self.matched = folder / "cells", folder / "matched"
        self.searches, self.crossed = folder / "searches", folder / "crossed"
        self.checkpoints, self.claims = folder / "checkpoints", folder / "claims"

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (
            self.cells,
            self.matched,
            self.searches,
            self.crossed,
            self.checkpoints,
            self.claims,
        )

    def prepare(self) -> None:
        """Make the folder and clear what killed runs left behind.

        Raises ValueError if it cannot be written or holds results of another version.
        """
        try:
            for folder in self._folders:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / "probe", lambda path: path.write_text(""))
                (folder / "probe").unlink(missing_ok=True)
                remove_leftovers(folder)
        except OSError as error:
            raise ValueError(f"cannot write to {self.folder}: {error.strerror}") from None
        for record in self.records():
            if _is_done(record):
                self.checkpoint(record.name).unlink(missing_ok=True)

    def checkpoint(self, name: str) -> Path:
        return self.checkpoints / f"{name}.safetensors"

    def records(self) -> list[Finished | Unfinished | Damaged]:
        """Every cell's record, by name; its files are compared with their checksums.

        Raises ValueError for one of an earlier or a newer version.
        """
        return [read_checked(path, _CELL) for path in records_in(self.cells)]

    def record(self, name: str) -> Finished | Unfinished | Damaged | None:
        path = self.cells / f"{name}.json"
        return read_checked(path, _CELL) if path.exists() else None

    def finished(self) -> list[Finished]:
        """The records of the cells with a result."""
        return [record for record in self.records() if isinstance(record, Finished)]

    def damaged(self) -> list[Damaged]:
        """What cannot be used, of cells, matched rows, searches and cross-evaluations."""
        kinds: list[tuple[Path, TypeAdapter[Any]]] = [
            (self.cells, _CELL),
            (self.matched, _MATCHED),
            (self.searches, _SEARCH),
            (self.crossed, _CROSSED),
        ]
        read = [read_checked(path, kind) for folder, kind in kinds for path in records_in(folder)]
        return [record for record in read if isinstance(record, Damaged)]

    def write_search(self, record: SearchRecord) -> None:
        write_record(self.searches / f"{record.name}.json", record)

    def search_records(self) -> list[SearchRecord]:
        """Every finished search, by name."""
        return _undamaged(self.searches, _SEARCH)

    def has_crossed(self, name: str) -> bool:
        path = self.crossed / f"{name}.json"
        return path.exists() and _is_done(read_checked(path, _CROSSED))

    def write_crossed(self, record: CrossedRecord) -> None:
        write_record(self.crossed / f"{record.name}.json", record)

    def crossed_records(self) -> list[CrossedRecord]:
        """Every cross-evaluation, by name."""
        return _undamaged(self.crossed, _CROSSED)

    def is_done(self, name: str) -> bool:
        """Whether a cell need not be run again: a failed or damaged one does."""
        record = self.record(name)
        return record is not None and _is_done(record)

    def write_error(self, label: str, text: str) -> Path:
        """Store the traceback of what failed; gives the file."""
        path = self._error_file(label)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return path

    def clear_error(self, label: str) -> None:
        """Remove what an earlier run stored of this."""
        self._error_file(label).unlink(missing_ok=True)

    def _error_file(self, label: str) -> Path:
        name = re.sub(r"[^\w.-]+", "-", label)[:LONGEST_NAME]
        return self.folder / "errors" / f"{name}.txt"

    def is_finished(self, name: str) -> bool:
        """Whether a cell has a result."""
        return isinstance(self.record(name), Finished)

    def write(
        self,
        record: Result | Unfinished,
        discovery: Discovery | None = None,
        values: Float[Tensor, "row prompt"] | None = None,
        prompt_ids: Sequence[str] | None = None,
    ) -> None:
        """Store a cell: tensors first, the JSON that declares it finished last.

        `values` are those of the primary metric, `prompt_ids` the hashes of the test prompts.
        """
        name, files = record.name, dict[str, str]()
        if discovery is not None:
            path = self.cells / f"{name}.{FOUND}"
            write_atomically(path, lambda temporary: _save(discovery, temporary))
            files[FOUND] = checksum(path)
        if values is not None:
            assert isinstance(record, Result)
            by_metric = {record.primary_metric: values}
            files |= write_values(self.cells, name, by_metric, prompt_ids)
        if files and isinstance(record, Result):
            record = record.model_copy(update={"files": {**record.files, **files}})
        write_record(self.cells / f"{name}.json", record)

    def discovery(self, name: str) -> Circuit | list[EdgeScores]:
        """What a finished cell found."""
        return _load(self.cells / f"{name}.{FOUND}")

    def prompts(self, name: str) -> Float[Tensor, "row prompt"]:
        """The primary metric on every test prompt, to three digits."""
        (values,) = read_values(self.cells, name).values()
        return values

    def prompt_ids(self, name: str) -> tuple[str, ...] | None:
        """The hash of every test prompt; cells of earlier versions have none."""
        return read_prompt_ids(self.cells, name)

    def matched_rows(self, name: str) -> list[RowRecord]:
        """The rows that the matching stage has added to a cell.

        There are none if the file is missing or damaged; the stage then derives the rows.
        """
        path = self.matched / f"{name}.json"
        record = read_checked(path, _MATCHED) if path.exists() else None
        return record.rows if isinstance(record, MatchedRecord) else []

    def add_matched_rows(self, name: str, rows: Sequence[RowRecord]) -> None:
        """Append rows to those that there are."""
        record = MatchedRecord(name=name, rows=[*self.matched_rows(name), *rows])
        write_record(self.matched / f"{name}.json", record)


def draws_of(discovery: Discovery) -> Sequence[EdgeScores]:
    """The rankings of a discovery that gave scores."""
    assert not isinstance(discovery, Circuit)
    return [discovery] if isinstance(discovery, EdgeScores) else discovery


def first_of(discovery: Discovery) -> Circuit | EdgeScores:
    """The circuit, the ranking, or the first of several."""
    return discovery if isinstance(discovery, Circuit) else draws_of(discovery)[0]


def _is_done(record: object) -> bool:
    failed = isinstance(record, Unfinished) and record.status == FAILED
    return not failed and not isinstance(record, Damaged)


def _undamaged(folder: Path, kind: TypeAdapter[T]) -> list[T]:
    records = [read_checked(path, kind) for path in records_in(folder)]
    return [record for record in records if not isinstance(record, Damaged)]


def _save(discovery: Discovery, path: Path) -> None:
    """Several draws share one file: the first, with the others' values beside it."""
    if isinstance(discovery, Circuit | EdgeScores):
        discovery.save(path)
    else:
        first, *others = discovery
        draws = {f"draw-{draw}": scores.values for draw, scores in enumerate(others, 1)}
        replace(first, extra={**first.extra, **draws}).save(path)


def _load(path: Path) -> Circuit | list[EdgeScores]:
    with safe_open(path, framework="pt") as file:
        kind = json.loads(file.metadata()["edgewise"])["kind"]
    if kind == "Circuit":
        return Circuit.load(path)
    first = EdgeScores.load(path)
    names = [f"draw-{draw}" for draw in range(1, 1 + len(first.extra))]
    others = [first.extra[name] for name in names if name in first.extra]
    extra = {name: tensor for name, tensor in first.extra.items() if name not in names}
    first = replace(first, extra=extra)
    return [first, *(replace(first, values=values) for values in others)]
