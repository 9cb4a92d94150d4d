"""EAP's scores: the formula written out, exact patching in the limit, signs and sums."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from edgewise.attribution import Selection
from edgewise.batches import mean_activations
from edgewise.graph import Ablation
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.eap import EAP
from tests.methods import toys
from tests.models import ABLATIONS, VOCAB

MODELS: dict[str, Callable[[], MaskedTransformer]] = {
    "gpt2": toys.gpt2,
    "gpt2, joint embeddings": lambda: toys.gpt2(embeddings="joint"),
    "llama": toys.llama,
    "llama, key-value readers": lambda: toys.llama(kv_heads="key-value"),
}
EACH_MODEL = pytest.mark.parametrize("model", MODELS)
STEP = 1e-6
"""How far a corrupted embedding lies from the clean one where the model shall be linear."""


def scores(model: MaskedTransformer, task: Task) -> Tensor:
    found = EAP("top-signed").discover(model, task, generator=torch.Generator())
    return found.values.double()


def loss(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    """Minus the logit difference, in the precision of the logits."""
    assert pairs.distractors is not None
    chosen = torch.stack([pairs.answers, pairs.distractors], -1).expand(*logits.shape[:-1], 2)
    answer, distractor = logits.gather(-1, chosen).unbind(-1)
    return (distractor - answer).mean(-1)


def random_task(n: int = 4, ablation: Ablation = "interchange") -> Task:
    task = toys.task(toys.random_pairs(n), ablation=ablation)
    return dataclasses.replace(task, attribution_loss=loss)


def nearly_linear(model: MaskedTransformer) -> Task:
    """Corrupted prompts of other tokens, whose embeddings are all but the same."""
    half = VOCAB // 2
    (embedding,) = (
        weight
        for name, weight in model.architecture.weights().items()
        if name.endswith(("wte.weight", "embed_tokens.weight"))
    )
    embedding[half:] = embedding[:half] + STEP * torch.randn_like(embedding[:half])
    task = random_task()
    clean = task.train.clean % half
    pairs = dataclasses.replace(task.train, clean=clean, corrupted=clean + half)
    return dataclasses.replace(task, train=pairs)


def patched(model: MaskedTransformer, pairs: PromptPairs, masks: Tensor) -> Tensor:
    """The mean loss under each mask."""
    ablated = model.activations(pairs.corrupted)
    full = model(pairs.clean, targets=pairs.targets)
    return loss(model(pairs.clean, masks, ablated, pairs.targets), full, pairs).mean(-1)


def literal(model: MaskedTransformer, task: Task) -> Tensor:
    """(ablated − clean) · ∂loss/∂input for one pair after the other, summed over positions."""
    graph, pairs = model.graph, task.train
    mean = mean_activations(model, pairs)
    total = torch.zeros(graph.legal.shape, dtype=torch.float64)
    for pair in (pairs[torch.tensor([index])] for index in range(len(pairs))):
        written, read, logits = run(model, pair.clean)
        at_targets = logits[:, pair.targets[0]]
        task.attribution_loss(at_targets, at_targets, pair).sum().backward()
        carried = {
            "interchange": run(model, pair.corrupted)[0],
            "zero": [torch.zeros_like(output) for output in written],
            "mean": mean[: pair.clean.shape[1], :, :].unbind(1),
        }[task.ablation]
        for reader, writer in graph.legal.nonzero().tolist():
            change = carried[writer] - written[writer].detach()
            assert read[reader].grad is not None
            total[reader, writer] += (change * read[reader].grad).sum().detach()
    return total / len(pairs)


def run(model: MaskedTransformer, tokens: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What each writer writes, what each reader reads, and the logits, by plain sums.

    Every reader has a sum of its own, so that the gradient there is what goes through it alone.
    """
    graph, parts = model.graph, model.architecture
    written = list(parts.embed(tokens))
    if len(graph.embeddings) == 1:
        written = [torch.stack(written).sum(0)]
    read: list[Tensor] = []

    def inputs(n: int) -> Iterator[Tensor]:
        for _ in range(n):
            read.append(torch.stack(written).sum(0).requires_grad_())
            read[-1].retain_grad()
            yield read[-1]

    for layer in range(graph.n_layers):
        n_attention = graph.n_heads + 2 * graph.n_kv_readers
        heads = parts.attention(layer, torch.stack(list(inputs(n_attention)), 2))
        written += heads.unbind(2)
        written.append(parts.mlp(layer, *inputs(1)))
    return written, read, parts.unembed(*inputs(1))


@pytest.mark.parametrize("ablation", ABLATIONS)
@EACH_MODEL
def test_scores_are_the_formula_written_out(model: str, ablation: Ablation) -> None:
    """Also, prompts of different lengths weigh the same, alone or in one padded batch."""
    toy, task = MODELS[model](), random_task(ablation=ablation)
    expected = literal(toy, task)
    assert (expected[toy.graph.legal] != 0).float().mean() > 0.7
    torch.testing.assert_close(scores(toy, task), expected, rtol=1e-5, atol=1e-6)


@EACH_MODEL
def test_for_a_small_corruption_scores_are_those_of_exact_patching(model: str) -> None:
    """One edge removed at a time: what that adds to the loss, with its sign."""
    toy = MODELS[model]()
    task, graph = nearly_linear(toy), toy.graph
    edges = graph.legal.nonzero()
    masks = torch.ones(len(edges), *graph.legal.shape, dtype=torch.float64)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = 0
    ones = torch.ones(graph.legal.shape, dtype=torch.float64)
    expected = patched(toy, task.train, masks) - patched(toy, task.train, ones)
    found = scores(toy, task)[graph.legal]
    tolerance = 1e-3 * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=tolerance)
    clear = expected.abs() > 3 * tolerance
    assert clear.float().mean() > 0.5
    assert torch.equal(found[clear].sign(), expected[clear].sign())


@EACH_MODEL
def test_for_a_small_corruption_scores_of_a_cut_sum_to_the_total_effect(model: str) -> None:
    """All edges from the embeddings, or all into `out`, cut the corrupted prompt off."""
    toy = MODELS[model]()
    task = nearly_linear(toy)
    ones = torch.ones(toy.graph.legal.shape, dtype=torch.float64)
    total = patched(toy, task.train, torch.zeros_like(ones)) - patched(toy, task.train, ones)
    found = scores(toy, task)
    n_embeddings = len(toy.graph.embeddings)
    assert float(found[:, :n_embeddings].sum()) == pytest.approx(float(total), rel=1e-3)
    assert float(found[-1].sum()) == pytest.approx(float(total), rel=1e-3)


def test_an_edge_whose_removal_hurts_has_a_positive_score() -> None:
    """The model is `tok->out` alone, and right: the answer's logit is above the distractor's."""
    model = toys.gpt2()
    for name, weight in model.architecture.weights().items():
        if "c_proj" in name:
            weight.zero_()
    task = random_task()
    pairs = task.train
    best = model(pairs.clean, targets=pairs.targets).topk(2).indices
    right = dataclasses.replace(pairs, answers=best[..., 0], distractors=best[..., 1])
    found = scores(model, dataclasses.replace(task, train=right))
    reader, writer = divmod(int(found.abs().argmax()), found.shape[1])
    assert (model.graph.writers[writer], model.graph.readers[reader]) == ("tok", "out")
    assert found[reader, writer] > 0


@EACH_MODEL
def test_scores_of_many_prompts_are_the_mean_of_those_of_each(model: str) -> None:
    toy, task = MODELS[model](), random_task(5)
    alone = [
        scores(toy, dataclasses.replace(task, train=task.train[torch.tensor([index])]))
        for index in range(5)
    ]
    mean = torch.stack(alone).mean(0)
    torch.testing.assert_close(scores(toy, task), mean, rtol=1e-5, atol=1e-6)


def test_positions_have_no_score_under_interchange() -> None:
    model = toys.gpt2()
    found = scores(model, random_task())
    assert (found[:, model.graph.writers.index("pos")] == 0).all()


@pytest.mark.parametrize("selection", get_args(Selection))
def test_a_selection_is_a_ranking_of_the_same_scores(selection: Selection) -> None:
    model, task = toys.gpt2(), random_task()
    of_prompts = torch.stack(
        [
            scores(model, dataclasses.replace(task, train=task.train[torch.tensor([prompt])]))
            for prompt in range(len(task.train))
        ]
    )
    signed, magnitude = of_prompts.mean(0), of_prompts.abs().mean(0)
    assert (magnitude > 1.1 * signed.abs()).any()
    found = EAP(selection).discover(model, task, generator=torch.Generator())
    torch.testing.assert_close(found.extra["signed"].double(), signed)
    kinds = {"absolute": signed.abs(), "signed": signed, "magnitude": magnitude}
    expected = kinds[selection.partition("-")[2]]
    torch.testing.assert_close(found.values.double(), expected)
    assert found.selection == selection.partition("-")[0]
    circuit = found.circuit(10)
    if selection.startswith("top"):
        kept = circuit.mask[model.graph.legal]
        ranked = expected[model.graph.legal]
        assert ranked[kept].min() >= ranked[~kept].max()
    else:
        ablation = "zero" if selection.startswith("greedy") else "interchange"
        assert circuit.live_sparsity(ablation) == circuit.sparsity


@pytest.mark.parametrize("selection", ["top", "absolute"])
def test_a_selection_that_does_not_exist_is_refused(selection: Any, unchecked: None) -> None:
    with pytest.raises(
        ValueError, match=re.escape("expected 'top-absolute', 'top-signed', 'top-magnitude'")
    ):
        EAP(selection)
