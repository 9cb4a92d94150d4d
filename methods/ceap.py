"""CEAP: conductance along the path of EAP-IG (arXiv:2606.16920).

The clean prompt runs with embeddings that move from those of the corrupted to those of the clean
prompt in `steps` steps. `score[r, w]` sums over the steps how far the writer's output moves in the
step, times ∂loss/∂input_r at its end. So a writer counts for what it does along the path, where
EAP-IG takes the difference of the two ends at every step.
Cost: two forward passes, and a forward and a backward pass per step.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Ablation, Graph


@dataclass(frozen=True)
class CEAP(Attribution):
    """One step is EAP. The sum over a reader's or a writer's edges is exact as steps grow many."""

    steps: Annotated[int, Interval(ge=1, le=1000)] = 20
    """The number of steps from the corrupted to the clean prompt."""
    name: ClassVar[str] = "ceap"
    label: ClassVar[str] = "CEAP"
    version: ClassVar[int] = 1
    outputs: ClassVar[int] = 5
    ablations: ClassVar[tuple[Ablation, ...]] = ("interchange",)

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 2.0 + 5.0 * self.steps

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean = batch.trace(gradient=False)
        difference = batch.difference(clean)
        before = clean.written + difference
        shares = [1 - step / self.steps for step in range(1, 1 + self.steps)]
        total = torch.tensor(0.0)
        for run in batch.path(clean, difference, shares):
            total = total + run.scores(batch.loss(run.logits, clean.logits), before - run.written)
            before = run.written
        return total
