"""Edge Pruning curve: circuits of all sizes from one training of Edge Pruning (arXiv:2406.16778).

The target sparsity rises through the training, and its circuit is noted many times on the way. An
edge is ranked by how many of these circuits it is in, and then by its last mask. So one training
gives what Edge Pruning needs a training per size for, at the price of less training at each size.
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
    """How many circuits are noted, at equal distances."""
    name: ClassVar[str] = "edge-pruning-curve"
    label: ClassVar[str] = "Edge Pruning curve"

    def targets(self, step: int) -> Mapping[Constrained, float]:
        """It rises linearly."""
        return {"edges": self.target_sparsity * min(1.0, step / self.target_warmup_steps)}

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> "NotedMasks":
        """Masks of edges and of writers that are all open."""
        return NotedMasks(self, graph, n_prompts, generator)

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> EdgeScores:
        """The ranking by `circuits`, the number of circuits with each edge, then by the masks."""
        scores = log_soft_mask(trained["log_alpha"]) + log_soft_mask(trained["node_log_alpha"])
        return EdgeScores(trained["circuits"] + scores.exp() / 2, graph, extra=trained)


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
    def kept(self) -> Mapping[str, Tensor]:
        return {"circuits": self._circuits}

    def trained(self) -> dict[str, Tensor]:
        found = super().trained()
        return {**found, "circuits": self._circuits + cut_masks(found, self.graph)}
