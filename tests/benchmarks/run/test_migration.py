"""Folders of version 1 are brought up to date: same numbers, new names, nothing run again."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.grid.cell import name_of
from benchmarks.grid.suite import Suite, parse_suite
from benchmarks.run import items
from benchmarks.run.migration import migrate
from benchmarks.run.runner import SKIPPED, Options, run
from benchmarks.store import Store

SUITE = """
name = "mine"
tasks = ["ioi-t1", "ioi"]
sparsities = [0.5, 0.9]
cross = ["ioi-t1", "ioi"]

[task.ioi-t1]
train = 4
validation = 4
test = 4

[task.ioi]
train = 4
validation = 4
test = 4

[[method]]
name = "eap"


[[method]]
name = "edge-pruning"
steps = 2
warmup_steps = 1
target_warmup_steps = 1
batch_size = 2
cut = ["sparsity", "ranking"]
"""


def run_all(suite: Suite, folder: Path) -> Sequence[str]:
    options = Options(torch.device("cpu"))
    outcomes = run(suite.cells, folder, options, crossings=suite.crossings)
    return [outcome.status for outcome in outcomes]


def to_version_1(folder: Path) -> None:
    """The folder as version 1 wrote it: by its own names, without what is new."""
    names: dict[str, str] = {}
    for path in sorted((folder / "cells").glob("*.json")):
        fields = json.loads(path.read_text())
        for name in ("architecture", "tokenizer"):
            del fields["definition"][name]
        names[path.stem] = name_of(fields["definition"])
    for kind in ("cells", "matched", "crossed"):
        for path in sorted((folder / kind).glob("*.json")):
            fields = _old_fields(json.loads(path.read_text()), names)
            if kind == "crossed":
                digest = hashlib.sha256(" ".join(fields["cells"]).encode()).hexdigest()[:12]
                fields["name"] = f"{path.stem.rpartition('-')[0]}-{digest}"
            for file in path.parent.glob(f"{path.stem}.*"):
                _move(file, file.with_name(file.name.replace(path.stem, fields["name"])), fields)
            (path.parent / f"{fields['name']}.json").write_text(json.dumps(fields))
            path.unlink(missing_ok=True)


def _old_fields(fields: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    fields = {**fields, "schema": 1, "name": names.get(fields["name"], fields["name"])}
    del fields["files"]
    for name in ("architecture", "tokenizer"):
        fields.get("definition", {}).pop(name, None)
    if "trained_in" in fields:
        fields["trained_in"] = names[fields["trained_in"]]
    if "cells" in fields:
        fields["cells"] = [names[name] for name in fields["cells"]]
    return fields


def _move(old: Path, new: Path, fields: dict[str, Any]) -> None:
    if old.suffix == ".json":
        return
    with safe_open(old, framework="pt") as file:
        header = file.metadata() or {}
    if "edgewise" in header:
        inner = json.loads(header["edgewise"])
        inner["meta"]["definition"] = fields["definition"]
        header["edgewise"] = json.dumps(inner)
    tensors = load_file(old)
    old.unlink()
    save_file(tensors, new, metadata=header)


def contents(folder: Path) -> dict[str, Any]:
    """Every file's content, without what differs from run to run and by how JSON is laid out."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*.*"):
        key = str(path.relative_to(folder))
        found[key] = json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
    return found


@pytest.mark.slow
def test_a_migrated_folder_is_that_of_a_run_and_nothing_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = parse_suite(SUITE, "mine.toml")
    run_all(suite, tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    to_version_1(tmp_path / "old")
    with pytest.raises(ValueError, match=f"edgewise migrate {tmp_path / 'old'}"):
        Store(tmp_path / "old").records()
    assert migrate(tmp_path / "old") == len(suite.cells)
    assert contents(tmp_path / "old") == contents(tmp_path / "new")
    monkeypatch.setattr(items, "execute", lambda *_, **__: 1 / 0)
    assert run_all(suite, tmp_path / "old").count(SKIPPED) == len(suite.cells)
    assert migrate(tmp_path / "old") == 0


@pytest.mark.slow
def test_a_record_of_other_weights_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    suite = parse_suite(SUITE.split("[[method]]")[0] + '[[method]]\nname = "eap"', "mine.toml")
    run_all(suite, tmp_path)
    to_version_1(tmp_path)
    path = sorted((tmp_path / "cells").glob("*.json"))[-1]
    path.write_text(path.read_text().replace('"weights": "', '"weights": "0'))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="has other weights than it had"):
        migrate(tmp_path)
    assert contents(tmp_path) == before
