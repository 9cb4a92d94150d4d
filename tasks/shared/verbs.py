"""Losses and metrics for the prediction of a verb's number, over a set of verbs.

The probability difference is that of Hanna et al. (2024), after Newman et al. (2021): the
probability of all verb forms in the subject's number minus that of all forms in the other.
Probabilities are over the whole vocabulary. `answers` holds the form that the first verb has in the
subject's number.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

from edgewise.metrics import (
    EXACT_MATCH,
    KL,
    LOGIT_DIFFERENCE,
    FullLogits,
    Logits,
    Metric,
    PerPrompt,
)
from edgewise.prompts import PromptPairs


@dataclass(frozen=True, eq=False)
class VerbForms:
    """Measures of a prediction; `tokens` are the singular forms and the plural ones of verbs."""

    tokens: Int[Tensor, "2 verb"]

    def probability_difference(
        self, logits: Logits, full: FullLogits, pairs: PromptPairs
    ) -> PerPrompt:
        """Probability of the verb forms in the subject's number minus that of the other forms."""
        tokens = self._tokens_on(logits.device)
        singular, plural = logits.float().softmax(-1)[..., tokens].sum(-1).unbind(-1)
        sign = 2 * (pairs.answers == tokens[0, 0]).int() - 1
        return ((singular - plural) * sign).mean(-1)

    def negative_probability_difference(
        self, logits: Logits, full: FullLogits, pairs: PromptPairs
    ) -> PerPrompt:
        """Minus the probability difference: its gradient at the full model does not vanish."""
        return -self.probability_difference(logits, full, pairs)

    def metrics(self) -> dict[str, Metric]:
        difference = Metric(
            "probability_difference",
            self.probability_difference,
            "higher",
            "probability difference of verb forms",
            right_above=0.0,
        )
        metrics = (KL, difference, LOGIT_DIFFERENCE, EXACT_MATCH)
        return {metric.name: metric for metric in metrics}

    @cache  # noqa: B019 (so that a step need not wait for a transfer; they live as long as the process)
    def _tokens_on(self, device: torch.device) -> Int[Tensor, "2 verb"]:
        return self.tokens.to(device)
