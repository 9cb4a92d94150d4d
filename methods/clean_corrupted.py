"""Clean-corrupted: EAP with the gradients of both prompts (Hanna et al. 2024, arXiv:2403.17806).

`score[r, w] = (corrupted_w − clean_w) · ½ (∂loss/∂input_r on the clean + on the corrupted prompt)`.
The answers of both runs are those of the clean prompt.
Cost: two forward and two backward passes per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.graph import Ablation, Graph


@dataclass(frozen=True)
class CleanCorrupted(Attribution):
    """The average of what EAP gives by noising and by denoising, as one ranking."""

    name: ClassVar[str] = "clean-corrupted"
    label: ClassVar[str] = "Clean-corrupted"
    version: ClassVar[int] = 1
    traces: ClassVar[int] = 2
    outputs: ClassVar[int] = 4
    ablations: ClassVar[tuple[Ablation, ...]] = ("interchange",)

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 10.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean, corrupted = batch.trace(), batch.trace(corrupted=True)
        difference = corrupted.written - clean.written
        noising = clean.scores(batch.loss(clean.logits, clean.logits), difference)
        denoising = corrupted.scores(batch.loss(corrupted.logits, clean.logits), difference)
        return (noising + denoising) / 2
