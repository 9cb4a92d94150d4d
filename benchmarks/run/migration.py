"""Folders of the format's version 1 brought up to date; nothing is run again.

Version 1 knew a model by its weights alone and had no checksums. Each record's model is loaded and
compared by its weights; what else identifies it is added to the definition, and the files get the
name that follows from it. Old files are removed when all new ones are written, so a migration that
was stopped can be started again.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.files import read_tensors, records_in
from benchmarks.grid.cell import Bench, ModelOptions, name_of
from benchmarks.grid.crossing import crossing_digest
from benchmarks.record import CrossedRecord, Finished, Reference, RowRecord, SearchRecord
from benchmarks.run.loading import Loader, identity_of
from benchmarks.store import Discovery, Store
from edgewise import Circuit
from edgewise.progress import track

Fields = dict[str, Any]


def migrate(folder: Path) -> int:
    """Bring a folder's records up to date; gives the number of cells.

    Cells without results are removed: a run tries them again. Raises ValueError, before anything is
    changed, for a folder without results, and for a model that is not at hand or is not the one of
    a record.
    """
    store = Store(folder)
    if not store.cells.is_dir():
        raise ValueError(f"no results in {folder}; expected a folder that `edgewise run` wrote")
    kinds = (store.cells, store.matched, store.searches, store.crossed)
    old = {kind: _of_version_1(kind) for kind in kinds}
    cells = {n: fields for n, fields in old[store.cells].items() if fields["status"] == "finished"}
    identities = _identities(cells)
    names: dict[str, str] = {}
    for name, fields in cells.items():
        fields["definition"] |= identities[name]
        fields["name"] = names[name] = name_of(fields["definition"])
    for name, fields in track(cells.items(), "cells", total=len(cells)):
        _write_cell(store, name, fields, names)
    for name, fields in old[store.matched].items():
        rows = [RowRecord.model_validate(row) for row in fields["rows"]]
        store.add_matched_rows(names[name], rows, read_tensors(store.matched, name))
    for fields in old[store.searches].values():
        _write_search(store, fields, names, identities[fields["found"]])
    for name, fields in old[store.crossed].items():
        _write_crossed(store, name, fields, names)
    for kind, records in old.items():
        for name in records:
            for path in kind.glob(f"{name}.*"):
                path.unlink()
    return len(cells)


def _of_version_1(folder: Path) -> dict[str, Fields]:
    """The raw records of version 1, by name."""
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in records_in(folder)}
    old = {name: fields for name, fields in read.items() if fields.pop("schema") == 1}
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


def _write_cell(store: Store, old: str, fields: Fields, names: Mapping[str, str]) -> None:
    found: Discovery = store.discovery(old)
    origin = {"definition": fields["definition"]}
    if isinstance(found, Circuit):
        found = replace(found, meta={**found.meta, **origin})
    else:
        found = [replace(scores, meta={**scores.meta, **origin}) for scores in found]
    if "seconds" not in fields:
        store.write(Reference.model_validate(fields), found)
        return
    if "trained_in" in fields:
        fields["trained_in"] = names.get(fields["trained_in"], fields["trained_in"])
    store.write(Finished.model_validate(fields), found, store.prompts(old))


def _write_search(store: Store, fields: Fields, names: Mapping[str, str], identity: Fields) -> None:
    fields["definition"] |= identity
    fields["name"] = name_of(fields["definition"])
    fields["found"] = names[fields["found"]]
    for trial in fields["trials"]:
        trial["cell"] = names[trial["cell"]]
    store.write_search(SearchRecord.model_validate(fields))


def _write_crossed(store: Store, old: str, fields: Fields, names: Mapping[str, str]) -> None:
    prompts = read_tensors(store.crossed, old)
    fields["cells"] = [names[name] for name in fields["cells"]]
    fields["name"] = f"{old.rpartition('-')[0]}-{crossing_digest(*fields['cells'])}"
    store.write_crossed(CrossedRecord.model_validate(fields), prompts)
