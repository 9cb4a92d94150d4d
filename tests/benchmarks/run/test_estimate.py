"""The estimated cost of a comparison against the cost that was counted."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.grid.suite import single_cell
from benchmarks.run import search_probe
from benchmarks.run.estimate import Speed, discovery_of
from benchmarks.run.loading import Loader
from benchmarks.run.search_probe import SearchCost, probe_search, searches_of
from benchmarks.store import Store, first_of
from edgewise import Graph, Method
from edgewise.wrapper import Wrapper
from methods import METHODS
from methods.acdc import ACDC
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.edge_pruning import EdgePruning
from methods.exact import Exact
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


def around(wrapper: str, *inner: Method, **settings: Any) -> Wrapper:
    made = METHODS[wrapper](**settings)
    assert isinstance(made, Wrapper)
    return made.around(inner)


def test_a_wrapper_costs_what_its_searches_do() -> None:
    acdc, eap = METHODS["acdc"](), METHODS["eap"]()
    assert searches_of(acdc) == [acdc] and searches_of(eap) == []
    assert searches_of(around("acdc-ranking", acdc, searches=3)) == [acdc, acdc, acdc]
    assert searches_of(around("noising-and-denoising", acdc)) == [acdc, acdc]
    assert searches_of(around("ensemble", eap, acdc, eap)) == [acdc]


FINE, COARSE = ACDC(threshold=0.1), ACDC(threshold=0.5)


@pytest.mark.parametrize(
    ("wrapper", "inner", "runs"),
    [
        ("warm-start", [EAPIG(), EdgePruning()], 1),
        ("ensemble", [EAPIG(), FINE, Exact()], 1),
        ("ensemble", [COARSE, EAPIG(), FINE], 1),
        ("noising-and-denoising", [FINE], 2),
        ("acdc-ranking", [COARSE], 5),
    ],
)
def test_a_wrapper_costs_the_sum_of_what_each_inner_method_costs_alone(
    wrapper: str, inner: list[Method], runs: int
) -> None:
    """Of two searches, the coarse one needs far fewer passes, each of which takes longer."""
    model, task = toys.gpt2(), toys.task()
    most = FINE.most_passes(model.graph, 8) or 0.0
    probed: dict[Method, SearchCost] = {
        FINE: SearchCost(0.8 * most, most, 3.0),
        COARSE: SearchCost(0.1 * most, most, 2.0),
    }

    def cost(method: Method) -> tuple[float, float]:
        costs = [(search, probed[search]) for search in searches_of(method)]
        passes, seconds = discovery_of(method, model, task, Speed(1e-4, 2e-4), costs)
        assert passes is not None and min(passes, seconds) > 0
        return passes, seconds

    alone = [cost(method) for method in inner]
    assert cost(around(wrapper, *inner)) == pytest.approx(
        [runs * sum(column) for column in zip(*alone, strict=True)]
    )
    if inner[0] is COARSE:
        assert alone[0][0] == pytest.approx(0.1 * most)


class _Mute(EAP):
    def most_passes(self, graph: Graph, n_prompts: int) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


def test_a_wrapper_of_a_method_that_does_not_say_its_cost_does_not_say_either() -> None:
    model, task = toys.gpt2(), toys.task()
    mute = around("ensemble", EAPIG(), _Mute())
    assert discovery_of(mute, model, task, Speed(1e-4, 2e-4), []) == (None, 0.0)


def test_a_search_that_takes_too_long_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = toys.gpt2(), toys.task()
    acdc = METHODS["acdc"]()
    whole = probe_search(acdc, model, task)
    monkeypatch.setattr(search_probe, "SECONDS", 0.0)
    stopped = probe_search(acdc, model, task)
    assert whole is not None and stopped is not None
    assert whole.passes / 5 < stopped.passes <= stopped.most
