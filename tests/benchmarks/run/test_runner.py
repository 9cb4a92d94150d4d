"""Running cells: what is timed, kept, skipped, matched, recorded as failed, and resumed."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from benchmarks.check.folders import differences, steady
from benchmarks.grid.cell import Cell
from benchmarks.grid.suite import load_suite, single_cell
from benchmarks.record import FAILED, FINISHED, UNSUPPORTED, Truth, Unfinished
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.run.runner import SKIPPED
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores, MaskedTransformer, Method
from edgewise.discovery import Unsupported
from edgewise.evaluate import compare_with_truth, evaluate
from edgewise.mask_training import MaskTraining
from methods import METHODS
from tasks import TASKS
from tests.benchmarks.run.forked import ForkedRun
from tests.benchmarks.run.small_runs import run_small

_PROGRAM: Any = TASKS["tracr-xproportion"]


@dataclass(frozen=True)
class Failing(Method):
    name: ClassVar[str] = "failing"

    def discover(self, *_: Any, **__: Any) -> Circuit:
        raise RuntimeError("it broke\nin two lines")


@dataclass(frozen=True)
class Unable(Method):
    name: ClassVar[str] = "unable"

    def discover(self, *_: Any, **__: Any) -> Circuit:
        raise Unsupported("no gradients here")


@dataclass(frozen=True)
class Fixed(Method):
    """Finds the edges of the first readers."""

    edges: int
    name: ClassVar[str] = "fixed"

    def discover(self, model: MaskedTransformer, *_: Any, **__: Any) -> Circuit:
        scores = EdgeScores(torch.zeros(model.graph.legal.shape), model.graph)
        return scores.circuit(self.edges)


def cell(method: str, **settings: Any) -> Cell:
    return single_cell(method, "tracr-xproportion", model=None, seed=0, given=settings)


def unfinished(folder: Path) -> list[Unfinished]:
    return [record for record in Store(folder).records() if isinstance(record, Unfinished)]


@pytest.mark.slow
def test_a_cells_record_holds_what_it_was_and_what_it_cost(undisturbed: tuple[Path, Path]) -> None:
    _, folder = undisturbed
    records = Store(folder).finished()
    assert len(records) == 5
    for record in records:
        assert record.seconds > 0 and record.peak_bytes > 0
        assert record.n_edges == 32 and record.ablation == "zero"
        assert record.n_prompts.as_json() == {"train": 256, "validation": 256, "test": 256}
        assert record.environment.packages["torch"] == torch.__version__
        assert record.definition.weights
        assert (record.forward_equivalents > 0) == (record.definition.method != "random")
        assert record.rows[0].truth is not None


def test_rankings_are_cut_at_the_grid_and_at_the_true_circuits_size(
    undisturbed: tuple[Path, Path],
) -> None:
    _, folder = undisturbed
    for record in Store(folder).finished():
        if record.kind == "scores":
            draws: Any = record.definition.settings.get("draws", 1)
            assert [row.edges for row in record.rows] == draws * [32, 16, 6, 5, 3]
            assert all(bool(row.validation) == (draws == 1) for row in record.rows)


def test_rows_say_what_the_stored_circuits_give(undisturbed: tuple[Path, Path]) -> None:
    _, folder = undisturbed
    store, model = Store(folder), _PROGRAM.load_model()
    task = _PROGRAM.build(model, seed=0)
    for record in store.finished():
        assert store.prompt_ids(record.name) == tuple(task.test.clean_hashes())
        found = store.discovery(record.name)
        position = 2
        row = record.rows[0 if isinstance(found, Circuit) else position]
        circuit = found if isinstance(found, Circuit) else found[0].circuit(row.edges)
        values = evaluate(model, task.test, [circuit], metrics=task.metrics, ablation=task.ablation)
        stored = store.prompts(record.name)[record.rows.index(row)]
        torch.testing.assert_close(stored, values[task.primary][0], rtol=1e-3, atol=1e-7)
        for metric, expected in values.items():
            (ends,) = bootstrap_intervals(expected)
            assert row.intervals[metric] == pytest.approx(ends, abs=1e-6)
            assert row.metrics[metric] == pytest.approx(float(expected.mean()), abs=1e-6)
        assert row.truth == Truth(**compare_with_truth(circuit, task.true_circuits["zero"]))
        assert circuit.meta["definition"] == record.definition.as_json()


def test_every_ranking_is_matched_with_every_circuit(undisturbed: tuple[Path, Path]) -> None:
    _, folder = undisturbed
    store = Store(folder)
    records = store.finished()
    found = {row.edges for record in records if record.kind == "circuit" for row in record.rows}
    for record in records:
        if record.kind == "scores":
            draws = record.definition.settings.get("draws", 1)
            rows = store.matched_rows(record.name)
            sizes = [row.edges for row in (*record.rows, *rows)]
            assert all(sizes.count(size) == draws for size in found)


def test_a_finished_run_is_not_run_again(
    undisturbed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, folder = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("benchmarks.run.items.execute", lambda *_, **__: 1 / 0)
    statuses = run_small(load_suite(str(suite)).cells, folder)
    assert list(statuses.values()) == [SKIPPED] * 5 + [FINISHED]
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_later_circuits_are_matched_without_running_the_rankings_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "fixed", Fixed)
    run_small([cell("eap")], tmp_path)
    (ranking,) = Store(tmp_path).finished()
    assert not list((tmp_path / "matched").iterdir())
    for edges in (32, 7, 9):
        run_small([cell("fixed", edges=edges)], tmp_path)
    assert ranking in Store(tmp_path).records()
    rows = Store(tmp_path).matched_rows(ranking.name)
    assert [row.edges for row in rows] == [7, 9]
    scores = Store(tmp_path).discovery(ranking.name)
    assert isinstance(scores, list)
    model = _PROGRAM.load_model()
    task = _PROGRAM.build(model, seed=0)
    circuits = [scores[0].circuit(edges) for edges in (7, 9)]
    expected = evaluate(model, task.test, circuits, metrics=task.metrics, ablation="zero")
    for metric, values in expected.items():
        means = [row.metrics[metric] for row in rows]
        assert means == pytest.approx(values.double().mean(1).tolist())


def test_a_connected_ranking_has_one_row_for_each_size_that_it_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its live edges may not be as many as asked for, on the grid or by the size of a circuit."""
    monkeypatch.setitem(METHODS, "fixed", Fixed)
    connected = replace(cell("eap", selection="connected-absolute"), sparsities=(0.0, 0.03, 0.06))
    run_small([connected, cell("fixed", edges=31)], tmp_path)
    store = Store(tmp_path)
    (ranking,) = (record for record in store.finished() if record.kind == "scores")
    found = store.discovery(ranking.name)
    assert isinstance(found, list)
    reached = [found[0].circuit(size).n_edges for size in (32, 31, 30, 5)]
    assert reached == [32, 26, 26, 5]
    assert [row.edges for row in ranking.rows] == [32, 26, 5]
    assert len(store.prompts(ranking.name)) == len(ranking.rows)
    for _ in range(2):
        assert not store.matched_rows(ranking.name)
        run_small([connected], tmp_path)


@pytest.mark.slow
def test_a_training_is_cut_again_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 60, "warmup_steps": 10, "target_warmup_steps": 40, "target_sparsity": 0.6}

    def cut(by: str, **others: Any) -> Cell:
        return cell("edge-pruning", cut=by, **{**settings, **others})

    run_small([cut("ranking")], tmp_path / "trained")
    run_small([cut("threshold", threshold=1.0)], tmp_path / "cut")
    monkeypatch.delattr(MaskTraining, "step")
    run_small([cut("ranking"), cut("sparsity")], tmp_path / "cut")
    records = Store(tmp_path / "cut").finished()
    ranking, largest, above = sorted(records, key=lambda one: str(one.definition.settings["cut"]))
    assert [ranking.trained_in, largest.trained_in] == [above.name] * 2
    assert {record.seconds for record in records} == {above.seconds}
    assert largest.rows[0].edges != above.rows[0].edges
    (trained,) = steady(tmp_path / "trained").values()
    cut_again = steady(tmp_path / "cut")[ranking.name]
    assert cut_again == {**trained, "trained_in": above.name}
    assert FAILED in run_small([cut("ranking", steps=61)], tmp_path / "cut").values()


@pytest.mark.slow
def test_a_failing_cell_is_recorded_stops_no_other_and_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "failing", Failing)
    failing, working = cell("failing"), cell("eap")
    statuses = run_small([failing, working], tmp_path)
    assert sorted(statuses.values()) == sorted([FAILED, FINISHED, FINISHED])
    (failed,) = unfinished(tmp_path)
    assert failed.error.message == "it broke in two lines"
    assert "RuntimeError" in failed.error.traceback
    monkeypatch.setattr(Failing, "discover", lambda *_, **k: METHODS["eap"]().discover(*_[1:], **k))
    statuses = run_small([failing, working], tmp_path)
    assert statuses[failed.name] == FINISHED and SKIPPED in statuses.values()


def test_a_dtype_that_the_device_lacks_ends_a_run_before_any_cell(tmp_path: Path) -> None:
    known = cell("eap")
    tf32 = replace(known, bench=replace(known.bench, dtype="tf32"))
    with pytest.raises(ValueError, match="tf32"):
        run_small([known, tf32], tmp_path)
    assert not Store(tmp_path).records()


def test_what_a_method_does_not_support_is_recorded_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "unable", Unable)
    assert UNSUPPORTED in run_small([cell("unable")], tmp_path).values()
    assert SKIPPED in run_small([cell("unable")], tmp_path).values()
    (record,) = unfinished(tmp_path)
    assert record.error.message == "no gradients here"


def test_tasks_that_cannot_be_built_are_named_before_the_first_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unbuildable:
        name = description = "unbuildable"
        version, owns_model, digest = 1, True, None

        def load_model(self, **options: Any) -> Any:
            return _PROGRAM.load_model(**options)

        def build(self, *_: object, **__: object) -> None:
            raise ValueError("too few words")

    monkeypatch.setitem(TASKS, "unbuildable", Unbuildable())
    cells = [
        single_cell("random", task, model=None, seed=seed, given={})
        for task in ("tracr-xproportion", "unbuildable")
        for seed in (0, 1)
    ]
    with pytest.raises(ValueError) as error:
        run_small(cells, tmp_path)
    assert str(error.value) == "unbuildable: too few words"
    assert not Store(tmp_path).records()


def test_a_setting_of_no_use_on_a_task_ends_a_run_before_any_cell(tmp_path: Path) -> None:
    cells = [cell("eap"), cell("acdc", objective="KL"), cell("acdc", objective="kl")]
    with pytest.raises(ValueError, match="tracr-xproportion: objective='KL'; expected one of"):
        run_small(cells, tmp_path)
    assert not list(Store(tmp_path).cells.glob("*"))


@pytest.mark.slow
def test_several_jobs_give_the_same_results(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    suite, folder = undisturbed
    cells = [c for c in load_suite(str(suite)).cells if c.method in ("acdc", "random")]
    assert set(run_small(cells, tmp_path, jobs=2).values()) == {FINISHED}
    expected = steady(folder)
    found = steady(tmp_path)
    assert len(found) == 2
    assert found == {name: expected[name] for name in found}


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_an_undisturbed_one(
    undisturbed: tuple[Path, Path], tmp_path: Path
) -> None:
    suite, folder = undisturbed
    results = tmp_path / "results"
    command = ["run", str(suite), "--out", str(results)]

    def some(pattern: str, n: int = 1) -> Callable[[], bool]:
        return lambda: len(list(results.glob(pattern))) >= n

    kill_when(some("cells/*.json"), command, tmp_path / "first")
    kill_when(some("cells/*-eap-*.json", 2), command, tmp_path / "second")
    trains = some("checkpoints/*-edge-pruning-*.safetensors")
    third = tmp_path / "third"
    kill_when(trains, [*command, "--jobs", "2"], third, sent=signal.SIGTERM)
    assert third.read_text() == "stopped; run the same command to go on\n"
    assert not some("cells/*-edge-pruning-*.json")()
    last = tmp_path / "last"
    assert ForkedRun(command, last).wait() == 0, last.read_text()
    assert not differences(results, folder)


def kill_when(
    reached: Callable[[], bool], command: list[str], said: Path, *, sent: int = signal.SIGKILL
) -> None:
    """Start the run and send it a signal once something is there."""
    run = ForkedRun([*command, "--checkpoint-every", "0"], said)
    try:
        while not reached():
            assert run.poll() is None, said.read_text()
            time.sleep(0.01)
    finally:
        os.kill(run.pid, sent)
        run.wait()
