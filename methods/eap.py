"""EAP: edge attribution patching (Syed, Rager & Conmy 2023, arXiv:2310.10348).

`score[r, w] = −∂loss/∂mask[r, w]` at a mask of ones. This equals `(ablated_w − clean_w) ·
∂loss/∂input_r`, summed over positions and averaged over prompts. It is the first-order estimate of
how much the loss grows when that edge alone is ablated.
Cost: two forward passes (clean and corrupted) and one backward per prompt, all edges at once.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator

from edgewise import parallel
from edgewise.batches import Batches
from edgewise.circuit import EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.progress import track
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

Selection = Literal["top-absolute", "top-signed", "greedy-absolute", "greedy-signed"]


@dataclass(frozen=True)
class EAP(Method):
    """The paper keeps the edges with the largest absolute scores.

    The loss is the task's attribution loss, because the gradient of the KL vanishes at the full
    model.
    """

    selection: Selection = "top-absolute"
    """How circuits are cut from the scores. `top` keeps the edges with the highest scores; `greedy`
    grows the circuit from `out`, adding the best edge whose reader already belongs to it.
    `absolute` ranks by the absolute value of a score, `signed` by the score itself."""
    name: ClassVar[str] = "eap"
    label: ClassVar[str] = "EAP"
    family: ClassVar[Family] = "attribution"
    version: ClassVar[int] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """Two forward passes, and a backward pass with as much work as four."""
        return 6.0

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> EdgeScores:
        """The ranking; the signed scores are kept in its `extra` as `signed`."""
        mine = parallel.share(task.train)
        batches = Batches(model, mine, task.ablation, budget_bytes=0, mean_over=task.train)
        total = torch.zeros(model.graph.legal.shape, dtype=torch.float64, device=model.device)
        for index in track(batches.indices(), "eap"):
            batch = batches.batch(index)
            mask = torch.ones(total.shape, dtype=model.dtype, device=model.device).requires_grad_()
            logits = model(batch.tokens, mask, batch.ablated, batch.targets, batch.prefix)
            loss = task.attribution_loss(logits, batch.full_logits, batch.pairs).sum()
            total -= torch.autograd.grad(loss, mask)[0]
        signed = (parallel.total(total) / len(task.train)).float().cpu()
        cut, sign = self.selection.split("-")
        return EdgeScores(
            signed.abs() if sign == "absolute" else signed,
            model.graph,
            extra={"signed": signed},
            selection="greedy" if cut == "greedy" else "top",
        )
