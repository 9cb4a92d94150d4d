"""The measures of a predicted year against sums by hand and against scipy."""

import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

from edgewise.prompts import PromptPairs
from tasks.shared.years import Years, YearsByDigit

VOCABULARY = 130
# In an order of their own, among other tokens.
TOKENS = (torch.arange(100) * 37) % 100 + 20
YEARS = Years(TOKENS)
BY_DIGIT = YearsByDigit(torch.arange(10).flip(0) + 40)


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


def by_digit(*years: int) -> PromptPairs:
    """Prompts that fork into the ten digits."""
    prompts, chosen = torch.zeros(len(years), 13, dtype=torch.long), torch.tensor(years)[:, None]
    first, second = BY_DIGIT.tokens[chosen // 10], BY_DIGIT.tokens[chosen % 10]
    return PromptPairs(
        clean=prompts,
        corrupted=prompts,
        lengths=torch.full((len(years),), 13),
        targets=torch.arange(2, 13).expand(len(years), -1),
        answers=torch.cat([first, second.expand(-1, 10)], 1),
        forks=torch.full((len(years),), 3),
    )


def digit_logits(*shape: int) -> Tensor:
    return torch.randn(*shape, 11, VOCABULARY)


def as_years(at_digits: Tensor) -> Tensor:
    """Logits over the tokens of `YEARS` with the probabilities that these have digit by digit."""
    first, second = at_digits[..., BY_DIGIT.tokens].double().softmax(-1).split([1, 10], dim=-2)
    values = torch.zeros(*at_digits.shape[:-2], 1, VOCABULARY, dtype=torch.double)
    values[..., 0, TOKENS] = (first.transpose(-1, -2) * second).flatten(-2).log()
    return values


def test_by_digit_every_measure_of_years_is_that_of_the_same_hundred_probabilities() -> None:
    ours, full = digit_logits(4, 3), digit_logits(3)
    assert as_years(full).exp()[:, 0, TOKENS].sum(-1).tolist() == pytest.approx([1] * 3)
    for name, metric in list(YEARS.metrics().items())[:4]:
        expected = metric(as_years(ours), as_years(full), pairs_at(9, 50, 98))
        found = BY_DIGIT.metrics()[name](ours, full, by_digit(9, 50, 98))
        torch.testing.assert_close(found.double(), expected.double(), atol=1e-6, rtol=1e-5)


def test_by_digit_the_kl_over_tokens_is_that_of_what_may_follow_a_prompt() -> None:
    """That is every token that is no digit, and each digit with every token after it."""

    def outcomes(at_digits: Tensor) -> Tensor:
        first, second = at_digits.double().softmax(-1).split([1, 10], dim=-2)
        others = torch.ones(VOCABULARY).bool()
        others[BY_DIGIT.tokens] = False
        with_digit = first[..., 0, BY_DIGIT.tokens, None] * second
        return torch.cat([first[..., 0, others], with_digit.flatten(-2)], -1)

    ours, full = digit_logits(2, 3), digit_logits(3)
    q, p = outcomes(ours), outcomes(full)
    assert p.sum(-1).tolist() == pytest.approx([1] * 3)
    found = BY_DIGIT.metrics()["kl"](ours, full, by_digit(1, 2, 3))
    torch.testing.assert_close(found, (p * (p / q).log()).sum(-1).float())


def test_by_digit_the_likeliest_tokens_match_up_to_a_token_that_is_no_digit() -> None:
    full = digit_logits(3)
    five, other = int(BY_DIGIT.tokens[5]), 7
    full[:2, 0, five], full[2, 0, other] = 50.0, 50.0
    full[:, 6, 30] = 50.0  # after the digit 5
    ours = full.clone()
    ours[0, 3] += 100 * torch.randn(VOCABULARY)  # after a digit that is not the likeliest
    ours[1, 6, 31] = 100.0
    ours[2, 6, 31] = 100.0
    match = BY_DIGIT.metrics()["exact_match"]
    assert match(ours, full, by_digit(1, 2, 3)).tolist() == [1, 0, 1]
    assert match(full.flip(0), full, by_digit(1, 2, 3)).tolist() == [0, 1, 0]
