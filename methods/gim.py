"""GIM: gradients that see through softmax saturation (Edin et al. 2025, arXiv:2505.17630).

EAP's formula with other gradients: a norm's denominator is a constant, the softmax has the Jacobian
that it has at a temperature of 2, and where several inputs are multiplied (q and k, the pattern and
v, the two halves of a gated MLP) each gets a share of the gradient.
Cost: two forward passes (clean and corrupted) and one backward per prompt, all edges at once.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.backward_rules import BackwardRules
from edgewise.graph import Graph


@dataclass(frozen=True)
class GIM(Attribution):
    """The defaults are the paper's."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """The softmax temperature of the backward pass."""
    gate_rule: bool = True
    """Whether both halves of a gated MLP get half of the gradient. Models without a gate, such as
    GPT-2, are not affected."""
    name: ClassVar[str] = "gim"
    label: ClassVar[str] = "GIM"
    version: ClassVar[int] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 6.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        rules = BackwardRules(
            frozen_norms=True,
            half_products=self.gate_rule,
            softmax_temperature=self.temperature,
            queries=0.25,
            keys=0.25,
            values=0.5,
        )
        clean = batch.trace(rules=rules)
        return clean.scores(batch.loss(clean.logits, clean.logits), batch.difference(clean))
