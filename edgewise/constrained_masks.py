"""Hard-concrete masks whose sparsity is a constraint, as in Edge Pruning (arXiv:2406.16778).

The penalty `λ₁(s − t) + λ₂(s − t)²` pulls the sparsity s of the sampled masks towards a rising
target t. λ₁ and λ₂ are updated by gradient ascent, so the pull grows while the target is missed.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from edgewise.graph import Graph
from edgewise.hard_concrete import HardConcreteMasks, mask_without_noise
from edgewise.mask_training import MaskMethod
from edgewise.method import Count, Positive

Constrained = Literal["edges", "writers"]
"""What can have masks, and a target sparsity."""


@dataclass(frozen=True)
class ConstrainedMethod(MaskMethod):
    """The settings of such a training."""

    learning_rate: Positive = 0.8
    """The peak learning rate of the log α."""
    lagrangian_learning_rate: Positive = 0.8
    """The peak learning rate of the multipliers λ₁ and λ₂."""
    warmup_steps: Annotated[int, Ge(0)] = 200
    """Steps in which the learning rates rise linearly. After that they fall linearly to 0."""
    noise_samples: Count = 1
    """Masks drawn in each step, each for its own part of the batch, at most one per prompt. Then s
    is their mean sparsity, and a step costs the same. The paper draws one."""
    weight_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.01
    """AdamW's, for the log α and the multipliers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_samples > self.batch_size:
            raise ValueError(
                f"noise_samples={self.noise_samples}; expected 1 to {self.batch_size} (batch_size)"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}; expected 0 to {self.steps - 1} (steps − 1)"
            )

    def risen(self, step: int, target: float, over: int) -> float:
        """A target that rises linearly from 0 over so many steps, and then stays."""
        return target * min(1.0, step / over)

    @abstractmethod
    def targets(self, step: int) -> Mapping[Constrained, float]:
        """The target sparsities at this step. The keys are the same at every step."""


class ConstrainedMasks(HardConcreteMasks):
    """The masks and multipliers of one training."""

    max_gradient_norm = 1.0

    def __init__(
        self,
        method: ConstrainedMethod,
        graph: Graph,
        n_prompts: int,
        generator: Generator,
        *,
        trains: tuple[Constrained, ...],
    ) -> None:
        super().__init__(
            graph,
            generator,
            edges="edges" in trains,
            writers="writers" in trains,
            n_samples=min(method.noise_samples, method.batch_size, n_prompts),
            mean=10.0,
            deviation=0.01,
        )
        self._method, self.weight_decay = method, method.weight_decay
        self._constrained = tuple(method.targets(0))
        n_targets, device = len(self._constrained), generator.device
        self._targets = torch.zeros(n_targets, device=device)
        self._least_target: dict[Constrained, float] = {}
        self._multipliers = torch.zeros(2 * n_targets, device=device, requires_grad=True)
        self.parameters = {"log_alpha": self.log_alpha, "multipliers": self._multipliers}
        self.rates = {
            "log_alpha": method.learning_rate,
            "multipliers": method.lagrangian_learning_rate,
        }
        self.ascending = ("multipliers",)

    def start_from(
        self,
        log_alpha: Float[Tensor, "reader writer"] | None,
        allowed: Bool[Tensor, "reader writer"],
    ) -> None:
        """Start as the base class does; the target of edges is never below their first sparsity."""
        super().start_from(log_alpha, allowed)
        edges, _ = self.split(mask_without_noise(self.log_alpha.detach()))
        kept = edges * allowed[self.graph.legal].to(edges)
        self._least_target["edges"] = 1 - float(kept.mean())

    def start_step(self, step: int) -> float:
        """Set the targets; the learning rates rise linearly from 0 and then fall linearly to 0."""
        method = self._method
        for target, (name, value) in zip(self._targets, method.targets(step).items(), strict=True):
            target.fill_(max(value, self._least_target.get(name, value)))
        if step < method.warmup_steps:
            return step / method.warmup_steps
        return (method.steps - step) / (method.steps - method.warmup_steps)

    @property
    def facts(self) -> Mapping[str, Tensor]:
        """The sparsity of the masks drawn last."""
        return {"sparsity": self._sparsity}

    def penalty(
        self, edges: Float[Tensor, "sample edge"], writers: Float[Tensor, "sample writer"]
    ) -> Tensor:
        means = {"edges": edges.mean(), "writers": writers.mean()}
        drawn = torch.stack([means[name] for name in self._constrained])
        self._sparsity = 1 - means["edges"].detach()
        gap = 1 - drawn - self._targets
        return (self._multipliers * torch.cat([gap, gap.square()])).sum()
