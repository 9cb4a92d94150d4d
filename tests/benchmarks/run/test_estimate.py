"""The estimated cost of a comparison against the cost that was counted."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.grid.suite import single_cell
from benchmarks.run import search_probe
from benchmarks.run.loading import Loader
from benchmarks.run.search_probe import probe_search, search_of
from benchmarks.store import Store, first_of
from edgewise import Graph
from edgewise.wrapper import Wrapper
from methods import METHODS
from tests.methods import toys

STORED = Path(__file__).parents[3] / "results" / "small"


def counted(task: str, method: str, **settings: float) -> list[tuple[float, float]]:
    """For stored cells, the passes that the method says and those that were counted."""
    store = Store(STORED)
    return [
        (
            METHODS[method](**record.definition.settings).most_passes(
                first_of(store.discovery(record.name)).graph, record.n_prompts.train
            )
            or 0.0,
            record.forward_equivalents,
        )
        for record in store.finished()
        if (record.definition.method, record.definition.task) == (method, task)
        and settings.items() <= record.definition.settings.items()
    ]


def test_what_follows_a_reader_is_what_a_change_to_it_runs_again() -> None:
    graph = Graph(n_layers=2, n_heads=2)
    shares = dict(zip(graph.readers, (5 * graph.rerun_shares).tolist(), strict=True))
    assert shares["out"] == pytest.approx(1) and shares["m1"] == pytest.approx(2)
    assert shares["a1.h0.q"] == pytest.approx(2.5) and shares["m0"] == pytest.approx(4)
    assert Graph(n_layers=2, n_heads=2, coupled_heads=True).rerun_shares[0] == pytest.approx(1)


@pytest.mark.parametrize("task", ["ioi", "greater-than", "gendered-pronoun"])
def test_exact_costs_about_what_it_says(task: str) -> None:
    for most, found in counted(task, "exact"):
        assert found <= most < 3 * found


@pytest.mark.slow
def test_a_short_search_tells_the_cost_of_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_probe, "SECONDS", math.inf)
    ((most, found),) = counted("greater-than", "acdc", threshold=0.1)
    cell = single_cell("acdc", "greater-than", model=None, seed=0, given={"threshold": 0.1})
    loader = Loader(torch.device("cpu"))
    cost = probe_search(cell.build(), loader.model(cell.bench), loader.task(cell.bench))
    assert cost is not None
    assert cost.most == most and found / 3 < cost.passes < 3 * found


def test_a_wrapper_costs_what_its_searches_do() -> None:
    ranking = METHODS["acdc-ranking"]()
    assert isinstance(ranking, Wrapper)
    acdc = METHODS["acdc"]()
    assert search_of(ranking.around([acdc])) is acdc and search_of(METHODS["eap"]()) is None


def test_a_search_that_takes_too_long_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = toys.gpt2(), toys.task()
    acdc = METHODS["acdc"]()
    whole = probe_search(acdc, model, task)
    monkeypatch.setattr(search_probe, "SECONDS", 0.0)
    stopped = probe_search(acdc, model, task)
    assert whole is not None and stopped is not None
    assert whole.passes / 5 < stopped.passes <= stopped.most
