"""Edge Pruning that starts from a ranking and keeps within its best edges."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from torch import Generator

from edgewise.circuit import Circuit, EdgeScores, n_edges_at
from edgewise.discovery import Unsupported
from edgewise.hard_concrete import REMOVED, mask_without_noise
from edgewise.method import Method
from edgewise.warm_start import starting_log_alpha
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from methods.edge_pruning_curve import EdgePruningCurve
from methods.node_pruning import NodePruning
from methods.random import Random
from methods.warm_start import WarmStart
from tests.methods import toys

SCHEDULE: dict[str, Any] = {
    "steps": 30,
    "warmup_steps": 3,
    "target_warmup_steps": 20,
    "batch_size": 5,
}
TRAINED = EdgePruning(**SCHEDULE)


def discover(method: Method, ranker: Method | None = None, trainer: Method = TRAINED) -> Any:
    if isinstance(method, WarmStart):
        method = method.around([ranker or EAP(), trainer])
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    return method.discover(model, task, generator=Generator().manual_seed(0))


def ranking_of(values: torch.Tensor) -> EdgeScores:
    return EdgeScores(values, toys.gpt2().graph)


def test_open_masks_on_all_edges_are_an_ordinary_start(unchecked: None) -> None:
    found = discover(WarmStart(restrict=1.0, init="open", target_sparsity=0.7))
    ordinary = discover(dataclasses.replace(TRAINED, target_sparsity=0.7))
    assert torch.equal(found.mask, ordinary.mask)
    assert torch.equal(found.extra["log_alpha"], ordinary.extra["log_alpha"])


@pytest.mark.parametrize("init", ["ranking", "open"])
@pytest.mark.parametrize("trainer", [TRAINED, EdgePruningCurve(**SCHEDULE, circuits=5)])
def test_an_edge_that_ranks_too_low_is_never_in_a_circuit(
    init: Any, trainer: Method, unchecked: None
) -> None:
    best = discover(EAP())
    allowed = best.circuit(n_edges_at(best.graph, 0.7)).mask
    found = discover(WarmStart(restrict=0.3, init=init, target_sparsity=0.8), trainer=trainer)
    log_alpha = found.extra["log_alpha"]
    assert bool((log_alpha[best.graph.legal & ~allowed] == REMOVED).all())
    assert bool((log_alpha[allowed] > REMOVED).all())
    if isinstance(found, Circuit):
        assert found.n_edges > 0 and not bool((found.mask & ~allowed).any())
    else:
        assert torch.equal(found.circuit(int(allowed.sum())).mask, allowed)


def test_masks_start_in_the_order_of_the_ranking_with_the_sparsity_asked_for() -> None:
    graph = toys.gpt2().graph
    ranking = ranking_of(torch.randn(graph.legal.shape, generator=Generator().manual_seed(1)))
    allowed = ranking.circuit(graph.n_edges // 2).mask
    log_alpha = starting_log_alpha(ranking, allowed, 0.75)
    masks = mask_without_noise(log_alpha.flatten()).view_as(log_alpha)
    for block in graph.blocks:
        into = allowed[block.readers]
        own, values = masks[block.readers][into], ranking.values[block.readers][into]
        assert float(own.mean()) == pytest.approx(0.25, abs=1e-6)
        assert bool((own[values.argsort()].diff() > 0).all())
    flat = starting_log_alpha(ranking_of(torch.ones(graph.legal.shape)), graph.legal, 0.75)
    assert mask_without_noise(flat[graph.legal]) == pytest.approx(0.25, abs=1e-6)


def test_the_target_is_never_below_the_sparsity_at_the_start(unchecked: None) -> None:
    model, task = toys.gpt2(torch.float32), toys.task()
    graph = model.graph
    masks = TRAINED.training(model, task, Generator().manual_seed(0)).masks
    assert hasattr(masks, "start_from")
    few = ranking_of(torch.rand(graph.legal.shape)).circuit(graph.n_edges // 4).mask
    masks.start_from(None, few)  # type: ignore[attr-defined]
    targets = []
    for step in range(TRAINED.steps):
        masks.start_step(step)
        targets.append(float(masks._targets[0]))  # type: ignore[attr-defined]
    least = 1 - int(few.sum()) / graph.n_edges
    assert targets == pytest.approx([max(least, 0.98 * min(1, n / 20)) for n in range(30)])


def test_it_costs_the_ranking_and_the_training() -> None:
    def passes(method: Method) -> float:
        passes = method.most_passes(toys.gpt2().graph, 5)
        assert passes is not None
        return passes

    assert passes(WarmStart().around([EAP(), TRAINED])) == passes(EAP()) + passes(TRAINED)


def test_what_cannot_be_combined_is_refused_before_it_runs() -> None:
    for ranker, trainer, message in (
        (ACDC(), TRAINED, "Warm start from ACDC, which gives a circuit"),
        (Random(), TRAINED, "Warm start from Random, which gives several rankings"),
        (EAP(), NodePruning(**SCHEDULE), "Warm start of Node pruning; expected Edge Pruning"),
        (EAP(), EAP(), "Warm start of EAP; expected Edge Pruning"),
    ):
        with pytest.raises(Unsupported, match=re.escape(message)):
            discover(WarmStart(), ranker, trainer)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("eap, gim, edge-pruning", "expected two methods"),
        ("eap, edge-pruning(target_sparsity=0.9)", "expected no target_sparsity inside"),
    ],
)
def test_methods_that_make_no_sense_are_refused(methods: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarmStart(methods=methods)
