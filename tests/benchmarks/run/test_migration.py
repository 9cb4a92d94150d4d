"""Folders of earlier versions are brought up to date: same numbers, nothing run again."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.files import checksum
from benchmarks.grid.cell import name_of
from benchmarks.grid.suite import Suite, parse_suite
from benchmarks.record import CrossedRecord, Finished, RowRecord
from benchmarks.run import execute, items
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


Values = dict[str, torch.Tensor]


def watched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Values]:
    """Every metric on every prompt of what runs will store, by kind and name: version 2 kept it."""
    kept: dict[str, Values] = {}
    evaluated: list[Values] = []
    evaluate, write = execute._evaluate, Store.write
    add_matched_rows, write_crossed = Store.add_matched_rows, Store.write_crossed

    def noting_evaluate(*given: Any) -> Values:
        values = evaluate(*given)
        if len(values) > 1:  # not the primary metric on the validation prompts
            evaluated.append(values)
        return values

    def noting_write(store: Store, record: Finished, found: Any, values: Any, _: Any) -> None:
        write(store, record, found, values)  # without the prompts' hashes, which are newer
        kept[f"cells/{record.name}"] = evaluated[-1]

    def noting_matched(store: Store, name: str, rows: Sequence[RowRecord]) -> None:
        add_matched_rows(store, name, rows)
        assert len(store.matched_rows(name)) == len(rows), "added once"
        kept[f"matched/{name}"] = evaluated[-1]

    def noting_crossed(store: Store, record: CrossedRecord) -> None:
        write_crossed(store, record)
        tasks = dict.fromkeys(row.prompts for row in record.rows)
        kept[f"crossed/{record.name}"] = {
            f"{task}.{metric}": of_prompts
            for task, values in zip(tasks, evaluated[-2:], strict=True)
            for metric, of_prompts in values.items()
        }

    monkeypatch.setattr(execute, "_evaluate", noting_evaluate)
    monkeypatch.setattr(Store, "write", noting_write)
    monkeypatch.setattr(Store, "add_matched_rows", noting_matched)
    monkeypatch.setattr(Store, "write_crossed", noting_crossed)
    return kept


def to_version_2(folder: Path, kept: dict[str, Values]) -> None:
    """The folder as version 2 wrote it: every metric of every prompt, and no intervals."""
    for key, values in kept.items():
        path = folder / f"{key}.json"
        fields = json.loads(path.read_text())
        for row in fields["rows"]:
            del row["intervals"]
        file = path.with_suffix(".prompts.safetensors")
        save_file({metric: of_prompts.contiguous() for metric, of_prompts in values.items()}, file)
        files = {**fields.get("files", {}), "prompts.safetensors": checksum(file)}
        path.write_text(json.dumps({**fields, "schema": 2, "files": files}))


def to_version_1(folder: Path) -> None:
    """A folder of version 2 as version 1 wrote it: by its own names, without what is new."""
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


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Path]]:
    """A suite, and a folder with what a run of it writes today, in version 2 and in version 1."""
    suite, folder = parse_suite(SUITE, "mine.toml"), tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        kept = watched(patch)
        run_all(suite, folder / "3")
    shutil.copytree(folder / "3", folder / "2")
    to_version_2(folder / "2", kept)
    shutil.copytree(folder / "2", folder / "1")
    to_version_1(folder / "1")
    yield suite, folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_migrated_folder_is_that_of_a_run_and_nothing_is_run_again(
    version: str, written: tuple[Suite, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, versions = written
    folder = tmp_path / "old"
    shutil.copytree(versions / version, folder)
    with pytest.raises(ValueError, match=f"edgewise migrate {folder}"):
        Store(folder).records()
    assert migrate(folder) == len(suite.cells)
    assert contents(folder) == contents(versions / "3")
    monkeypatch.setattr(items, "execute", lambda *_, **__: 1 / 0)
    assert run_all(suite, folder).count(SKIPPED) == len(suite.cells)
    assert migrate(folder) == 0


@pytest.mark.slow
def test_a_record_of_other_weights_is_refused_before_anything_is_changed(
    written: tuple[Suite, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(written[1] / "1", folder)
    path = sorted((folder / "cells").glob("*.json"))[-1]
    path.write_text(path.read_text().replace('"weights": "', '"weights": "0'))
    before = contents(folder)
    with pytest.raises(ValueError, match="has other weights than it had"):
        migrate(folder)
    assert contents(folder) == before


@pytest.mark.slow
def test_a_record_half_written_by_a_stopped_migration_is_named(
    written: tuple[Suite, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(written[1] / "2", folder)
    path = sorted((folder / "cells").glob("*.prompts.safetensors"))[0]
    save_file({"kl": load_file(path)["kl"]}, path)
    with pytest.raises(ValueError, match=r"no values of accuracy, .* for each prompt; an earlier"):
        migrate(folder)
