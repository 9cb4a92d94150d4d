"""Metrics against their definitions, one prompt and one target at a time."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.metrics import (
    ACCURACY,
    EXACT_MATCH,
    KL,
    LOGIT_DIFFERENCE,
    SQUARED_ERROR,
    Metric,
    kl_divergence,
    logit_difference,
    negative_logit_difference,
)
from edgewise.task import Task
from tests.models import VOCAB, random_pairs

PAIRS = random_pairs([5, 7, 4])


def at_one_target(metric: Callable[[list[float], list[float], int, int], float]) -> Any:
    """The metric `[mask, prompt]` from its value at one target: averaged over targets."""

    def everywhere(logits: Tensor, full: Tensor) -> Tensor:
        assert PAIRS.distractors is not None
        values = torch.empty(logits.shape[:3])
        for mask, prompt, target in torch.cartesian_prod(*map(torch.arange, logits.shape[:3])):
            values[mask, prompt, target] = metric(
                logits[mask, prompt, target].tolist(),
                full[prompt, target].tolist(),
                int(PAIRS.answers[prompt, target]),
                int(PAIRS.distractors[prompt, target]),
            )
        return values.mean(-1)

    return everywhere


def probabilities(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


@at_one_target
def kl(logits: list[float], full: list[float], answer: int, distractor: int) -> float:
    pairs = zip(probabilities(full), probabilities(logits), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs)


@at_one_target
def difference(logits: list[float], full: list[float], answer: int, distractor: int) -> float:
    return logits[answer] - logits[distractor]


@at_one_target
def correct(logits: list[float], full: list[float], answer: int, distractor: int) -> float:
    return float(max(range(len(logits)), key=logits.__getitem__) == answer)


@at_one_target
def same(logits: list[float], full: list[float], answer: int, distractor: int) -> float:
    return float(logits.index(max(logits)) == full.index(max(full)))


@at_one_target
def distance(logits: list[float], full: list[float], answer: int, distractor: int) -> float:
    return sum((a - b) ** 2 for a, b in zip(logits, full, strict=True))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (KL, kl),
        (LOGIT_DIFFERENCE, difference),
        (ACCURACY, correct),
        (EXACT_MATCH, same),
        (SQUARED_ERROR, distance),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_metric_is_its_definition_averaged_over_targets(metric: Metric, expected: Any) -> None:
    logits, full = torch.randn(2, 3, 2, VOCAB) * 3, torch.randn(3, 2, VOCAB) * 3
    logits[0, :2, 0, :] = full[:2, 0]  # some agree, and some are right
    logits[1, 0, 1, PAIRS.answers[0, 1]] = 50.0
    values = metric(logits, full, PAIRS)
    torch.testing.assert_close(values, expected(logits, full), rtol=1e-4, atol=1e-4)
    for one, value in zip(logits, values, strict=True):
        torch.testing.assert_close(metric(one, full, PAIRS), value)


def test_the_kl_of_a_model_from_itself_is_zero_and_never_much_below() -> None:
    full = torch.randn(3, 2, VOCAB) * 10
    assert KL(full, full, PAIRS).abs().max() < 1e-6
    assert KL(full + 1e-4 * torch.randn(3, 2, VOCAB), full, PAIRS).min() > -1e-6


def test_half_precision_logits_are_compared_in_float32() -> None:
    full = torch.randn(3, 2, VOCAB).bfloat16()
    values = kl_divergence(full * 1.5, full, PAIRS)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, kl_divergence((full * 1.5).float(), full.float(), PAIRS))


def test_the_attribution_loss_is_minus_the_logit_difference() -> None:
    logits, full = torch.randn(3, 2, VOCAB), torch.randn(3, 2, VOCAB)
    loss = negative_logit_difference(logits, full, PAIRS)
    assert torch.equal(loss, -logit_difference(logits, full, PAIRS))


def test_a_logit_difference_without_distractors_is_an_error() -> None:
    logits = torch.randn(3, 2, VOCAB)
    with pytest.raises(ValueError, match="no distractors"):
        logit_difference(logits, logits, replace(PAIRS, distractors=None))


def test_a_task_with_an_unknown_ablation_is_an_error(unchecked: None) -> None:
    ablation: Any = "resample"
    losses = kl_divergence, negative_logit_difference
    with pytest.raises(ValueError, match="'resample'; expected one of interchange, zero, mean"):
        Task("task", 1, PAIRS, PAIRS, PAIRS, *losses, {"kl": KL}, "kl", ablation)


def test_a_task_whose_primary_metric_it_does_not_measure_is_an_error() -> None:
    losses = kl_divergence, negative_logit_difference
    with pytest.raises(ValueError, match="primary metric 'accuracy'; expected one of kl"):
        Task("task", 1, PAIRS, PAIRS, PAIRS, *losses, {"kl": KL}, "accuracy")
