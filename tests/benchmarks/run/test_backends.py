"""Cells in processes and on a local Ray: the same results, and a dead worker costs one cell."""

import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.cli import main
from benchmarks.grid.cell import Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.grid.suite import single_cell
from benchmarks.record import FAILED, FINISHED, Unfinished
from benchmarks.run.backends import Backend, Processes, ray_cluster
from benchmarks.run.items import CellItem, Item, Workplace
from benchmarks.run.loading import Loader
from benchmarks.run.runner import SKIPPED, Options, Outcome, run
from benchmarks.store import Store
from edgewise.task import Sizes
from tests.benchmarks.run.light_work import square_or_die

SIZES = Sizes(train=16, validation=8, test=16)


def small_cell(method: str, task: str, **settings: Any) -> Cell:
    cell = single_cell(method, task, model=None, seed=0, given=settings)
    return replace(cell, bench=replace(cell.bench, sizes=SIZES))


CELLS = [small_cell("eap", "tracr-xproportion"), small_cell("random", "tracr-xproportion", draws=2)]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Backend]:
    """A Ray of this machine, started for the tests; it need not clean up after itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ray_cluster("local", gpu=False) as cluster:
            yield cluster


@pytest.fixture
def processes() -> Iterator[Backend]:
    with Processes(2) as backend:
        yield backend


@pytest.fixture(params=["processes", pytest.param("local_ray", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.getfixturevalue(request.param)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_worker_that_dies_costs_its_own_item_alone(backend: Backend, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    items = [(begun, number) for number in (1, 2, 3, 4, 5)]
    ended = {number: result for (_, number), result in backend.map(square_or_die, items)}
    died, raised = ended.pop(2), ended.pop(3)
    assert ended == {1: 1, 4: 16, 5: 25}
    assert isinstance(died, Exception) and not isinstance(died, ValueError)
    assert isinstance(raised, ValueError) and "three" in str(raised)
    assert sorted(begun.read_text().split()) == ["1", "2", "3", "4", "5"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_gives_the_same_results_as_one_process(local_ray: Backend, tmp_path: Path) -> None:
    options = Options(torch.device("cpu"))
    assert set(statuses(run(CELLS, tmp_path / "here", options))) == {FINISHED}
    assert set(statuses(run(CELLS, tmp_path / "ray", options, local_ray))) == {FINISHED}
    here, there = (Store(tmp_path / name).finished() for name in ("here", "ray"))
    assert [record.rows for record in there] == [record.rows for record in here]
    assert {record.environment.jobs for record in there} == {local_ray.jobs}


@pytest.mark.slow
def test_a_cell_whose_worker_died_is_recorded_as_failed_and_run_again(tmp_path: Path) -> None:
    class Losing:
        jobs = 2

        def map(self, function: Any, items: Any) -> Any:
            for item in items:
                lost = isinstance(item, CellItem) and item.cell.method == "eap"
                yield item, OSError("worker\ngone") if lost else function(item)

    options = Options(torch.device("cpu"))
    outcomes = run(CELLS, tmp_path, options, Losing())
    assert statuses(outcomes) == [FAILED, FINISHED, FINISHED]
    (lost,) = (r for r in Store(tmp_path).records() if isinstance(r, Unfinished))
    assert lost.error.message == "worker gone" == outcomes[0].message
    assert statuses(run(CELLS, tmp_path, options)) == [SKIPPED, FINISHED, FINISHED]


def test_workers_take_over_trainings_and_compare_circuits_once_they_are_found(
    tmp_path: Path,
) -> None:
    stages: list[list[str]] = []

    class Noting:
        jobs = 2

        def map(self, function: Any, items: Any) -> Any:
            stages.append([type(pickle.loads(pickle.dumps(item))).__name__ for item in items])
            return ((item, Outcome(item.label, FINISHED)) for item in items)

    other = small_cell("eap", "tracr-reverse")
    crossing = Crossing(CELLS[0], other)
    tested = small_cell("acdc", CELLS[0].bench.task)
    searches = [Search(tested, "threshold", 0.1, 1.0, 0.5)]
    cuts = [
        small_cell("edge-pruning", "tracr-reverse", cut=cut)
        for cut in ("sparsity", "ranking", "threshold")
    ]
    options = Options(torch.device("cpu"))
    plan: Any = {"searches": searches, "crossings": [crossing]}
    run([*CELLS, other, *cuts], tmp_path, options, Noting(), **plan)
    assert stages == [
        ["CellItem", "CellItem", "SearchItem", "CellItem", "CellItem"],
        ["CellItem", "CellItem"],
        ["MatchingItem", "MatchingItem", "CrossingItem"],
    ]


def test_a_worker_keeps_what_it_has_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneWorker:
        jobs = 2

        def map(self, function: Any, items: Any) -> Any:
            return ((item, function(item)) for item in items)

    loaders: list[Loader] = []

    def noting(item: Item, place: Workplace, *, wait: bool) -> Outcome:
        loaders.append(place.loader)
        return Outcome(item.label, FINISHED)

    monkeypatch.setattr("benchmarks.run.runner.attempt", noting)
    run(CELLS, tmp_path, Options(torch.device("cpu")), OneWorker())
    assert len(loaders) == 3 and len(set(loaders)) == 1


def test_without_ray_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(main, ["run", "quick", "--jobs", "ray", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: jobs are to run on Ray, which is not installed: pip install 'edgewise[ray]'"
    ]


@pytest.mark.parametrize(
    ("jobs", "part"),
    [("many", "'many' is not a valid"), ("0", "0 is not in the range"), ("2", "with --jobs 2")],
)
def test_jobs_that_are_none_are_an_error(jobs: str, part: str) -> None:
    command = ["run", "quick", "--jobs", jobs, "--ray-address", "nowhere:1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2 and part in result.stderr


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]
