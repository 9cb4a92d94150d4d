"""What is measured on a circuit's logits, one value per prompt, averaged over its target positions.

Every function takes the circuit's logits `[*mask, batch, target, vocab]`, the full model's
`[batch, target, vocab]` and the prompt pairs, and gives `[*mask, batch]`. The metrics are those of
the Edge Pruning paper's evaluation (Bhaskar et al., NeurIPS 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.prompts import PromptPairs

Logits = Float[Tensor, "*mask batch target vocab"]
FullLogits = Float[Tensor, "batch target vocab"]
PerPrompt = Float[Tensor, "*mask batch"]


@dataclass(frozen=True)
class Metric:
    """A named measure; `better` says which direction is good, `unit` is the axis label."""

    name: str
    function: Callable[[Tensor, Tensor, PromptPairs], Tensor]
    better: Literal["lower", "higher"]
    unit: str
    right_above: float | None = None
    """Above this value, the full model does on a prompt what the task asks; None says nothing."""

    def __call__(self, logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        return self.function(logits, full, pairs)


def kl_divergence(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """KL(full ‖ circuit) over the whole vocabulary, in nats."""
    log_p, log_q = full.float().log_softmax(-1), logits.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1)


def logit_difference(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """Logit of the answer minus logit of the distractor."""
    if pairs.distractors is None:
        raise ValueError("these prompt pairs have no distractors, so no logit difference")
    answer, distractor = (_at(logits, tokens) for tokens in (pairs.answers, pairs.distractors))
    return (answer - distractor).float().mean(-1)


def negative_logit_difference(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """Minus the logit difference: a loss whose gradient at the full model does not vanish."""
    return -logit_difference(logits, full, pairs)


def accuracy(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """1 where the most likely token of the whole vocabulary is the answer."""
    return (logits.argmax(-1) == pairs.answers).float().mean(-1)


def exact_match(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """1 where the circuit's most likely token is the full model's."""
    return (logits.argmax(-1) == full.argmax(-1)).float().mean(-1)


def squared_error(logits: Logits, full: FullLogits, pairs: PromptPairs) -> PerPrompt:
    """Squared distance of a numerical output from the full model's."""
    return (logits - full).float().square().sum(-1).mean(-1)


def _at(logits: Logits, tokens: Tensor) -> Tensor:
    index = tokens[..., None].expand(*logits.shape[:-1], 1)
    return torch.gather(logits, -1, index).squeeze(-1)


KL = Metric("kl", kl_divergence, "lower", "KL(full ‖ circuit), nats")
LOGIT_DIFFERENCE = Metric(
    "logit_difference", logit_difference, "higher", "logit difference", right_above=0.0
)
ACCURACY = Metric("accuracy", accuracy, "higher", "accuracy")
EXACT_MATCH = Metric("exact_match", exact_match, "higher", "agreement with the full model")
SQUARED_ERROR = Metric("squared_error", squared_error, "lower", "squared error")
