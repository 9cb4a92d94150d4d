"""A folder of results: one JSON file per cell, written whole or not at all, tensors beside it.

    DIR/cells/NAME.json                    settings, cost, one row per circuit
    DIR/cells/NAME.safetensors             the circuit or the scores that were found
    DIR/cells/NAME.prompts.safetensors     every metric, [row, prompt]
    DIR/matched/NAME.json, .prompts...     the same scores, cut to other methods' numbers of edges
    DIR/searches/NAME.json                 the trials of a search, each a cell, and the nearest
    DIR/crossed/NAME.json, .prompts...     circuits of two tasks on the prompts of both
    DIR/checkpoints/NAME.safetensors       an unfinished discovery

A cell is finished when its JSON is there, which is written last. NAME ends in a hash of what
defines the cell.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from jaxtyping import Float
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.checking import problems
from benchmarks.record import (
    FAILED,
    CellRecord,
    CrossedRecord,
    Finished,
    MatchedRecord,
    Result,
    RowRecord,
    SearchRecord,
    Unfinished,
)
from edgewise import Circuit, EdgeScores

SCHEMA = 1
"""The version of the files' format."""
_MOST_PROBLEMS = 5
"""How many problems of a file an error names."""

_CELL: TypeAdapter[Finished | Unfinished] = TypeAdapter(CellRecord)
T = TypeVar("T")

Discovery = Circuit | EdgeScores | Sequence[EdgeScores]


class Store:
    """Reads and writes a folder of results; several processes may write different cells of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells, self.matched = folder / "cells", folder / "matched"
        self.searches, self.crossed = folder / "searches", folder / "crossed"
        self.checkpoints = folder / "checkpoints"

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.cells, self.matched, self.searches, self.crossed, self.checkpoints

    def prepare(self) -> None:
        """Make the folder and clear what killed runs left behind.

        Raises ValueError if it cannot be written or holds results of a newer version.
        """
        try:
            for folder in self._folders:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / "probe", lambda path: path.write_text(""))
                (folder / "probe").unlink()
                _remove_leftovers(folder)
        except OSError as error:
            raise ValueError(f"cannot write to {self.folder}: {error.strerror}") from None
        for record in self.records():
            if not _has_failed(record):
                self.checkpoint(record.name).unlink(missing_ok=True)

    def checkpoint(self, name: str) -> Path:
        return self.checkpoints / f"{name}.safetensors"

    def records(self) -> list[Finished | Unfinished]:
        """Every cell's record, by name.

        Raises ValueError, with every problem, for a file that is no record, and for one of a newer
        version.
        """
        return [read_record(path, _CELL) for path in sorted(self.cells.glob("*.json"))]

    def record(self, name: str) -> Finished | Unfinished | None:
        path = self.cells / f"{name}.json"
        return read_record(path, _CELL) if path.exists() else None

    def finished(self) -> list[Finished]:
        """The records of the cells with a result."""
        return [record for record in self.records() if isinstance(record, Finished)]

    def write_search(self, record: SearchRecord) -> None:
        _write_json(self.searches / f"{record.name}.json", record)

    def search_records(self) -> list[SearchRecord]:
        """Every finished search, by name."""
        adapter = TypeAdapter(SearchRecord)
        return [read_record(path, adapter) for path in sorted(self.searches.glob("*.json"))]

    def has_crossed(self, name: str) -> bool:
        return (self.crossed / f"{name}.json").exists()

    def write_crossed(
        self, record: CrossedRecord, prompts: Mapping[str, Float[Tensor, "circuit prompt"]]
    ) -> None:
        _write_tensors(self.crossed / f"{record.name}.prompts.safetensors", prompts)
        _write_json(self.crossed / f"{record.name}.json", record)

    def crossed_records(self) -> list[tuple[CrossedRecord, dict[str, Tensor]]]:
        """Every cross-evaluation, with its metrics per prompt."""
        adapter = TypeAdapter(CrossedRecord)
        records = [read_record(path, adapter) for path in sorted(self.crossed.glob("*.json"))]
        return [
            (record, load_file(self.crossed / f"{record.name}.prompts.safetensors"))
            for record in records
        ]

    def is_done(self, name: str) -> bool:
        """Whether a cell need not be run again: a failed one does."""
        record = self.record(name)
        return record is not None and not _has_failed(record)

    def is_finished(self, name: str) -> bool:
        """Whether a cell has a result."""
        return isinstance(self.record(name), Finished)

    def write(
        self,
        record: Result | Unfinished,
        discovery: Discovery | None = None,
        prompts: Mapping[str, Float[Tensor, "row prompt"]] | None = None,
    ) -> None:
        """Store a cell: tensors first, the JSON that declares it finished last."""
        name = record.name
        if discovery is not None:
            write_atomically(
                self.cells / f"{name}.safetensors", lambda path: _save(discovery, path)
            )
        if prompts is not None:
            _write_tensors(self.cells / f"{name}.prompts.safetensors", prompts)
        _write_json(self.cells / f"{name}.json", record)

    def discovery(self, name: str) -> Circuit | list[EdgeScores]:
        """What a finished cell found."""
        return _load(self.cells / f"{name}.safetensors")

    def prompts(self, name: str) -> dict[str, Tensor]:
        """Every metric on every test prompt, `[row, prompt]`."""
        return load_file(self.cells / f"{name}.prompts.safetensors")

    def matched_rows(self, name: str) -> tuple[list[RowRecord], dict[str, Tensor]]:
        """The rows that the matching stage has added to a cell, and their metrics per prompt."""
        path = self.matched / f"{name}.json"
        if not path.exists():
            return [], {}
        rows = read_record(path, TypeAdapter(MatchedRecord)).rows
        tensors = load_file(self.matched / f"{name}.prompts.safetensors")
        return rows, {metric: values[: len(rows)] for metric, values in tensors.items()}

    def add_matched_rows(
        self,
        name: str,
        rows: Sequence[RowRecord],
        prompts: Mapping[str, Float[Tensor, "row prompt"]],
    ) -> None:
        """Append rows. A kill between the two files leaves tensors with rows that no JSON names."""
        old_rows, old = self.matched_rows(name)
        joined = {key: torch.cat([old[key], new]) if old else new for key, new in prompts.items()}
        _write_tensors(self.matched / f"{name}.prompts.safetensors", joined)
        record = MatchedRecord(name=name, rows=[*old_rows, *rows])
        _write_json(self.matched / f"{name}.json", record)


def draws_of(discovery: Discovery) -> Sequence[EdgeScores]:
    """The rankings of a discovery that gave scores."""
    assert not isinstance(discovery, Circuit)
    return [discovery] if isinstance(discovery, EdgeScores) else discovery


def first_of(discovery: Discovery) -> Circuit | EdgeScores:
    """The circuit, the ranking, or the first of several."""
    return discovery if isinstance(discovery, Circuit) else draws_of(discovery)[0]


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file in the same folder, force it to disk, then rename it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _remove_leftovers(folder: Path) -> None:
    """Temporary files whose process is gone; others belong to a run that is going on."""
    for path in folder.glob("*.tmp"):
        process = path.suffixes[-2].removeprefix(".")
        if not (process.isdigit() and psutil.pid_exists(int(process))):
            path.unlink(missing_ok=True)


def _has_failed(record: Finished | Unfinished) -> bool:
    return isinstance(record, Unfinished) and record.status == FAILED


def _write_json(path: Path, record: BaseModel) -> None:
    fields = {"schema": SCHEMA, **record.model_dump(exclude_unset=True)}
    text = json.dumps(fields, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def read_record(path: Path, kind: TypeAdapter[T]) -> T:
    """What a JSON file holds, the version of its format checked first.

    Raises ValueError for a newer version, and with every problem for what is no such record.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        schema = fields.pop("schema")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise _no_result(path, "expected a JSON object with a schema") from None
    if not isinstance(schema, int):
        raise _no_result(path, f"schema is {schema!r}; expected a whole number")
    if schema > SCHEMA:
        raise ValueError(f"{path} has schema {schema}; this version reads up to {SCHEMA}: upgrade")
    if fields.get("name") != path.stem:
        raise _no_result(path, f"name is {fields.get('name')!r}; expected that of the file")
    try:
        return kind.validate_python(fields)
    except ValidationError as error:
        found = problems(error, fields)
        more = f"; and {len(found) - _MOST_PROBLEMS:,} more" if found[_MOST_PROBLEMS:] else ""
        raise _no_result(path, "; ".join(found[:_MOST_PROBLEMS]) + more) from None


def _no_result(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} is no result of this program ({why}); without it, its cell is run again"
    )


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    contiguous = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary))


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
