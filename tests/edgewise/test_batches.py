"""References are the same whatever is kept, and a mean leaves pads out."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.batches import Batches, mean_activations
from edgewise.prompts import PromptPairs
from edgewise.transformer import MaskedTransformer
from tests.edgewise.conftest import Case
from tests.methods import toys
from tests.models import ABLATIONS, TOLERANCE, gpt2, random_pairs

LENGTHS = [5, 7, 4, 7, 6, 3, 5]
DRAWS = [[0, 1], [2], [6, 5, 4], [1, 1, 3], [3, 0], [2, 2], [5, 1, 4, 6, 0, 2, 3]]

close = torch.testing.assert_close


def logits_alone(model: MaskedTransformer, pairs: PromptPairs) -> list[Tensor]:
    """Each prompt run alone, without pads."""
    return [
        model(pairs.clean[[one], :length], targets=pairs.targets[[one]])[0]
        for one, length in enumerate(pairs.lengths.tolist())
    ]


def activations_alone(model: MaskedTransformer, pairs: PromptPairs) -> list[Tensor]:
    """Each corrupted prompt run alone, without pads."""
    return [
        model.activations(prompt[None, :length])[0]
        for prompt, length in zip(pairs.corrupted, pairs.lengths.tolist(), strict=True)
    ]


def naive_mean(alone: list[Tensor]) -> Tensor:
    return torch.stack(
        [
            torch.stack([a[position] for a in alone if len(a) > position]).mean(0)
            for position in range(max(map(len, alone)))
        ]
    )


def bytes_of(batches: Batches) -> int:
    tensors = (batches._logits, batches._ablated)
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@pytest.mark.parametrize("kept", [0, 1, 3, None])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_any_budget_gives_what_each_prompt_gives_alone(
    case: Case, ablation: Any, kept: int | None
) -> None:
    model, pairs = case.model, random_pairs(LENGTHS)
    unlimited = Batches(model, pairs, ablation)
    assert unlimited.n_kept == len(pairs)
    per_prompt = bytes_of(unlimited) // len(pairs)
    budget = bytes_of(unlimited) if kept is None else kept * per_prompt + per_prompt // 2
    batches = Batches(model, pairs, ablation, budget_bytes=budget)
    assert batches.n_kept == (len(pairs) if kept is None else kept)
    assert bytes_of(batches) <= budget
    logits, activations = logits_alone(model, pairs), activations_alone(model, pairs)
    mean = naive_mean(activations)
    for index in DRAWS:
        batch = batches.batch(torch.tensor(index))
        width = max(LENGTHS[one] for one in index)
        assert batch.pairs.clean.shape == (len(index), width)
        assert torch.equal(batch.pairs.lengths, torch.tensor([LENGTHS[one] for one in index]))
        close(batch.full_logits, torch.stack([logits[one] for one in index]), **TOLERANCE)
        if ablation == "zero":
            assert batch.ablated is None
        elif ablation == "mean":
            close(batch.ablated, mean[:width], **TOLERANCE)
        else:
            assert batch.ablated is not None
            for one, ablated in zip(index, batch.ablated, strict=True):
                close(ablated[: LENGTHS[one]], activations[one], **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_masked_logits_do_not_depend_on_the_budget(
    case: Case, ablation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewise.batches.BATCH_TOKENS", 16)
    model, pairs = case.model, random_pairs(LENGTHS)
    mask = torch.rand(model.graph.legal.shape)
    values = []
    for budget in (0, 40_000, 2**30):
        batches = Batches(model, pairs, ablation, budget_bytes=budget)
        logits = torch.empty(len(pairs), 2, model.architecture.n_outputs)
        for index in batches.indices():
            batch = batches.batch(index)
            logits[index] = model(batch.pairs.clean, mask, batch.ablated, batch.pairs.targets)
        values.append(logits)
    for logits in values[1:]:
        close(logits, values[0], **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_what_is_kept_is_run_once_and_what_is_not_each_time(case: Case, ablation: Any) -> None:
    model, pairs = case.model, random_pairs([6] * 4)
    model.flops = 0
    batches = Batches(model, pairs, ablation, budget_bytes=0)
    at_first, work = model.flops, []
    for _ in range(2):
        model.flops = 0
        batches.batch(torch.arange(4))
        work.append(model.flops)
    assert work[0] == work[1] > 0
    model.flops = 0
    batches = Batches(model, pairs, ablation)
    for _ in range(2):
        batches.batch(torch.arange(4))
    assert model.flops == at_first + work[0]


def test_a_mean_is_taken_over_the_prompts_that_reach_a_position(case: Case) -> None:
    pairs = random_pairs(LENGTHS)
    close(
        mean_activations(case.model, pairs),
        naive_mean(activations_alone(case.model, pairs)),
        **TOLERANCE,
    )


def test_a_mean_can_be_taken_over_other_prompts_of_other_lengths(case: Case) -> None:
    pairs, others = random_pairs(LENGTHS), random_pairs([9, 8, 7, 4], seed=1)
    batches = Batches(case.model, pairs, "mean", mean_over=others)
    batch = batches.batch(torch.tensor([0, 1]))
    assert batch.ablated is not None and batch.ablated.shape[0] == 7
    close(batch.ablated, naive_mean(activations_alone(case.model, others))[:7], **TOLERANCE)


def test_a_mean_that_does_not_reach_a_prompts_end_is_an_error_that_names_both_lengths() -> None:
    pairs, shorter = random_pairs(LENGTHS), random_pairs([4, 6], seed=1)
    model, message = toys.gpt2(), "of a prompt of 7 tokens.* of at most 6; expected longer training"
    with pytest.raises(ValueError, match=message):
        Batches(model, pairs, "mean", mean_over=shorter)
    Batches(model, shorter, "mean", mean_over=pairs)
    Batches(model, pairs, "zero", mean_over=shorter)
    task = replace(toys.task(pairs), train=shorter)
    for unreached in ({"test": pairs}, {"validation": pairs}):
        short = replace(task, validation=shorter, test=shorter)
        replace(short, ablation="mean")
        with pytest.raises(ValueError, match=message):
            replace(short, ablation="mean", **unreached)


def test_pads_beyond_the_longest_prompt_need_no_mean() -> None:
    pairs = random_pairs([8, 5])
    only_short = pairs.take(torch.tensor([1]), 8)
    Batches(toys.gpt2(), only_short, "mean", mean_over=random_pairs([5]))


@pytest.mark.parametrize(("tokens", "writers"), [(16, 2**30), (4096, 16)])
def test_batches_are_bounded_in_tokens_and_in_what_their_writers_take(
    tokens: int, writers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`writers`: of how many tokens the outputs may be held."""
    pairs, model = random_pairs(LENGTHS), MaskedTransformer(gpt2())
    per_token = len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize
    monkeypatch.setattr("edgewise.batches.BATCH_TOKENS", tokens)
    model.batch_bytes = writers * per_token
    batches = Batches(model, pairs, "zero").indices()
    for ours, theirs in zip(batches, pairs.batches(16), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_that_is_not_causal_takes_prompts_of_one_length_only() -> None:
    model = MaskedTransformer(gpt2(), id="both ways")
    model.architecture.causal = False
    Batches(model, random_pairs([5, 5]), "zero")
    with pytest.raises(ValueError, match="both ways is not causal: all prompts must have the same"):
        Batches(model, random_pairs([5, 4]), "zero")
