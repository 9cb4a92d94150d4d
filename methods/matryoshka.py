"""Matryoshka attribution: one ranking that is good at every size (arXiv:2609.25518).

Every edge has a score s. In each step a size k is drawn, and the masks are a soft choice of the k
best edges, `σ((s − τ)/T)` with τ such that the masks add up to k. Adam raises the scores of edges
that lower the loss. No sparsity penalty is needed, since k fixes the size.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise.circuit import EdgeScores
from edgewise.graph import Graph
from edgewise.mask_training import MaskMethod, Masks, SampledMasks
from edgewise.method import Count, Positive
from edgewise.task import Loss, Task

BISECTIONS = 50


@dataclass(frozen=True)
class Matryoshka(MaskMethod):
    """The defaults are the paper's for edges."""

    steps: Count = 5000
    """The number of updates of the scores."""
    batch_size: Count = 1
    """Training pairs per step; all of them, if there are fewer."""
    learning_rate: Positive = 0.05
    """Adam's."""
    temperature: Positive = 0.5
    """T: at a lower one the masks are closer to 0 and 1."""
    sizes: Literal["uniform", "logarithmic"] = "uniform"
    """How k is drawn from 1 to the number of edges: uniformly or log-uniformly."""
    objective: Literal["attribution", "training"] = "attribution"
    """The loss. `attribution`, the paper's, is the one that attribution methods differentiate, such
    as minus the logit difference. It rewards a circuit that is surer than the full model.
    `training`, such as the KL divergence, asks for the full model's outputs."""
    name: ClassVar[str] = "matryoshka"
    label: ClassVar[str] = "Matryoshka"

    def loss(self, task: Task) -> Loss:
        return task.attribution_loss if self.objective == "attribution" else task.training_loss

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> "MatryoshkaMasks":
        """All scores are 0."""
        return MatryoshkaMasks(self, graph, generator.device)

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> EdgeScores:
        """The ranking by the trained scores, `scores` `[reader, writer]`."""
        return EdgeScores(trained["scores"], graph, extra=trained)


class MatryoshkaMasks(Masks):
    """The scores of one training."""

    def __init__(self, method: Matryoshka, graph: Graph, device: torch.device) -> None:
        super().__init__(graph, device)
        self._method = method
        self._scores = torch.zeros(graph.n_edges, device=device, requires_grad=True)
        self.parameters, self.rates = {"scores": self._scores}, {"scores": method.learning_rate}

    def noise(self, generator: Generator) -> Float[Tensor, ""]:
        return torch.rand((), generator=generator, device=self._scores.device)

    def sample(self, noise: Float[Tensor, ""]) -> tuple[SampledMasks, None]:
        n_edges, uniform = len(self._scores), self._method.sizes == "uniform"
        size = 1 + noise * (n_edges - 1) if uniform else n_edges**noise
        soft = soft_top_k(self._scores, size, self._method.temperature)
        return self.table(soft[None]), None

    def trained(self) -> dict[str, Tensor]:
        return {"scores": self.table(self._scores.detach())}


def soft_top_k(
    scores: Float[Tensor, " edge"], size: Float[Tensor, ""], temperature: float
) -> Float[Tensor, " edge"]:
    """Masks `σ((s − τ)/T)` that add up to `size`, between 0 and the number of scores."""
    return _SoftTopK.apply(scores, size, temperature)


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, size: Tensor, temperature: float) -> Tensor:
        # At the upper bound the masks of n edges add up to less than n e^-(10 + log n), next to 0.
        reach = (10 + math.log(len(scores))) * temperature
        low, high = scores.min() - reach, scores.max() + reach
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            too_many = torch.sigmoid((scores - middle) / temperature).sum() > size
            low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
        masks = torch.sigmoid((scores - (low + high) / 2) / temperature)
        ctx.save_for_backward(masks)
        ctx.temperature = temperature
        return masks

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """τ moves with the scores, so that the sum stays what it is."""
        (masks,), (gradient,) = ctx.saved_tensors, gradients
        slope = masks * (1 - masks)
        shared = (gradient * slope).sum() / slope.sum().clamp(min=1e-8)
        return slope / ctx.temperature * (gradient - shared), None, None
