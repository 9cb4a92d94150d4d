"""UGS: uniform gradient sampling (Li & Janson 2024, arXiv:2409.09951).

Every edge is kept with a probability p = σ(θ). A mask is 1 or 0 most of the time, and between the
two with probability p(1 − p): then, and only then, p gets the mask's gradient. The loss has `λ Σ p`
added, and a term for heads, which are cheaper to remove as a whole. The values that removed edges
carry can be learned together with the masks (optimal ablation, Li & Janson 2024).
Cost: one masked forward and one backward pass per sampled mask in each step, plus one full and one
corrupted run per prompt in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise.batches import mean_of_positions
from edgewise.circuit import EdgeScores
from edgewise.graph import Graph
from edgewise.mask_training import MaskMethod, Masks, MaskTraining, SampledMasks
from edgewise.method import Count, Positive
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

START = 1.0
"""Every θ before the first step: p is 0.73."""
INTERIOR = 1e-3
"""How far from 0 and 1 a mask has to be for its gradient to count."""


@dataclass(frozen=True)
class UGS(MaskMethod):
    """The defaults are the paper's for this λ and counterfactual (interchange) ablation.

    Gradients are clipped by their norm over all edges; the published code clips those of each kind
    of edge. It also removes edges without a path from each mask, which is not done here: under
    interchange ablation it does not change the logits.
    """

    penalty: Positive = 1e-3
    """λ: what keeping an edge costs."""
    learning_rate: Positive = 0.01
    """AdamW's."""
    batch_size: Count = 5
    """Training pairs per step; all of them, if there are fewer."""
    samples: Count = 12
    """Masks drawn for each of these pairs."""
    ablation_values: Literal["task", "learned"] = "task"
    """What removed edges carry in training: the values of the task's ablation, or one vector per
    writer that is trained with the masks and is the same at all positions. In both cases, circuits
    are evaluated under the task's ablation."""
    values_learning_rate: Positive = 2e-3
    """AdamW's learning rate for learned vectors. They start at the writers' means on the corrupted
    prompts and get the whole gradient; the published code gives them only that of removed edges."""
    name: ClassVar[str] = "ugs"
    label: ClassVar[str] = "UGS"
    added: ClassVar[tuple[str, ...]] = ("ablation_values", "values_learning_rate")

    @property
    def repeats(self) -> int:
        return self.samples

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> "UniformMasks":
        """Each edge is kept with a probability of 0.73."""
        return UniformMasks(self, graph, n_prompts, generator.device)

    def training(self, model: MaskedTransformer, task: Task, generator: Generator) -> MaskTraining:
        if self.ablation_values == "task":
            return super().training(model, task, generator)
        masks = self.masks(model.graph, len(task.train), generator)
        masks.learn_values(mean_of_positions(model, task.train), self.values_learning_rate)
        given: dict[str, Any] = {"batch_size": self.batch_size, "repeats": self.repeats}
        return MaskTraining(masks, model, task, generator, loss=self.loss(task), **given)

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> EdgeScores:
        """The ranking by the trained logits θ, `logits` `[reader, writer]`."""
        return EdgeScores(trained["logits"], graph, extra=trained)


class UniformMasks(Masks):
    """The logits of one training."""

    betas = (0.9, 0.995)
    max_gradient_norm = 5.0

    def __init__(self, method: UGS, graph: Graph, n_prompts: int, device: torch.device) -> None:
        super().__init__(graph, device)
        self._penalty, self._feeds = method.penalty, graph.feeds.to(device)
        self._heads = torch.cat(
            [
                torch.arange(b.writers.start, b.writers.stop)
                for b in graph.blocks
                if b.kind == "attention"
            ]
        ).to(device)
        self._n_samples = method.samples * min(method.batch_size, n_prompts)
        self._logits = torch.full((graph.n_edges,), START, device=device).requires_grad_()
        self.parameters, self.rates = {"logits": self._logits}, {"logits": method.learning_rate}

    def learn_values(self, start: Float[Tensor, "writer d_model"], rate: float) -> None:
        """Train the values that removed edges carry, too, starting from these."""
        self.ablated = start.float().requires_grad_()
        self.parameters = {**self.parameters, "ablated": self.ablated}
        self.rates = {**self.rates, "ablated": rate}

    def noise(self, generator: Generator) -> Float[Tensor, "sample edge"]:
        shape = self._n_samples, len(self._logits)
        return torch.rand(shape, generator=generator, device=self._logits.device)

    def sample(self, noise: Float[Tensor, "sample edge"]) -> tuple[SampledMasks, Tensor]:
        probability = self._logits.sigmoid()
        masks = self.table(uniform_masks(probability, noise))
        penalty = self._penalty * probability.sum() + self._of_heads(self.table(probability))
        return masks, penalty

    def _of_heads(self, kept: Float[Tensor, "reader writer"]) -> Tensor:
        """The term for heads: `ν Σ tanh(2x/LH) LH/2`, x the expected edges from and to a head."""
        strength, n_heads = min(self._penalty / 2, 2e-4), len(self._heads)
        into = self._feeds[:, self._heads].to(kept.dtype).T @ kept.sum(1)
        edges = kept[:, self._heads].sum(0) + into
        return strength * (torch.tanh(2 * edges / n_heads) * n_heads / 2).sum()

    def trained(self) -> dict[str, Tensor]:
        values = {} if self.ablated is None else {"ablated": self.ablated.detach()}
        return {"logits": self.table(self._logits.detach()), **values}


def uniform_masks(
    probability: Float[Tensor, " edge"], noise: Float[Tensor, "sample edge"]
) -> Float[Tensor, "sample edge"]:
    """Masks for `noise` uniform in [0, 1], 1 where it is well below the probability.

    With w = p(1 − p), a mask is `1 − clamp((u − p)/w + ½, 0, 1)`. Its mean is p. A probability gets
    the mean gradient of its masks that are neither 0 nor 1, as if all masks were such.
    """
    fixed = probability.detach()
    width = (fixed * (1 - fixed)).clamp(min=1e-12)
    masks = 1 - ((noise - fixed) / width + 0.5).clamp(0, 1)
    interior = (masks > INTERIOR) & (masks < 1 - INTERIOR)
    share = interior / interior.sum(0).clamp(min=1)
    return masks + len(masks) * share * (probability - fixed)
