"""Cells are written whole or not at all; leftovers of killed runs do no harm."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.files import SCHEMA, write_values
from benchmarks.record import FAILED, Damaged, Failure, Finished, RowRecord, Unfinished
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores, Graph
from edgewise import files as files_module
from edgewise.files import write_atomically
from tests.benchmarks.samples import estimated, record_fields

GRAPH = Graph(n_layers=1, n_heads=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.prepare()
    return store


def record(name: str) -> Finished:
    fields = record_fields("eap", {}, "ioi", 0)
    del fields["metrics"]["accuracy"]
    found = row(3).model_copy(update={"validation": {"kl": 0.2}}).as_json()
    return Finished.model_validate({**fields, "name": name, "kind": "scores", "rows": [found]})


def failed(name: str) -> Unfinished:
    return Unfinished(
        name=name,
        status=FAILED,
        definition=record(name).definition,
        environment=record(name).environment,
        error=Failure(message="it broke", traceback="..."),
    )


def row(edges: int) -> RowRecord:
    return RowRecord(edges=edges, sparsity=0.5, live_sparsity=0.5, **estimated({"kl": 0.1}))


def drawn(fields: dict[str, Any]) -> dict[str, Any]:
    """A record's first row, as one of several draws."""
    return {**fields["rows"][0], "draw": 1}


def scores(seed: int) -> EdgeScores:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(GRAPH.legal.shape, generator=generator)
    return EdgeScores(values, GRAPH, extra={"signed": -values})


def test_a_crash_between_temporary_file_and_rename_leaves_no_cell(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.write(record("one"))
    monkeypatch.undo()
    assert not store.is_done("one")
    assert store.records() == []
    assert len(list(store.cells.iterdir())) == 1


def test_a_crash_while_a_cell_is_replaced_keeps_the_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(failed("one"))
    monkeypatch.setattr(files_module.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.write(record("one"))
    assert store.records() == [failed("one")]


def test_the_json_is_written_after_the_tensors(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    rename = os.replace

    def watch(source: Path, target: Path) -> None:
        written.append(target.name)
        rename(source, target)

    monkeypatch.setattr(files_module.os, "replace", watch)
    store.write(record("one"), scores(0), torch.zeros(1, 2))
    assert written == ["one.safetensors", "one.prompts.safetensors", "one.json"]


def test_leftovers_of_dead_processes_are_cleared_from_every_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, "getpid", lambda: dead.pid)
        for folder in (store.cells, store.checkpoints):
            with pytest.raises(FileNotFoundError):
                write_atomically(folder / "one", lambda temporary: temporary.rename("/nowhere/one"))
    assert list(store.folder.rglob("*.tmp"))
    store.prepare()
    assert not list(store.folder.rglob("*.tmp"))


def test_a_finished_cells_checkpoint_is_cleared_and_an_unfinished_ones_kept(store: Store) -> None:
    store.write(record("one"))
    store.write(failed("two"))
    for name in ("one", "two", "three"):
        store.checkpoint(name).write_text("state")
    store.prepare()
    assert {path.stem for path in store.checkpoints.iterdir()} == {"two", "three"}


def test_a_failed_cell_is_not_done(store: Store) -> None:
    store.write(failed("one"))
    assert not store.is_done("one")
    store.write(record("one"))
    assert store.is_done("one")


def test_json_is_sorted_and_holds_no_nan(store: Store) -> None:
    store.write(record("one"))
    text = (store.cells / "one.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    with pytest.raises(ValueError, match="JSON"):
        store.write(record("two").model_copy(update={"notes": {"loss": float("nan")}}))
    assert not store.is_done("two")


@pytest.mark.parametrize("n_draws", [1, 3])
def test_rankings_come_back_as_they_were(store: Store, n_draws: int) -> None:
    draws = [scores(seed) for seed in range(n_draws)]
    store.write(record("one"), draws if n_draws > 1 else draws[0])
    loaded = store.discovery("one")
    assert isinstance(loaded, list) and len(loaded) == n_draws
    for before, after in zip(draws, loaded, strict=True):
        assert torch.equal(before.values, after.values)
    assert set(loaded[0].extra) == {"signed"}


def test_a_circuit_comes_back_as_it_was(store: Store) -> None:
    mask = scores(0).values > 0.5
    store.write(record("one"), Circuit(mask, GRAPH, {"why": "test"}))
    loaded = store.discovery("one")
    assert isinstance(loaded, Circuit)
    assert torch.equal(loaded.mask, mask & GRAPH.legal) and loaded.meta == {"why": "test"}


def test_matched_rows_are_added_to_those_there_are(store: Store) -> None:
    assert store.matched_rows("one") == []
    store.add_matched_rows("one", [row(3)])
    store.add_matched_rows("one", [row(5)])
    assert store.matched_rows("one") == [row(3), row(5)]


def test_damaged_matched_rows_are_derived_again(store: Store) -> None:
    store.add_matched_rows("one", [row(3)])
    (store.matched / "one.json").write_text("{")
    assert store.matched_rows("one") == []
    store.add_matched_rows("one", [row(7)])
    assert store.matched_rows("one") == [row(7)]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, 1.0, 1.0], torch.bool),
        ([0.1234567, 20.5, -3.0], torch.float16),
        ([1e-9, 2.0, 1e6], torch.float32),
    ],
)
def test_values_of_prompts_take_as_few_bytes_as_their_range_allows(
    store: Store, values: list[float], dtype: torch.dtype
) -> None:
    stored = torch.tensor([values])
    store.write(record("one"), values=stored)
    found = load_file(store.cells / "one.prompts.safetensors")
    assert list(found) == ["kl"] and found["kl"].dtype == dtype
    torch.testing.assert_close(store.prompts("one"), stored, rtol=1e-3, atol=1e-7)


def test_prompts_are_known_by_their_hashes_which_earlier_cells_lack(store: Store) -> None:
    store.write(record("one"), values=torch.zeros(1, 2), prompt_ids=["a1", "b2"])
    store.write(record("two"), values=torch.zeros(1, 2))
    assert (store.prompt_ids("one"), store.prompt_ids("two")) == (("a1", "b2"), None)
    assert store.prompts("one").shape == (1, 2) and not store.damaged()
    store.write(record("one"), values=torch.zeros(1, 2), prompt_ids=["a1"])
    (damaged,) = store.damaged()
    assert damaged.problem.endswith("has hashes of 1 prompts; expected 2")


def test_results_of_a_newer_version_are_an_error_that_says_so(store: Store) -> None:
    (store.cells / "one.json").write_text(json.dumps({"schema": SCHEMA + 1, "other": "format"}))
    with pytest.raises(ValueError, match=f"has schema {SCHEMA + 1}; this version reads up to"):
        store.prepare()


def test_a_record_that_cannot_be_read_is_named(store: Store) -> None:
    (store.cells / "folder.json").mkdir()
    (store.cells / "link.json").symlink_to("nowhere")
    folder, link = store.damaged()
    assert folder.problem.endswith("folder.json cannot be read: Is a directory")
    assert link.problem.endswith("link.json cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"kl": torch.zeros(2, 3)}, "{'kl': 2}"),
        ({"kl": torch.zeros(1, 0)}, "{'kl': 0}"),
        ({"other": torch.zeros(1, 3)}, "{'other': 1}"),
    ],
)
def test_values_of_other_rows_or_metrics_make_their_cell_damaged(
    store: Store, values: dict[str, torch.Tensor], found: str
) -> None:
    files = write_values(store.cells, "one", values)
    store.write(record("one").model_copy(update={"files": files}))
    (damaged,) = store.damaged()
    assert f"has rows of {found}; expected {{'kl': 1}}, as in the record" in damaged.problem


def test_a_file_that_is_no_result_is_named(store: Store) -> None:
    (store.cells / "one.json").write_text("[]")
    (damaged,) = store.records()
    assert isinstance(damaged, Damaged) and damaged.name == "one"
    assert "one.json is no record" in damaged.problem and not store.is_done("one")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda f: f.pop("seconds"), "record of this program: seconds is missing"),
        (lambda f: f.update(colour="red"), "colour is not known"),
        (lambda f: f.update(model="\ud800"), "half of a surrogate pair; expected Unicode"),
        (lambda f: f.update(n_edges=-3), "n_edges is -3; expected a number greater"),
        (lambda f: f["definition"].update(seed="0"), "definition.seed is '0'; expected"),
        (lambda f: f.update(rows=[{"edges": 3}]), "sparsity is missing"),
        (lambda f: f.update(status="done"), "status"),
        (lambda f: f.update(schema="1"), "schema is '1'; expected a whole number"),
        (lambda f: f.update(schema=True), "schema is True; expected a whole number"),
        (
            lambda f: f.update(rows=[]),
            "program: rows has 0 items, of kind scores; expected at least",
        ),
        (lambda f: f.update(rows=2 * f["rows"], kind="circuit"), "of kind circuit; expected 1"),
        (lambda f: f.update(primary_metric="x"), "primary_metric is 'x'; expected one of kl"),
        (lambda f: f["rows"][0].update(metrics={}), "rows.0.metrics are none; expected kl"),
        (lambda f: f["rows"][0].update(edges=99), "rows.0.edges is 99; expected at most 61"),
        (lambda f: f["rows"][0].update(validation={}), "rows.0.validation is none; expected kl"),
        (lambda f: f.update(kind="circuit"), "rows.0.validation is kl; expected none"),
        (lambda f: f["rows"].append(drawn(f)), "rows.0.draw is None; expected one for every"),
        (lambda f: f.update(peak_bytes=10**400), "peak_bytes is 1000"),
        (
            lambda f: f["definition"]["settings"].update(steps=[1]),
            "definition.settings.steps is [1]",
        ),
        (lambda f: f.update(name="../two"), "name is '../two'; expected that of the file"),
    ],
)
def test_a_record_with_a_mistake_is_named_with_what_was_expected(
    store: Store, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    store.write(record("one"))
    path = store.cells / "one.json"
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))
    (damaged,) = store.records()
    assert isinstance(damaged, Damaged) and "one.json is no record" in damaged.problem
    assert said in damaged.problem


@pytest.mark.parametrize("ending", ["safetensors", "prompts.safetensors"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "checksum differs"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "checksum differs"),
    ],
)
def test_a_file_that_is_not_what_was_written_makes_its_cell_damaged(
    store: Store, damage: Callable[[Path], object], said: str, ending: str
) -> None:
    store.write(record("one"), scores(0), torch.zeros(1, 2))
    store.write(record("two"), scores(1), torch.zeros(1, 2))
    assert store.is_finished("one") and not store.damaged()
    path = store.cells / f"one.{ending}"
    damage(path)
    assert not store.is_done("one") and store.is_finished("two")
    assert [record.name for record in store.finished()] == ["two"]
    (damaged,) = store.damaged()
    assert damaged.name == "one" and f"{path.name} is" in damaged.problem
    assert said in damaged.problem


def test_a_name_that_leads_elsewhere_reads_and_removes_nothing(store: Store) -> None:
    """The names of a folder's files come from the files, not from what stands in them."""
    outside = store.folder.parent / "mine.safetensors"
    outside.write_text("mine")
    store.write(record("one"), scores(0))
    path = store.cells / "one.json"
    fields = json.loads(path.read_text())
    fields["files"] = {"/../../../mine.safetensors": "abc"}
    path.write_text(json.dumps(fields))
    (store.cells / "two.json").write_text(json.dumps({**fields, "name": "../../mine"}))
    store.prepare()
    assert {damaged.name for damaged in store.damaged()} == {"one", "two"}
    assert "names a file" in store.damaged()[0].problem
    assert outside.read_text() == "mine"


def test_files_are_readable_as_the_umask_says(store: Store) -> None:
    before = os.umask(0o027)
    store.write(record("one"), scores(0), torch.zeros(1, 2))
    os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in store.cells.glob("one.*")} == {0o640}


def test_hidden_files_are_none_of_ours(store: Store) -> None:
    (store.cells / "._one.json").write_bytes(b"\0\5\26\7")
    store.prepare()
    assert store.records() == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to"):
        Store(tmp_path / "file" / "results").prepare()
