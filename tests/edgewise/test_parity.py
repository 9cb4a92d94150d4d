"""What two other tools give on the same random GPT-2: Edge Pruning's own model, and EAP-IG.

Their order of writers and readers is that of this project; EAP-IG's matrices are [writer, reader],
with one joint writer for both embeddings.
"""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.metrics import KL, LOGIT_DIFFERENCE, kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.eap import EAP
from tests.models import TINY_GPT2, circuits_of, tiny_pairs

close = torch.testing.assert_close


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return tiny_pairs(TINY_GPT2)


@pytest.fixture(scope="module")
def edge_pruning() -> dict[str, Tensor]:
    return load_file(TINY_GPT2 / "edge_pruning_reference.safetensors")


@pytest.fixture(scope="module")
def eap_ig() -> dict[str, Tensor]:
    return load_file(TINY_GPT2 / "eap_ig_reference.safetensors")


@pytest.fixture(scope="module")
def separate() -> MaskedTransformer:
    return MaskedTransformer.from_pretrained(TINY_GPT2)


@pytest.fixture(scope="module")
def joint() -> MaskedTransformer:
    return MaskedTransformer.from_pretrained(TINY_GPT2, embeddings="joint")


def test_the_graphs_are_theirs(
    separate: MaskedTransformer,
    joint: MaskedTransformer,
    edge_pruning: dict[str, Tensor],
    eap_ig: dict[str, Tensor],
) -> None:
    assert torch.equal(separate.graph.legal, edge_pruning["legal"].bool())
    assert torch.equal(joint.graph.legal, eap_ig["real_edge_mask"].bool().T)
    assert (separate.graph.n_edges, joint.graph.n_edges) == (532, 479)


def test_the_full_models_logits_are_edge_prunings(
    separate: MaskedTransformer, pairs: PromptPairs, edge_pruning: dict[str, Tensor]
) -> None:
    close(separate(pairs.clean), edge_pruning["logits_full"], rtol=0, atol=5e-5)
    hf = GPT2LMHeadModel.from_pretrained(TINY_GPT2).eval()
    with torch.no_grad():
        close(hf(pairs.clean).logits, edge_pruning["logits_full"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
def test_masked_logits_are_edge_prunings(
    separate: MaskedTransformer, pairs: PromptPairs, edge_pruning: dict[str, Tensor], ablation: str
) -> None:
    ablated = separate.activations(pairs.corrupted) if ablation == "interchange" else None
    masks, expected = edge_pruning["masks"], edge_pruning[f"logits_{ablation}"]
    close(separate(pairs.clean, masks.float(), ablated), expected, rtol=0, atol=5e-5)
    one_by_one = [separate(pairs.clean, mask.float(), ablated) for mask in masks]
    close(torch.stack(one_by_one), expected, rtol=0, atol=5e-5)


def test_eap_scores_are_eap_igs(
    joint: MaskedTransformer, pairs: PromptPairs, eap_ig: dict[str, Tensor]
) -> None:
    task = Task(
        "parity",
        1,
        pairs,
        pairs,
        pairs,
        training_loss=kl_divergence,
        attribution_loss=negative_logit_difference,
        metrics={"kl": KL},
        primary="kl",
    )
    expected = eap_ig["eap"].T
    for selection in ("top-absolute", "greedy-signed"):
        scores = EAP(selection).discover(joint, task, generator=torch.Generator())
        close(scores.extra["signed"], expected, rtol=0, atol=1e-5)
        values = expected.abs() if selection == "top-absolute" else expected
        close(scores.values, values, rtol=0, atol=1e-5)


def test_ablating_each_edge_alone_changes_the_metric_as_in_eap_ig(
    joint: MaskedTransformer, pairs: PromptPairs, eap_ig: dict[str, Tensor]
) -> None:
    edges = joint.graph.legal.nonzero()
    without = joint.graph.legal.repeat(len(edges), 1, 1)
    without[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    circuits = [Circuit(joint.graph.legal, joint.graph), *circuits_of(without, joint.graph)]
    metrics = {"logit_difference": LOGIT_DIFFERENCE}
    values = evaluate(joint, pairs, circuits, metrics=metrics, ablation="interchange")
    loss = -values["logit_difference"].mean(1)
    exact = torch.zeros(joint.graph.legal.shape)
    exact[edges[:, 0], edges[:, 1]] = loss[1:] - loss[0]
    close(exact, eap_ig["exact"].T, rtol=0, atol=1e-5)


@pytest.fixture
def evaluated(
    joint: MaskedTransformer, pairs: PromptPairs
) -> Callable[[Tensor], dict[str, Tensor]]:
    def means(masks: Tensor) -> dict[str, Tensor]:
        metrics = {"kl": KL, "logit_difference": LOGIT_DIFFERENCE}
        values = evaluate(
            joint, pairs, circuits_of(masks, joint.graph), metrics=metrics, ablation="interchange"
        )
        return {name: value.mean(1) for name, value in values.items()}

    return means


def test_the_evaluators_kl_and_logit_difference_of_circuits_are_eap_igs(
    evaluated: Callable[[Tensor], dict[str, Tensor]], eap_ig: dict[str, Tensor]
) -> None:
    masks = eap_ig["circuit_masks"].bool().transpose(1, 2)
    means = evaluated(masks)
    close(means["kl"], eap_ig["circuit_kl"], rtol=0, atol=1e-5)
    close(means["logit_difference"], eap_ig["circuit_logit_diff"], rtol=0, atol=1e-5)


def test_the_evaluators_logit_differences_of_both_prompts_are_eap_igs(
    joint: MaskedTransformer,
    evaluated: Callable[[Tensor], dict[str, Tensor]],
    eap_ig: dict[str, Tensor],
) -> None:
    legal = joint.graph.legal
    means = evaluated(torch.stack([legal, torch.zeros_like(legal)]))
    expected = torch.cat([eap_ig["clean_logit_diff"], eap_ig["corrupted_logit_diff"]])
    close(means["logit_difference"], expected, rtol=0, atol=1e-5)
    assert float(means["kl"][0]) == pytest.approx(0, abs=1e-5)
