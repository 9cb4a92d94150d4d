"""The check sees what it is for: each bug, planted in the running code, makes a difference."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise import hard_concrete, mask_training
from edgewise.architectures.gpt2 import GPT2Architecture
from edgewise.attribution import PromptBatch
from edgewise.constrained_masks import ConstrainedMasks
from edgewise.graph import Graph
from edgewise.metrics import KL
from edgewise.prompts import PromptPairs
from edgewise.transformer import MaskedTransformer
from tests.benchmarks.check.planted import differences, metrics, of_stored_circuits, scores_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]  # as `edgewise check` runs


def test_swapped_rows_of_k_and_v_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run = MaskedTransformer.run

    def swapped(graph: Graph) -> Tensor:
        other = {"k": "v", "v": "k"}
        names = [name[:-1] + other.get(name[-1], name[-1]) for name in graph.readers]
        return torch.tensor([graph.readers.index(name) for name in names])

    def planted(self: Any, buffer: Any, mask: Tensor, *rest: Any, **options: Any) -> Tensor:
        return run(self, buffer, mask[..., swapped(self.graph), :], *rest, **options)

    monkeypatch.setattr(MaskedTransformer, "run", planted)
    found = metrics(differences("mask-ig", "ioi-t1"))
    assert of_stored_circuits(found, "kl")
    assert scores_of(found) == {"score", "signed"}


def test_a_corrupted_batch_rolled_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    both = MaskedTransformer.logits_and_activations
    monkeypatch.setattr(
        MaskedTransformer,
        "logits_and_activations",
        lambda self, clean, corrupted, *rest: both(self, clean, corrupted.roll(1, 0), *rest),
    )
    alone = MaskedTransformer.activations
    monkeypatch.setattr(
        MaskedTransformer,
        "activations",
        lambda self, corrupted, *rest: alone(self, corrupted.roll(1, 0), *rest),
    )
    found = metrics(differences("eap", "ioi-t1"))
    assert of_stored_circuits(found, "kl")
    assert scores_of(found) == {"score", "signed"}


def test_a_reversed_kl_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        log_p, log_q = full.log_softmax(-1), logits.log_softmax(-1)
        return (log_q.exp() * (log_q - log_p)).sum(-1).mean(-1)

    monkeypatch.setattr("tasks.shared.years.kl_divergence", planted)
    monkeypatch.setitem(vars(KL), "function", planted)
    found = metrics(differences("acdc", "greater-than"), "greater-than (interchange ablation)")
    assert {"year_kl of the stored circuit", "kl of the stored circuit", "objective"} <= found


def test_edge_pruning_without_weight_decay_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    optimiser = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim,
        "AdamW",
        lambda *groups, **options: optimiser(*groups, **{**options, "weight_decay": 0.0}),
    )
    task = "gendered-pronoun"
    found = metrics(differences("edge-pruning", task), f"{task} (interchange ablation)")
    assert found == {"kl of the circuit found anew", "edges of the circuit found anew"}


def test_zeros_of_edge_pruning_counted_over_all_edges_at_once_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        hard_concrete, "tensor_sizes", lambda graph: ([graph.n_edges], [len(graph.writers)])
    )
    task = "tracr-xproportion"
    found = metrics(differences("edge-pruning", task), f"{task} (zero ablation)")
    assert found == {"edges of the circuit found anew"}


def test_edge_pruning_without_clipped_gradients_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConstrainedMasks, "max_gradient_norm", 1e9)
    found = metrics(differences("edge-pruning", "ioi-t1"))
    assert found == {"edges of the circuit found anew"}


def test_one_sample_of_the_masks_for_all_parts_of_a_batch_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mask_training, "samples_of", lambda places, *_: torch.zeros_like(places))
    task = "tracr-histogram"
    found = metrics(differences("edge-pruning", task), f"{task} (zero ablation)")
    assert found == {"kl of the circuit found anew", "edges of the circuit found anew"}


def test_a_flipped_sign_of_eap_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    difference = PromptBatch.difference
    monkeypatch.setattr(PromptBatch, "difference", lambda self, clean: -difference(self, clean))
    found = metrics(differences("eap", "ioi-t1"))
    assert len(found) == 1 and scores_of(found) == {"signed"}


def test_the_whole_output_bias_on_head_0_is_seen_under_zero_ablation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attention = GPT2Architecture.attention

    def planted(
        self: Any, layer: int, x: Tensor, heads: Tensor | None = None, *run_after: Any
    ) -> Tensor:
        bias = self._layers[layer].attn.c_proj.bias
        chosen = torch.arange(self.n_heads) if heads is None else heads
        weights = (chosen == 0).float() - 1 / self.n_heads
        return attention(self, layer, x, heads, *run_after) + weights[:, None] * bias

    monkeypatch.setattr(GPT2Architecture, "attention", planted)
    found = differences("eap", "ioi-t1")
    assert {difference.task for difference in found} == {"ioi-t1 (zero ablation)"}
    assert of_stored_circuits(metrics(found, "ioi-t1 (zero ablation)"), "kl")


def test_testing_the_inputs_of_dead_nodes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "is_dead", lambda *_: False)
    task = "tracr-reverse"
    found = metrics(differences("acdc", task), f"{task} (interchange ablation)")
    assert found == {"tested", "dropped"}
