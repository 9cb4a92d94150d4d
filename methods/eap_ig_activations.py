"""EAP-IG-activations: integrated gradients over activations (Hanna et al. 2024, arXiv:2403.17806).

The embeddings, the heads of each layer and each MLP are set in turn to values between what they
write on the corrupted and on the clean prompt, `steps` values each; all else runs on the clean
prompt. `score[r, w] = (ablated_w − clean_w) · ∂loss/∂input_r`, with the mean gradient of all these
runs. What is set is a constant, so its own inputs get no gradient through it.
Cost: two forward passes, and a forward and a backward pass per step and component.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval

from edgewise.attribution import Attribution, PromptBatch, PromptScores, moved
from edgewise.graph import Graph


@dataclass(frozen=True)
class EAPIGActivations(Attribution):
    """The heads of a layer move together, as in the MIB benchmark's code."""

    steps: Annotated[int, Interval(ge=1, le=1000)] = 5
    """The number of values to which each component is set, the clean one among them."""
    name: ClassVar[str] = "eap-ig-activations"
    label: ClassVar[str] = "EAP-IG-activations"
    version: ClassVar[int] = 1
    outputs: ClassVar[int] = 5

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0 + 5.0 * self.steps * len(graph.blocks)

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean = batch.trace(gradient=False)
        difference = batch.difference(clean)
        graph = batch.model.graph
        embeddings = slice(len(graph.embeddings))
        total = torch.tensor(0.0)
        for step in range(1, 1 + self.steps):
            ends = clean.written, difference, 1 - step / self.steps
            settings: list[dict[str, Any]] = [{"embedded": moved(*ends, embeddings)}]
            settings += [{"outputs": {b.index: moved(*ends, b.writers)}} for b in graph.blocks[:-1]]
            for setting in settings:
                run = batch.trace(**setting)
                total = total + run.scores(batch.loss(run.logits, clean.logits), difference)
        return total / (self.steps * len(graph.blocks))
