"""The check sees bugs of the forward pass, of prompts and of how circuits are cut.

Each class of bugs is planted in two places.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise import batches
from edgewise.architectures import attention, decoder, gpt2
from edgewise.architectures.decoder import Decoder
from edgewise.architectures.gpt2 import GPT2Architecture
from edgewise.batches import Batch, mean_activations
from edgewise.circuit import EdgeScores
from edgewise.graph import Graph
from edgewise.prompts import PromptPairs
from tests.benchmarks.check.planted import differences

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]  # as `edgewise check` runs

Patch = pytest.MonkeyPatch


def without_rotary_offset(patch: Patch) -> None:
    """Positions start anew after a shared beginning."""
    qkv = Decoder._qkv

    def planted(self: Any, layer: int, x: Tensor, heads: Any, places: Tensor) -> Any:
        return qkv(self, layer, x, heads, places - places[:, :1])

    patch.setattr(Decoder, "_qkv", planted)


def without_position_offset(patch: Patch) -> None:
    """The same, of positions that are embedded."""
    embed = GPT2Architecture.embed
    patch.setattr(GPT2Architecture, "embed", lambda self, tokens, *_: embed(self, tokens))


def without_past(patch: Patch) -> None:
    """A shared beginning is not attended to."""
    attend = attention.attend
    for module in (gpt2, decoder):
        patch.setattr(module, "attend", lambda q, k, v, *_, **options: attend(q, k, v, **options))


def past_hidden(patch: Patch) -> None:
    """The causal mask counts from the beginning's first token instead of its end."""
    tril = Tensor.tril
    patch.setattr(Tensor, "tril", lambda self, diagonal=0: tril(self))


def attention_of(patch: Patch, module: Any, **others: Any) -> None:
    attend = module.attend

    def planted(*given: Any, **options: Any) -> Tensor:
        return attend(*given, **{**options, **others})

    patch.setattr(module, "attend", planted)


def pads_in_means(patch: Patch) -> None:
    """Pads count as tokens."""

    def planted(model: Any, pairs: PromptPairs, **options: Any) -> Tensor:
        full = torch.full_like(pairs.lengths, pairs.clean.shape[1])
        return mean_activations(model, replace(pairs, lengths=full), **options)

    patch.setattr(batches, "mean_activations", planted)


def means_over_clean(patch: Patch) -> None:
    def planted(model: Any, pairs: PromptPairs, **options: Any) -> Tensor:
        return mean_activations(model, replace(pairs, corrupted=pairs.clean), **options)

    patch.setattr(batches, "mean_activations", planted)


def targets_at_the_padded_end(patch: Patch) -> None:
    planted = lambda self: self.pairs.targets * 0 + self.tokens.shape[1] - 1  # noqa: E731
    patch.setattr(Batch, "targets", property(planted))


def targets_one_too_early(patch: Patch) -> None:
    planted = lambda self: self.pairs.targets - len(self.prefix) - 1  # noqa: E731
    patch.setattr(Batch, "targets", property(planted))


def one_edge_fewer(patch: Patch) -> None:
    circuit = EdgeScores.circuit
    patch.setattr(EdgeScores, "circuit", lambda self, n_edges: circuit(self, max(0, n_edges - 1)))


def best_edge_left_out(patch: Patch) -> None:
    ranking = EdgeScores.ranking
    patch.setattr(EdgeScores, "ranking", lambda self: ranking(self).roll(-1))


def no_growth(patch: Patch) -> None:
    patch.setattr(EdgeScores, "_grow", lambda self, order: order)


def growth_from_the_worst(patch: Patch) -> None:
    grow = EdgeScores._grow
    patch.setattr(EdgeScores, "_grow", lambda self, order: grow(self, order.flip(0)))


def all_edges_live(patch: Patch) -> None:
    patch.setattr(Graph, "live", lambda self, mask, ablation: mask)


def live_wherever_out_is_reached(patch: Patch) -> None:
    """Edges count as live although nothing changes at their writers."""
    live = Graph.live
    patch.setattr(Graph, "live", lambda self, mask, ablation: live(self, mask, "zero"))


PLANTED: list[tuple[Callable[[Patch], None], str]] = [
    (without_rotary_offset, "boolean-few-shot"),
    (without_position_offset, "boolean-few-shot"),
    (without_past, "boolean-few-shot"),
    (past_hidden, "boolean-few-shot"),
    (pads_in_means, "ioi"),
    (means_over_clean, "ioi"),
    (targets_at_the_padded_end, "ioi"),
    (targets_one_too_early, "ioi"),
    (one_edge_fewer, "ioi"),
    (best_edge_left_out, "boolean-few-shot"),
    (no_growth, "ioi"),
    (growth_from_the_worst, "ioi"),
    (all_edges_live, "boolean-few-shot"),
    (live_wherever_out_is_reached, "ioi"),
]


@pytest.mark.parametrize(("plant", "task"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_bug_is_seen(
    monkeypatch: Patch, plant: Callable[[Patch], None], task: str
) -> None:
    plant(monkeypatch)
    assert differences("eap", task)


@pytest.mark.parametrize(
    ("module", "task"), [(gpt2, "ioi-t1"), (decoder, "boolean-few-shot")], ids=["gpt2", "llama"]
)
@pytest.mark.parametrize("other", [{"scale": 1.0}, {"causal": False}], ids=["scale", "mask"])
def test_another_attention_is_seen(
    monkeypatch: Patch, module: Any, task: str, other: dict[str, Any]
) -> None:
    attention_of(monkeypatch, module, **other)
    assert differences("eap", task)
