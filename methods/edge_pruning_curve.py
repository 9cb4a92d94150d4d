"""Edge Pruning curve: circuits of all sizes from one training of Edge Pruning (arXiv:2406.16778).

The target sparsity rises during training, and the current circuit is noted at equal intervals.
Edges rank by how many noted circuits contain them, then by their final mask. One training replaces
one per size, but each size gets fewer steps.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Generator, Tensor

from edgewise.circuit import EdgeScores
from edgewise.constrained_masks import Constrained, ConstrainedMasks, ConstrainedMethod
from edgewise.graph import Graph
from edgewise.hard_concrete import cut_masks, log_soft_mask
from edgewise.method import Count, Positive


@dataclass(frozen=True)
class EdgePruningCurve(ConstrainedMethod):
    """The defaults are Edge Pruning's for GPT-2 small on IOI, but for the target."""

    target_sparsity: Positive = 1.1
    """The sparsity that the target rises to. Above 1 the pressure remains to the end."""
    target_warmup_steps: Count = 2500
    """Steps in which the target rises linearly from 0."""
    circuits: Annotated[int, Interval(ge=2, le=10_000)] = 100
    """How many circuits are noted, at equal intervals."""
    name: ClassVar[str] = "edge-pruning-curve"
    label: ClassVar[str] = "Edge Pruning curve"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.circuits > self.steps:
            raise ValueError(f"circuits={self.circuits}; expected 2 to {self.steps} (steps)")

    def targets(self, step: int) -> Mapping[Constrained, float]:
        """It rises linearly."""
        return {"edges": self.risen(step, self.target_sparsity, self.target_warmup_steps)}

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> "NotedMasks":
        """Masks of edges and of writers that are all open."""
        return NotedMasks(self, graph, n_prompts, generator)

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> EdgeScores:
        """The ranking by `circuits`, the number of circuits with each edge, then by the masks."""
        scores = log_soft_mask(trained["log_alpha"]) + log_soft_mask(trained["node_log_alpha"])
        # In float64: at many circuits the masks would be lost in a float32's rounding.
        values = trained["circuits"].double() + scores.double().exp() / 2
        return EdgeScores(values, graph, extra=trained)


class NotedMasks(ConstrainedMasks):
    """The masks of one training, with the number of noted circuits that each edge was in."""

    def __init__(
        self, method: EdgePruningCurve, graph: Graph, n_prompts: int, generator: Generator
    ) -> None:
        super().__init__(method, graph, n_prompts, generator, trains=("edges", "writers"))
        # The last circuit is that of the end.
        self._noted_at = {
            round(place * method.steps / method.circuits) for place in range(1, method.circuits)
        }
        self._circuits = torch.zeros(graph.legal.shape, device=generator.device)

    def start_step(self, step: int) -> float:
        if step in self._noted_at:
            self._circuits += cut_masks(super().trained(), self.graph)
        return super().start_step(step)

    @property
    def noted(self) -> Mapping[str, Tensor]:
        return {"circuits": self._circuits}

    def trained(self) -> dict[str, Tensor]:
        found = super().trained()
        return {**found, "circuits": self._circuits + cut_masks(found, self.graph)}
