"""Activation difference: a control that knows how much each writer responds to the corruption.

`score[r, w] = ‖ablated_w − clean_w‖₂`, summed over positions and averaged over prompts: the same
for all edges from a writer, without a gradient or an answer.
Cost: two forward passes (clean and corrupted) per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

from edgewise.attribution import Attribution, PromptBatch, PromptScores, Selection
from edgewise.graph import Graph
from edgewise.method import Family


@dataclass(frozen=True)
class ActivationDifference(Attribution):
    """A method that uses gradients should do better than this."""

    selection: Selection = "greedy-absolute"
    name: ClassVar[str] = "activation-difference"
    label: ClassVar[str] = "Activation difference"
    family: ClassVar[Family] = "baseline"
    version: ClassVar[int] = 1
    has_sign: ClassVar[bool] = False

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        difference = batch.difference(batch.trace(gradient=False))
        size = (difference.norm(dim=-1) * batch.real[:, None]).sum(-1)
        return size[:, None] * batch.model.graph.legal.to(size.device)
