"""HISP: head importance scores (Michel, Levy & Neubig 2019, arXiv:1905.10650), for edges.

A writer's importance is `Σ over prompts |∂loss/∂mask_w|`, with one mask for all readers of a writer
and all masks at 1. It is divided by the norm of the importances of its layer. An edge gets the
lower score of its two ends, because removing a writer removes all its edges.
Cost: two forward passes (clean and corrupted) and one backward per prompt, all edges at once.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from edgewise.attribution import Attribution, EdgeTable, PromptBatch, PromptScores
from edgewise.graph import Graph


@dataclass(frozen=True)
class HISP(Attribution):
    """The publication is about heads; ACDC's authors (arXiv:2304.14997) add the MLPs, as here.

    They score the q, the k and the v of a head, and here its output is scored.
    """

    name: ClassVar[str] = "hisp"
    label: ClassVar[str] = "HISP"
    has_sign: ClassVar[bool] = False

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 6.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        """Each writer's importance, at all its edges."""
        clean = batch.trace()
        scores = clean.scores(batch.loss(clean.logits, clean.logits), batch.difference(clean))
        legal = batch.model.graph.legal.to(scores.device)
        return scores.sum(1, keepdim=True).abs() * legal

    def combined(self, mean: EdgeTable, graph: Graph) -> EdgeTable:
        importance = mean[-1].clone()  # `out` reads every writer
        layers = [slice(len(graph.embeddings))]
        for attention, mlp in zip(graph.blocks[:-1:2], graph.blocks[1:-1:2], strict=True):
            layers.append(slice(attention.writers.start, mlp.writers.stop))
        for layer in layers:
            importance[layer] /= torch.linalg.vector_norm(importance[layer]).clamp(min=1e-6)
        return graph.weaker_end(importance) * graph.legal
