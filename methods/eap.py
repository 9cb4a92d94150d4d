"""EAP: edge attribution patching (Syed, Rager & Conmy 2023, arXiv:2310.10348).

`score[r, w] = (ablated_w − clean_w) · ∂loss/∂input_r`, summed over positions and averaged over
prompts, with the gradient of the full model on the clean prompt. It equals `−∂loss/∂mask[r, w]` at
a mask of ones: the first-order estimate of how much the loss grows when that edge alone is ablated.
Cost: two forward passes (clean and corrupted) and one backward per prompt, all edges at once.
"""

from dataclasses import dataclass
from typing import ClassVar

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Graph


@dataclass(frozen=True)
class EAP(Attribution):
    """The paper keeps the edges with the largest absolute scores.

    The loss is the task's attribution loss, because the gradient of the KL vanishes at the full
    model.
    """

    name: ClassVar[str] = "eap"
    label: ClassVar[str] = "EAP"
    version: ClassVar[int] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """Two forward passes, and a backward pass with as much work as four."""
        return 6.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean = batch.trace()
        return clean.scores(batch.loss(clean.logits, clean.logits), batch.difference(clean))
