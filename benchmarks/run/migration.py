"""Folders of an earlier version of the format brought up to date; nothing is run again.

Version 1 knew a model by its weights alone and had no checksums. Each record's model is loaded and
compared by its weights; what else identifies it is added to the definition, and the files get the
name that follows from it. Version 2 kept every metric of every prompt, from which the intervals in
today's records are computed. A migration that was stopped can be started again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.files import PROMPTS, read_values, records_in
from benchmarks.grid.cell import Bench, ModelOptions, name_of
from benchmarks.grid.crossing import crossing_digest
from benchmarks.record import (
    FINISHED,
    CrossedRecord,
    Finished,
    Reference,
    RowRecord,
    SearchRecord,
    Unfinished,
)
from benchmarks.run.execute import stamped
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.run.loading import Loader, identity_of
from benchmarks.store import Discovery, Store
from edgewise.progress import track

Fields = dict[str, Any]
Values = Mapping[str, Tensor]
"""Metrics per prompt, `[row, prompt]`."""


def migrate(folder: Path) -> int:
    """Bring a folder's records up to date; gives the number of cells.

    Cells of version 1 without results are removed: a run tries them again. Raises ValueError for a
    folder without results and, before a record of version 1 is changed, for a model that is not at
    hand or is not the one of a record.
    """
    store = Store(folder)
    if not store.cells.is_dir():
        raise ValueError(f"no results in {folder}; expected a folder that `edgewise run` wrote")
    return _migrate_version_1(store) + _migrate_version_2(store)


def _migrate_version_1(store: Store) -> int:
    """Old files are removed when all new ones are written."""
    kinds = (store.cells, store.matched, store.searches, store.crossed)
    old = {kind: _of_version(1, kind) for kind in kinds}
    cells = {n: fields for n, fields in old[store.cells].items() if fields["status"] == FINISHED}
    identities = _identities(cells)
    names: dict[str, str] = {}
    for name, fields in cells.items():
        fields["definition"] |= identities[name]
        fields["name"] = names[name] = name_of(fields["definition"])
    for name, fields in track(cells.items(), "cells", total=len(cells)):
        if "trained_in" in fields:
            fields["trained_in"] = names.get(fields["trained_in"], fields["trained_in"])
        origin = {"definition": fields["definition"]}
        _write_cell(store, name, fields, stamped(store.discovery(name), origin))
    for name, fields in old[store.matched].items():
        _write_matched(store, names[name], fields, read_values(store.matched, name))
    for fields in old[store.searches].values():
        _write_search(store, fields, names, identities[fields["found"]])
    for name, fields in old[store.crossed].items():
        fields["cells"] = [names[cell] for cell in fields["cells"]]
        fields["name"] = f"{name.rpartition('-')[0]}-{crossing_digest(*fields['cells'])}"
        _write_crossed(store, fields, read_values(store.crossed, name))
    for kind, records in old.items():
        for name in records:
            for path in kind.glob(f"{name}.*"):
                path.unlink()
    return len(cells)


def _migrate_version_2(store: Store) -> int:
    """Names stay as they are."""
    cells = _of_version(2, store.cells)
    for name, fields in track(cells.items(), "cells", total=len(cells)):
        _write_cell(store, name, fields)
    for name, fields in _of_version(2, store.matched).items():
        _write_matched(store, name, fields, read_values(store.matched, name))
    for fields in _of_version(2, store.searches).values():
        store.write_search(SearchRecord.model_validate(fields))
    for name, fields in _of_version(2, store.crossed).items():
        _write_crossed(store, fields, read_values(store.crossed, name))
    for folder in (store.matched, store.crossed):
        for path in folder.glob(f"*.{PROMPTS}"):
            path.unlink()
    return len(cells)


def _of_version(version: int, folder: Path) -> dict[str, Fields]:
    """The raw records of a version, by name."""
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in records_in(folder)}
    old = {name: fields for name, fields in read.items() if fields.pop("schema") == version}
    return dict(sorted(old.items()))


def _identities(cells: Mapping[str, Fields]) -> dict[str, Fields]:
    """What identifies each cell's model today. Models are loaded once each."""
    loader = Loader(torch.device("cpu"))
    known: dict[Bench, Fields] = {}
    identities: dict[str, Fields] = {}
    for name, fields in cells.items():
        definition = fields["definition"]
        graph = definition["model"]
        model = None if graph is None else ModelOptions(fields["model"], **graph)
        # The task tells the model only where it owns it.
        task = definition["task"] if model is None else ""
        bench = Bench(task, 0, 0, model=model, dtype=definition["dtype"])
        if bench not in known:
            known[bench] = identity_of(bench, loader)
        identity = known[bench]
        if identity["weights"] != definition["weights"]:
            raise ValueError(f"cell {name}: {fields['model']} has other weights than it had")
        architecture = json.loads(identity["architecture"])
        identities[name] = {**identity, "architecture": architecture}
    return identities


def _write_cell(store: Store, old: str, fields: Fields, found: Discovery | None = None) -> None:
    """The cell that was called `old`; without `found`, the file of what was found stays."""
    if fields["status"] != FINISHED:
        store.write(Unfinished.model_validate(fields))
    elif "seconds" not in fields:
        store.write(Reference.model_validate(fields), found)
    else:
        values = read_values(store.cells, old)
        _add_intervals(fields["rows"], values)
        record = Finished.model_validate(fields)
        store.write(record, found, values[record.primary_metric])


def _write_matched(store: Store, name: str, fields: Fields, values: Values) -> None:
    _add_intervals(fields["rows"], values)
    (store.matched / f"{name}.json").unlink(missing_ok=True)
    store.add_matched_rows(name, [RowRecord.model_validate(row) for row in fields["rows"]])


def _write_search(store: Store, fields: Fields, names: Mapping[str, str], identity: Fields) -> None:
    fields["definition"] |= identity
    fields["name"] = name_of(fields["definition"])
    fields["found"] = names[fields["found"]]
    for trial in fields["trials"]:
        trial["cell"] = names[trial["cell"]]
    store.write_search(SearchRecord.model_validate(fields))


def _write_crossed(store: Store, fields: Fields, values: Values) -> None:
    fields.pop("files", None)
    for task in {row["prompts"] for row in fields["rows"]}:
        of_task = {
            name.removeprefix(f"{task}."): tensor
            for name, tensor in values.items()
            if name.startswith(f"{task}.")
        }
        _add_intervals([row for row in fields["rows"] if row["prompts"] == task], of_task)
    store.write_crossed(CrossedRecord.model_validate(fields))


def _add_intervals(rows: Sequence[Fields], values: Values) -> None:
    """Raises ValueError where a metric's values are missing."""
    if lacking := {metric for row in rows for metric in row["metrics"]} - values.keys():
        raise ValueError(
            f"no values of {', '.join(sorted(lacking))} for each prompt; an earlier migration was "
            "stopped while it wrote this record: remove it, and a run makes it again"
        )
    ends = {metric: bootstrap_intervals(of_prompts) for metric, of_prompts in values.items()}
    for place, row in enumerate(rows):
        row["intervals"] = {metric: ends[metric][place] for metric in row["metrics"]}
