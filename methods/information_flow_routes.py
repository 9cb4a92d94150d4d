"""Information flow routes (Ferrando & Voita 2024, arXiv:2403.00824), for the edges of this graph.

A writer's share of a reader's input x is in proportion to `max(0, ‖x‖₁ − ‖x − clean_w‖₁)`; the
shares of all writers add up to 1, unless none is nearer to x than zero is. `score[r, w]` is the
mean share over positions and prompts. It depends on no corrupted prompt, answer or gradient, and is
the same for all readers of a layer's attention.
Cost: one forward pass per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.attribution import Attribution, PromptBatch, PromptScores, Selection
from edgewise.graph import Graph


@dataclass(frozen=True)
class InformationFlowRoutes(Attribution):
    """Circuits are grown from `out`, as in the MIB benchmark: scores of different readers are no
    measure of each other."""

    selection: Selection = "greedy-absolute"
    name: ClassVar[str] = "information-flow-routes"
    label: ClassVar[str] = "Information flow"
    version: ClassVar[int] = 1
    has_sign: ClassVar[bool] = False
    traces: ClassVar[int] = 0
    outputs: ClassVar[int] = 2
    patches: ClassVar[bool] = False

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 1.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        written = batch.trace(gradient=False).written
        graph, lengths = batch.model.graph, batch.pairs.lengths[:, None]
        scores = written.new_zeros(len(written), *graph.legal.shape)
        for block in graph.blocks:
            share = _shares(written[:, : block.n_legal]) * batch.real[:, None]
            mean = share.sum(2) / lengths
            scores[:, block.readers, : block.n_legal] = mean[:, None]
        return scores


def _shares(
    written: Float[Tensor, "batch writer position d_model"],
) -> Float[Tensor, "batch writer position"]:
    """Each writer's share of their sum; 0 where no writer is nearer to it than zero is."""
    whole = written.sum(1, keepdim=True)
    rest = torch.stack([(whole[:, 0] - part).abs().sum(-1) for part in written.unbind(1)], 1)
    nearness = (whole.abs().sum(-1) - rest).clamp(min=0)
    total = nearness.sum(1, keepdim=True)
    return torch.where(total > 0, nearness / total, 0)
