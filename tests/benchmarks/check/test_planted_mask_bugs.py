"""The check sees bugs of methods that train masks, of node scores, and of rankings of searches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.graph import Graph
from edgewise.mask_training import MaskTraining
from methods import (
    acdc_ranking,
    edge_pruning_curve,
    hisp,
    matryoshka,
    subnetwork_probing,
    ugs,
    warm_start,
)
from tests.benchmarks.check.planted import differences

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]  # as `edgewise check` runs

Patch = pytest.MonkeyPatch
IOI = "ioi-t1"
TASKS = {"edge-pruning-curve": "tracr-xproportion", "acdc-ranking": "tracr-reverse"}
"""Where the reference cell of a method is, if not on IOI."""


def threshold_without_gradient(patch: Patch) -> None:
    """The threshold of the soft choice does not move with the scores."""

    def planted(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (masks,) = ctx.saved_tensors
        return masks * (1 - masks) / ctx.temperature * gradient, None, None

    patch.setattr(matryoshka._SoftTopK, "backward", staticmethod(planted))


def other_temperature(patch: Patch) -> None:
    soft_top_k = matryoshka.soft_top_k
    patch.setattr(matryoshka, "soft_top_k", lambda scores, size, _: soft_top_k(scores, size, 1.0))


def other_objective(patch: Patch) -> None:
    patch.setattr(matryoshka.Matryoshka, "loss", lambda self, task: task.training_loss)


def every_mask_counts(patch: Patch) -> None:
    """Masks that are 0 or 1 give the probability a gradient, too."""
    patch.setattr(ugs, "INTERIOR", -1.0)


def one_mask_for_all_repeats(patch: Patch) -> None:
    """Every prompt runs once only, whatever the method asks for."""
    draw = MaskTraining._draw
    patch.setattr(MaskTraining, "_draw", lambda self: draw(self)[:: self._repeats])


def readers_stay(patch: Patch) -> None:
    """Edges from kept writers lead to removed components as well."""
    patch.setattr(Graph, "between", lambda self, writers: self.legal & writers)


def zeros_are_penalised(patch: Patch) -> None:
    zero = subnetwork_probing.probability_of_zero
    patch.setattr(subnetwork_probing, "probability_of_zero", lambda values: 1 - zero(values))


def the_end_alone_is_noted(patch: Patch) -> None:
    """The circuits on the way are those of the training's end."""
    start_step = edge_pruning_curve.NotedMasks.start_step

    def planted(self: Any, step: int) -> float:
        self._noted_at = set()
        return start_step(self, step)

    patch.setattr(edge_pruning_curve.NotedMasks, "start_step", planted)


def layers_as_they_are(patch: Patch) -> None:
    """Importances are not divided by their layer's norm."""
    patch.setattr(torch.linalg, "vector_norm", lambda values: torch.ones((), dtype=values.dtype))


def signs_cancel(patch: Patch) -> None:
    """The absolute value is taken of each edge, not of their sum."""

    def planted(self: Any, batch: Any) -> Tensor:
        clean = batch.trace()
        scores = clean.scores(batch.loss(clean.logits, clean.logits), batch.difference(clean))
        return scores.abs().sum(1, keepdim=True) * batch.model.graph.legal

    patch.setattr(hisp.HISP, "scores", planted)


def every_edge_is_allowed(patch: Patch) -> None:
    """A warm start is not restricted to the top of its ranking."""
    patch.setattr(warm_start, "n_edges_at", lambda graph, _: graph.n_edges)


def the_ranking_is_forgotten(patch: Patch) -> None:
    """A warm start begins with open masks whatever its ranking says."""
    patch.setattr(warm_start, "starting_log_alpha", lambda *_: None)


def worst_edges_come_first(patch: Patch) -> None:
    places = acdc_ranking.places
    patch.setattr(acdc_ranking, "places", lambda kept: -places(kept))


def one_threshold_for_all_searches(patch: Patch) -> None:
    thresholds = property(lambda self: [self.highest] * self.searches)
    patch.setattr(acdc_ranking.ACDCRanking, "thresholds", thresholds)


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (threshold_without_gradient, "matryoshka"),
    (other_temperature, "matryoshka"),
    (other_objective, "matryoshka"),
    (every_mask_counts, "ugs"),
    (one_mask_for_all_repeats, "ugs"),
    (the_end_alone_is_noted, "edge-pruning-curve"),
    (readers_stay, "node-pruning"),
    (zeros_are_penalised, "subnetwork-probing"),
    (layers_as_they_are, "hisp"),
    (signs_cancel, "hisp"),
    (every_edge_is_allowed, "warm-start"),
    (the_ranking_is_forgotten, "warm-start"),
    (worst_edges_come_first, "acdc-ranking"),
    (one_threshold_for_all_searches, "acdc-ranking"),
]


@pytest.mark.parametrize(
    ("plant", "method"), BUGS, ids=[f"{plant.__name__}-{method}" for plant, method in BUGS]
)
def test_a_planted_bug_is_seen(
    plant: Callable[[Patch], None], method: str, monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    found = {difference.metric for difference in differences(method, TASKS.get(method, IOI))}
    assert any("found anew" in metric or "score" in metric for metric in found)
