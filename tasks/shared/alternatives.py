"""Losses and metrics of tasks whose answer competes with several wrong tokens.

The margin is the logit of the answer minus the largest logit of a wrong one, as in ACDC's docstring
task (Conmy et al., 2023). It is above 0 where the answer beats them all, so it says whether a model
does the task. The logit difference from one wrong token may not say this.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from edgewise.metrics import (
    ACCURACY,
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
class Alternatives:
    """Measures of a prediction; `tokens` are all competitors and may include the answer."""

    tokens: Callable[[PromptPairs], Int[Tensor, "batch alternative"]]

    def margin(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """Logit of the answer minus the largest logit of a wrong alternative."""
        tokens = self.tokens(pairs)[:, None, :]
        answers = pairs.answers[..., None]
        right, others = (
            logits.gather(-1, index.expand(*logits.shape[:-1], -1)).float()
            for index in (answers, tokens.expand(-1, answers.shape[1], -1))
        )
        others = others.masked_fill(tokens == answers, -torch.inf)
        return (right.squeeze(-1) - others.amax(-1)).mean(-1)

    def negative_margin(self, logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
        """Minus the margin: a loss whose gradient at the full model does not vanish."""
        return -self.margin(logits, full, pairs)

    def metrics(self) -> dict[str, Metric]:
        """Of those that say whether a model does the task, the margin comes first."""
        margin = Metric(
            "margin", self.margin, "higher", "margin over the best wrong answer", right_above=0.0
        )
        metrics = (KL, margin, LOGIT_DIFFERENCE, ACCURACY, EXACT_MATCH)
        return {metric.name: metric for metric in metrics}
