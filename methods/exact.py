"""Exact: every edge removed alone (activation patching of edges), the oracle of attribution.

`score[r, w]` is how much the loss grows when that edge is removed and all others stay. Gradients
estimate this to first order; edges that matter only together score low here as well.
Cost: at most one forward pass per edge, which runs only what follows the edge's reader, about a
third of the model. Several edges are removed side by side.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Graph


@dataclass(frozen=True)
class Exact(Attribution):
    """Readers are visited from `out` upwards, so that what comes before a reader is never rerun."""

    name: ClassVar[str] = "exact"
    label: ClassVar[str] = "Exact"
    version: ClassVar[int] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0 + graph.passes_over_edges

    @torch.no_grad()
    def scores(self, batch: PromptBatch) -> PromptScores:
        clean, legal = batch.trace(gradient=False), batch.model.graph.legal
        before = batch.loss(clean.logits, clean.logits)
        scores = before.new_zeros(len(batch.pairs), *legal.shape)
        at_once = batch.n_masks_at_once
        buffer = batch.buffer(n_masks=at_once)
        for reader in reversed(range(len(legal))):
            for writers in legal[reader].nonzero().flatten().split(at_once):
                masks = legal.repeat(len(writers), 1, 1)
                masks[range(len(writers)), reader, writers] = False
                logits = batch.model.run(buffer, masks, batch.targets)
                scores[:, reader, writers] = (batch.loss(logits, clean.logits) - before).T
        return scores
