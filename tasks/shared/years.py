"""Losses and metrics of predictions of a year's last two digits, over a hundred tokens.

They are those of the Edge Pruning paper's greater-than task (Bhaskar et al., 2024). The logits are
restricted to the tokens of 00 to 99 and turned into probabilities p. Let Y be the two digits to be
exceeded (`answers` holds their token). The probability difference is the sum of p(y) over y > Y
minus the sum of p(y) over y < Y. There is also one over only the ten years on each side. Cost:
Kendall's tau compares 10,000 pairs of years per prompt.

For tokenizers that make every digit a token, p(y) is a product:
p(first digit) · p(second digit | first), each from logits restricted to the tokens of 0 to 9. To
compute it, a prompt forks into ten continuations, one for each first digit, and is scored at its
end and at each of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from edgewise.metrics import (
    EXACT_MATCH,
    KL,
    FullLogits,
    Logits,
    Metric,
    PerPrompt,
    kl_divergence,
)
from edgewise.prompts import PromptPairs

NEAR = 10
"""The number of years on each side that the narrower probability difference counts."""


@dataclass(frozen=True, eq=False)
class Years:
    """Measures of a prediction; `tokens` are those of 00 to 99, in order."""

    tokens: Int[Tensor, "100"]

    def kl(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """KL(full ‖ circuit) over the hundred years, in nats."""
        return kl_divergence(self._of(logits), self._of(full), pairs)

    def probability_difference(
        self, logits: Logits, full: FullLogits, pairs: PromptPairs
    ) -> PerPrompt:
        """Probability of the years after the prompt's minus that of the years before it."""
        return self._difference(logits, self._distance(pairs).sign())

    def near_probability_difference(
        self, logits: Logits, full: FullLogits, pairs: PromptPairs
    ) -> PerPrompt:
        """The probability difference over only the ten years after and the ten before."""
        distance = self._distance(pairs)
        return self._difference(logits, distance.sign() * (distance.abs() <= NEAR))

    def negative_probability_difference(
        self, logits: Logits, full: FullLogits, pairs: PromptPairs
    ) -> PerPrompt:
        """Minus the probability difference: its gradient at the full model does not vanish."""
        return -self.probability_difference(logits, full, pairs)

    def kendall_tau(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """Rank correlation (tau-b) of the circuit's hundred years with the full model's.

        0 where one of the two gives all years the same value. Logits are ranked: they have the same
        order as probabilities, with fewer ties.
        """
        # scipy's function takes one pair of rankings per call: minutes for a ranking's circuits.
        ours, theirs = _order(self._of(logits)), _order(self._of(full))
        agreement = (ours * theirs).sum((-1, -2)).double()
        unequal = ours.abs().sum((-1, -2)) * theirs.abs().sum((-1, -2))
        return (agreement / unequal.double().sqrt().clamp(min=1)).float().mean(-1)

    def metrics(self) -> Mapping[str, Metric]:
        metrics = (
            Metric("year_kl", self.kl, "lower", "KL(full ‖ circuit) over 100 years, nats"),
            Metric(
                "probability_difference",
                self.probability_difference,
                "higher",
                "probability difference",
                right_above=0.0,
            ),
            Metric(
                "near_probability_difference",
                self.near_probability_difference,
                "higher",
                f"probability difference, ±{NEAR} years",
            ),
            Metric("kendall_tau", self.kendall_tau, "higher", "Kendall's tau"),
            KL,
            EXACT_MATCH,
        )
        return {metric.name: metric for metric in metrics}

    @cache  # noqa: B019 (so that a step need not wait for a transfer; they live as long as the process)
    def _tokens_on(self, device: torch.device) -> Int[Tensor, " known"]:
        return self.tokens.to(device)

    def _of(self, logits: Logits) -> Float[Tensor, "*rest year 100"]:
        """Logits of the hundred years."""
        return logits[..., self._tokens_on(logits.device)]

    def _year(self, pairs: PromptPairs) -> Int[Tensor, "batch year"]:
        """The last two digits of the prompt's year."""
        return self._place(pairs.answers)

    def _place(self, found: Int[Tensor, "batch target"]) -> Int[Tensor, "batch target"]:
        """Each token's place among `tokens`."""
        return (found[..., None] == self._tokens_on(found.device)).int().argmax(-1)

    def _distance(self, pairs: PromptPairs) -> Int[Tensor, "batch year 100"]:
        """How many years each of the hundred lies after the prompt's."""
        year = self._year(pairs)[..., None]
        return torch.arange(100, device=year.device) - year

    def _difference(self, logits: Logits, sign: Int[Tensor, "batch year 100"]) -> PerPrompt:
        return (self._of(logits).float().softmax(-1) * sign).sum(-1).mean(-1)


@dataclass(frozen=True, eq=False)
class YearsByDigit(Years):
    """The same for prompts that fork into the ten first digits; `tokens` are those of 0 to 9.

    The targets are a prompt's end, then its continuations, in order. `answers` holds the token of
    the year's first digit, then that of its second one at each continuation.
    """

    tokens: Int[Tensor, "10"]

    def token_kl(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """KL(full ‖ circuit) over the next token and, if it is a digit, the token after it."""
        at_targets = [
            kl_divergence(logits[..., target, None, :], full[..., target, None, :], pairs)
            for target in range(1 + len(self.tokens))
        ]
        first, second = at_targets[0], torch.stack(at_targets[1:], -1)
        share = full[..., 0, :].float().softmax(-1)[..., self._tokens_on(full.device)]
        return first + (share * second).sum(-1)

    def token_match(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """1 where the likeliest token, and after a digit also the next one, is the full model's."""
        ours, theirs = self._likeliest(logits), self._likeliest(full)
        return (ours == theirs).all(-1).float()

    def metrics(self) -> Mapping[str, Metric]:
        """Names and meanings are the same as for years whose last two digits are one token."""
        over_tokens = replace(KL, function=self.token_kl)
        matching = replace(EXACT_MATCH, function=self.token_match)
        return {**super().metrics(), KL.name: over_tokens, EXACT_MATCH.name: matching}

    def _of(self, logits: Logits) -> Float[Tensor, "*rest year 100"]:
        """Log-probabilities of the hundred years."""
        digits = logits[..., self._tokens_on(logits.device)].float().log_softmax(-1)
        first, second = digits[..., 0, :, None], digits[..., 1:, :]
        return (first + second).flatten(-2)[..., None, :]

    def _year(self, pairs: PromptPairs) -> Int[Tensor, "batch year"]:
        first, second = self._place(pairs.answers[:, :2]).split(1, dim=1)
        return 10 * first + second

    def _likeliest(self, logits: Logits) -> Int[Tensor, "*rest 2"]:
        """The likeliest token and the one after it, which is 0 after a token that is no digit."""
        first, after = logits.argmax(-1).split([1, len(self.tokens)], dim=-1)
        is_digit = first == self._tokens_on(logits.device)
        return torch.cat([first, (after * is_digit).sum(-1, keepdim=True)], -1)


def _order(values: Float[Tensor, "*rest year"]) -> Int8[Tensor, "*rest year year"]:
    """1 where the first year's value is larger, -1 where the second's is."""
    first, second = values[..., :, None], values[..., None, :]
    return (first > second).to(torch.int8) - (first < second).to(torch.int8)
