"""The check and its recording, on a small suite: what is compared, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.check import recording
from benchmarks.check.check import (
    Difference,
    check,
    check_folder,
    compare_discovery,
    references,
)
from benchmarks.check.recording import record_reference, rounded_otherwise
from benchmarks.cli import main
from benchmarks.grid.suite import parse_suite
from benchmarks.record import FAILED, Failure, Finished, Reference, Unfinished
from benchmarks.store import Store, first_of
from edgewise import Circuit, EdgeScores, MaskedTransformer
from tasks.models.bundled import FOLDER
from tests.benchmarks.samples import SMALL_SUITE, edited, estimated
from tests.shapes import unchecked_shapes

pytestmark = pytest.mark.usefixtures("unchecked")  # as `edgewise check` runs

SIZES = "\n[task.tracr-xproportion]\ntrain = 64\nvalidation = 32\ntest = 64\n"
SUITE = SMALL_SUITE.replace("\nsteps = 60", "\nsteps = 20") + SIZES
CELLS = parse_suite(SUITE, "small.toml").cells
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    with unchecked_shapes():
        record_reference(CELLS, folder=folder, threads=(2, 1))
    return folder


COST = {
    "seconds": 1.0,
    "flops": 1,
    "forward_equivalents": 1.0,
    "peak_bytes": 1,
    "peak_memory_source": "none",
}


def as_finished(record: Reference) -> Finished:
    """What a run would have stored, at a made-up cost."""
    fields = {name: value for name, value in record.as_json().items() if name != "anew"}
    fields["rows"] = [{**row, **estimated(row["metrics"])} for row in fields["rows"]]
    return Finished.model_validate({**fields, **COST})


@pytest.fixture
def changed(recorded: Path, tmp_path: Path) -> Callable[[str, Change], Path]:
    """What a run would have stored, but for a change of the record of one method's cell."""

    def change(method: str, edit: Change) -> Path:
        old, new = Store(recorded), Store(tmp_path / "run")
        new.prepare()
        for record in references(recorded):
            if record.definition.method == method:
                record = edited(record, edit)
            new.write(as_finished(record), old.discovery(record.name))
        return new.folder

    return change


def unchanged(_: dict[str, Any]) -> None:
    pass


@pytest.mark.slow
def test_what_was_recorded_is_found_again_on_another_number_of_threads(
    changed: Callable[[str, Change], Path], recorded: Path
) -> None:
    threads = torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        assert check(CELLS, reference=recorded) == []
    torch.set_num_threads(threads)
    folder = changed("acdc", unchanged)
    assert check_folder(folder, reference=recorded) == (len(CELLS), [])


@pytest.mark.slow
def test_a_new_recording_replaces_the_old_whatever_the_order_of_the_threads(
    recorded: Path,
) -> None:
    cells = recorded / "cells"
    before = {file.name: file.read_text() for file in cells.glob("*.json")}
    (cells / "gone.json").write_text("{}")
    record_reference(CELLS, folder=recorded, threads=(1, 2))
    assert {file.name: file.read_text() for file in cells.glob("*.json")} == before


@pytest.mark.slow
def test_a_record_is_sorted_and_rounded_and_counts_no_seconds(recorded: Path) -> None:
    for file in (recorded / "cells").glob("*.json"):
        record = json.loads(file.read_text())
        sorted_text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False)
        assert file.read_text() == sorted_text + "\n"
        assert {"environment", "definition", "rows"} <= set(record)
        assert "seconds" not in record
        for row in record["rows"]:
            assert all(float(f"{value:.6g}") == value for value in row["metrics"].values())


def test_a_changed_number_is_one_line_that_names_it(
    changed: Callable[[str, Change], Path], recorded: Path
) -> None:
    folder = changed("acdc", lambda record: record["notes"].update(tested=7))
    expected = next(r for r in references(recorded) if r.definition.method == "acdc")
    tested = expected.notes["tested"]
    (difference,) = check_folder(folder, reference=recorded)[1]
    assert str(difference) == (
        "task tracr-xproportion (zero ablation), method acdc threshold=0.01, "
        f"metric tested: expected {tested}, got 7, tolerance 0"
    )


def test_a_number_that_is_not_found_again_is_seen(recorded: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    (record,) = (r for r in references(recorded) if r.definition.method == "acdc")
    changed = edited(record, lambda fields: fields["notes"].update(tested=7))
    store.write(changed, Store(recorded).discovery(record.name))
    (again,) = check([c for c in CELLS if c.method == "acdc"], reference=tmp_path)
    assert (again.expected, again.got) == (7, record.notes["tested"])


def test_a_number_may_be_off_by_less_than_the_tolerance(
    changed: Callable[[str, Change], Path], recorded: Path
) -> None:
    def nudge(record: dict[str, Any], by: float) -> None:
        record["rows"][0]["metrics"]["accuracy"] += by

    folder = changed("eap", lambda record: nudge(record, 0.5e-4))
    assert check_folder(folder, reference=recorded)[1] == []
    folder = changed("eap", lambda record: nudge(record, 2e-4))
    found = check_folder(folder, reference=recorded)[1]
    assert {difference.metric for difference in found} == {"accuracy at 32 edges"}


def test_another_circuit_of_edge_pruning_is_seen(
    changed: Callable[[str, Change], Path], recorded: Path
) -> None:
    folder = changed("edge-pruning", lambda record: record["rows"][0].update(edges=3))
    (difference,) = check_folder(folder, only="edge-pruning", reference=recorded)[1]
    assert difference.metric == "edges of the circuit found anew"
    assert 0 < difference.tolerance <= 0.2 * difference.expected


def test_another_circuit_and_other_scores_are_seen(recorded: Path, tmp_path: Path) -> None:
    old, new = Store(recorded), Store(tmp_path)
    new.prepare()
    for record in references(recorded):
        found = old.discovery(record.name)
        if isinstance(found, Circuit):
            found.mask[-1, 0] ^= True
        else:
            found[-1].values[-1, 0] += 1
        new.write(as_finished(record), found)
    found = check_folder(tmp_path, reference=recorded)[1]
    assert {(d.method.split()[0], d.metric) for d in found} == {
        ("acdc", "edges changed"),
        ("eap", "score of tok->out"),
        ("random", "score of tok->out, draw 2"),
    }


def test_another_number_of_a_writer_is_seen(recorded: Path) -> None:
    """Beside a ranking there may be numbers of writers instead of edges."""
    record = next(one for one in references(recorded) if one.kind == "scores")
    scores = first_of(Store(recorded).discovery(record.name))
    assert isinstance(scores, EdgeScores)
    before = torch.zeros(len(scores.graph.writers))
    after = before + torch.eye(len(before))[1]
    old, new = (replace(scores, extra={"log_alpha": of_writers}) for of_writers in (before, after))
    (difference,) = compare_discovery(record, old, new, record.notes)
    assert difference.metric == f"log_alpha of {scores.graph.writers[1]}"
    assert (difference.expected, difference.got) == (0.0, 1.0)


def test_a_cell_that_failed_is_a_difference(
    changed: Callable[[str, Change], Path], recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed("random", unchanged)
    (record,) = (r for r in references(recorded) if r.definition.method == "random")
    error = Failure(message="it broke", traceback="...")
    named = {"name": record.name, "definition": record.definition}
    failed = Unfinished(status=FAILED, error=error, environment=record.environment, **named)
    Store(folder).write(failed)
    (difference,) = check_folder(folder, only="random", reference=recorded)[1]
    assert (difference.metric, difference.got) == ("outcome", FAILED)

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError("no result")

    monkeypatch.setattr("methods.random.Random.discover", fail)
    (difference,) = check([c for c in CELLS if c.method == "random"], reference=recorded)
    assert (difference.metric, difference.got) == ("outcome", "ArithmeticError: no result")


def test_cells_without_values_and_folders_without_cells_are_errors(
    recorded: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no values of 5 cells in .*, such as tracr-xproportion"):
        check(CELLS, reference=tmp_path)
    with pytest.raises(ValueError, match="no reference cell in"):
        check_folder(tmp_path, reference=recorded)
    with pytest.raises(ValueError, match=r"no reference values in .*none: they come with a clone"):
        check_folder(tmp_path, reference=tmp_path / "none")


def test_a_cell_that_is_missing_is_a_difference(
    changed: Callable[[str, Change], Path], recorded: Path
) -> None:
    folder = changed("acdc", unchanged)
    (name,) = (r.name for r in references(recorded) if r.definition.method == "acdc")
    (folder / "cells" / f"{name}.json").unlink()
    n_compared, (difference,) = check_folder(folder, reference=recorded)
    assert n_compared == len(CELLS) - 1
    assert (difference.metric, difference.got) == ("outcome", f"no cell {name}")


@pytest.mark.slow
def test_cells_that_are_not_steady_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 1.05, 1.3, 1.0])
    monkeypatch.setattr(recording, "anew_values", lambda _: {"kl": next(values, 1.0)})
    trained = [cell for cell in CELLS if cell.method == "edge-pruning"]
    with pytest.raises(ValueError, match=r"a kl of 1 \(1 thread\), 1.05 \(2 threads\), 1.3 \(roun"):
        record_reference(trained, folder=tmp_path, threads=(1, 2))
    changed = Difference("t", "m", "tested", 1, 2, 0.0)
    monkeypatch.setattr(recording, "compare_discovery", lambda *_: [changed])
    exact = [cell for cell in CELLS if cell.method == "acdc"]
    with pytest.raises(ValueError, match="2 threads give another result than 1, such as task t"):
        record_reference(exact, folder=tmp_path, threads=(1, 2))
    assert not list(tmp_path.iterdir())


def test_weights_are_rounded_otherwise_for_a_while() -> None:
    model = MaskedTransformer.from_pretrained(FOLDER)
    before = model.weight_hash
    weight = next(iter(model.architecture.weights().values()))
    old = weight.clone()
    with rounded_otherwise(model, 1):
        assert not torch.equal(weight, old)
        torch.testing.assert_close(weight, old, rtol=5e-7, atol=0)
    del model.weight_hash
    assert model.weight_hash == before


def test_the_command_ends_with_1_for_a_difference_and_2_for_a_mistake(
    changed: Callable[[str, Change], Path], recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = partial(check_folder, reference=recorded)
    monkeypatch.setattr("benchmarks.check.check.check_folder", compare)
    folder = changed("acdc", lambda record: record["notes"].update(tested=7))
    result = CliRunner().invoke(main, ["check", str(folder)])
    assert result.exit_code == 1
    difference, summary = result.stdout.splitlines()
    assert "metric tested" in difference and summary == "Compared 5 reference cells; differences: 1"
    result = CliRunner().invoke(main, ["check", str(changed("acdc", unchanged))])
    assert result.exit_code == 0
    assert result.stdout == "Compared 5 reference cells; differences: 0\n"
    result = CliRunner().invoke(main, ["check", str(folder), "--record"])
    assert result.exit_code == 2 and "leave DIR and --only out" in result.stderr
