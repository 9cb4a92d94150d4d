"""The measures of a predicted year against sums by hand and against scipy."""

import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

from edgewise.prompts import PromptPairs
from tasks.shared.years import Years

VOCABULARY = 130
# In an order of their own, among other tokens.
TOKENS = (torch.arange(100) * 37) % 100 + 20
YEARS = Years(TOKENS)


def pairs_at(*years: int) -> PromptPairs:
    prompts = torch.zeros(len(years), 3, dtype=torch.long)
    return PromptPairs(
        clean=prompts,
        corrupted=prompts,
        lengths=torch.full((len(years),), 3),
        targets=torch.full((len(years), 1), 2),
        answers=TOKENS[torch.tensor(years)][:, None],
    )


def logits(*shape: int) -> Tensor:
    return torch.randn(*shape, 1, VOCABULARY)


def predicting(**share: float) -> Tensor:
    """Logits of one prompt that give these years (`y33=0.4`) all the probability among years."""
    values = torch.full((1, 1, VOCABULARY), -1e4)
    for year, probability in share.items():
        values[0, 0, TOKENS[int(year[1:])]] = torch.tensor(probability).log()
    return values


def test_the_probability_difference_is_that_of_later_and_earlier_years() -> None:
    ours = predicting(y33=0.4, y42=0.1, y43=0.2, y32=0.1, y31=0.15, y21=0.05)
    pairs = pairs_at(32)
    assert YEARS.probability_difference(ours, ours, pairs).item() == pytest.approx(0.7 - 0.2)
    near = YEARS.near_probability_difference(ours, ours, pairs).item()
    assert near == pytest.approx(0.5 - 0.15)
    assert YEARS.negative_probability_difference(ours, ours, pairs).item() == pytest.approx(-0.5)


def test_the_year_itself_counts_neither_as_right_nor_as_wrong() -> None:
    ours = predicting(y32=1.0)
    assert YEARS.probability_difference(ours, ours, pairs_at(32)).item() == pytest.approx(0)


def test_other_tokens_take_no_probability_from_the_years() -> None:
    ours, full, pairs = logits(2), logits(2), pairs_at(5, 60)
    louder = ours.clone()
    louder[..., :20] += 50
    for measure in (YEARS.kl, YEARS.probability_difference, YEARS.kendall_tau):
        torch.testing.assert_close(measure(louder, full, pairs), measure(ours, full, pairs))


def test_the_kl_over_years_is_that_of_distributions_over_a_hundred_tokens() -> None:
    ours, full = logits(3), logits(3)
    p = full[:, 0, TOKENS].double().softmax(-1)
    q = ours[:, 0, TOKENS].double().softmax(-1)
    expected = (p * (p / q).log()).sum(-1).float()
    torch.testing.assert_close(YEARS.kl(ours, full, pairs_at(1, 2, 3)), expected)


def test_kendall_s_tau_is_scipy_s_with_and_without_ties() -> None:
    for ours, full in (
        (logits(4, 3), logits(3)),
        (logits(4, 3).round(), logits(3).round()),
    ):
        found = YEARS.kendall_tau(ours, full, pairs_at(1, 2, 3))
        expected = torch.tensor(
            [
                [kendalltau(row[k, 0, TOKENS], full[k, 0, TOKENS])[0] for k in range(3)]
                for row in ours
            ]
        )
        torch.testing.assert_close(found, expected.float())


def test_kendall_s_tau_is_one_for_the_full_model_and_zero_without_any_order() -> None:
    full, pairs = logits(2), pairs_at(1, 2)
    assert YEARS.kendall_tau(full, full, pairs).tolist() == [1, 1]
    assert YEARS.kendall_tau(-full, full, pairs).tolist() == [-1, -1]
    assert YEARS.kendall_tau(torch.zeros_like(full), full, pairs).tolist() == [0, 0]


def test_every_metric_takes_a_batch_of_masks() -> None:
    ours, full, pairs = logits(4, 3), logits(3), pairs_at(1, 50, 98)
    for metric in YEARS.metrics().values():
        many = metric(ours, full, pairs)
        assert many.shape == (4, 3)
        for mask in range(4):
            torch.testing.assert_close(many[mask], metric(ours[mask], full, pairs))


def test_the_first_metric_is_the_kl_over_years_and_names_are_the_keys() -> None:
    metrics = YEARS.metrics()
    assert list(metrics) == [
        "year_kl",
        "probability_difference",
        "near_probability_difference",
        "kendall_tau",
        "kl",
        "exact_match",
    ]
    assert [metric.name for metric in metrics.values()] == list(metrics)


def test_the_attribution_loss_has_a_gradient_at_the_full_model_where_the_kl_has_none() -> None:
    full, pairs = logits(2), pairs_at(20, 70)
    for loss, vanishes in ((YEARS.kl, True), (YEARS.negative_probability_difference, False)):
        ours = full.clone().requires_grad_()
        loss(ours, full, pairs).sum().backward()
        assert ours.grad is not None
        assert (ours.grad.abs().max().item() < 1e-6) == vanishes
