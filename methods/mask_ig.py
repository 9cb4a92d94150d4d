"""Mask IG: integrated gradients over the masks of all edges at once (as in auto-circuit).

`score[r, w] = −∂loss/∂mask[r, w]`, averaged over masks all of whose entries are 0, 1 / steps, ...,
1. Where EAP-IG moves the embeddings from the corrupted to the clean prompt, this moves every edge
from ablated to present.
Cost: one forward pass for the corrupted prompts, one for the clean ones, and a masked forward and a
backward pass for each of `steps` + 1 masks.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Graph


@dataclass(frozen=True)
class MaskIG(Attribution):
    """The sum of all scores tends to the loss without any edge minus that of the full model."""

    steps: Annotated[int, Interval(ge=1, le=1000)] = 5
    """Into how many steps the way from the empty to the full mask is cut."""
    name: ClassVar[str] = "mask-ig"
    label: ClassVar[str] = "Mask IG"
    version: ClassVar[int] = 1
    outputs: ClassVar[int] = 6

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0 + 6.0 * (self.steps + 1)

    def scores(self, batch: PromptBatch) -> PromptScores:
        model, clean = batch.model, batch.trace(gradient=False)
        buffer = batch.buffer(paired=True)
        shape = len(batch.pairs), *model.graph.legal.shape
        total = torch.tensor(0.0)
        for step in range(self.steps + 1):
            mask = clean.written.new_full(shape, step / self.steps).requires_grad_()
            loss = batch.loss(model.run(buffer, mask, batch.targets), clean.logits).sum()
            total = total - torch.autograd.grad(loss, mask)[0]
        return total / (self.steps + 1)
