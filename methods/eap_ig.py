"""EAP-IG: EAP with integrated gradients over the embeddings (Hanna et al. 2024, arXiv:2403.17806).

`score[r, w] = (ablated_w − clean_w) · mean of ∂loss/∂input_r over a path`: the clean prompt runs
with embeddings that lie between those of the corrupted and of the clean prompt, and the gradients
at `steps` points are averaged. The difference of the writers is that of the two ends throughout.
Cost: two forward passes, and a forward and a backward pass per step.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Graph


@dataclass(frozen=True)
class EAPIG(Attribution):
    """Named EAP-IG-inputs by the MIB benchmark, whose settings are the defaults."""

    steps: Annotated[int, Interval(ge=1, le=1000)] = 5
    """The number of points on the path."""
    rule: Literal["left", "right"] = "left"
    """Which points: with `left` the corrupted end is one of them, as in MIB's code, with `right`
    the clean end, as in the paper. One step to the right is EAP."""
    name: ClassVar[str] = "eap-ig"
    label: ClassVar[str] = "EAP-IG"
    version: ClassVar[int] = 1
    outputs: ClassVar[int] = 4

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0 + 5.0 * self.steps

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean = batch.trace(gradient=False)
        difference = batch.difference(clean)
        first = 0 if self.rule == "left" else 1
        shares = [1 - step / self.steps for step in range(first, first + self.steps)]
        total = torch.tensor(0.0)
        for run in batch.path(clean, difference, shares):
            total = total + run.scores(batch.loss(run.logits, clean.logits), difference)
        return total / self.steps
