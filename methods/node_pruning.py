"""Node pruning: Edge Pruning's training (arXiv:2406.16778) with one mask per writer.

`mask[r, w] = z_w`, the same for all readers: a head, an MLP or an embedding table is removed for
all that read it. The target is the sparsity of the writers. A circuit has all edges among the
writers that are kept.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.constrained_masks import Constrained, ConstrainedMasks, ConstrainedMethod
from edgewise.graph import Graph
from edgewise.hard_concrete import evaluation_masks, largest, log_soft_mask, tensor_sizes
from edgewise.method import Count, Positive


@dataclass(frozen=True)
class NodePruning(ConstrainedMethod):
    """The defaults are Edge Pruning's for GPT-2 small on IOI, the target aside."""

    target_sparsity: Positive = 0.72
    """The sparsity of the writers that training aims at."""
    target_warmup_steps: Count = 2500
    """Steps in which the target rises linearly from 0."""
    cut: Literal["sparsity", "ranking"] = "ranking"
    """How masks become circuits. `sparsity` keeps the writers with the largest evaluation masks, as
    many as all of them add up to. `ranking` ranks all edges by the weaker of their two ends."""
    name: ClassVar[str] = "node-pruning"
    label: ClassVar[str] = "Node pruning"
    sweeps: ClassVar[str | None] = "target_sparsity"
    after_training: ClassVar[tuple[str, ...]] = ("cut",)

    @property
    def gives(self) -> Literal["a circuit", "a ranking"]:
        return "a ranking" if self.cut == "ranking" else "a circuit"

    def targets(self, step: int) -> Mapping[Constrained, float]:
        """It rises linearly."""
        return {"writers": self.risen(step, self.target_sparsity, self.target_warmup_steps)}

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> ConstrainedMasks:
        """Masks that are all open."""
        return ConstrainedMasks(self, graph, n_prompts, generator, trains=("writers",))

    @torch.no_grad()
    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or the ranking for trained log-alphas, `node_log_alpha` `[writer]`."""
        log_alpha = trained["node_log_alpha"]
        if self.cut == "ranking":
            return EdgeScores(graph.weaker_end(log_soft_mask(log_alpha)), graph, extra=trained)
        kept = largest(evaluation_masks(log_alpha, tensor_sizes(graph)[1]))
        return Circuit(graph.between(kept), graph, extra=trained)
