"""Edge Pruning (Bhaskar, Wettig, Friedman & Chen, NeurIPS 2024, arXiv:2406.16778).

Every edge and every writer has a hard-concrete mask
`z = clamp(σ((logit u + log α)/T)(r − l) + l, 0, 1)`. The masks are trained to minimise
`KL + λ₁(s − t) + λ₂(s − t)²`. Here s is the sparsity of the sampled masks and t a target that rises
linearly; λ₁ and λ₂ are raised by gradient ascent. A mask that gets no gradient still moves, since
weight decay pulls its log α towards 0; this is part of the method.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.constrained_masks import Constrained, ConstrainedMasks, ConstrainedMethod
from edgewise.graph import Graph
from edgewise.hard_concrete import cut_masks, largest, log_soft_mask
from edgewise.method import Count, Positive


@dataclass(frozen=True)
class EdgePruning(ConstrainedMethod):
    """The defaults are the paper's settings for GPT-2 small on IOI.

    Circuits are cut from evaluation masks. These are soft, but in each mask tensor the smallest are
    set to 0: as many as are expected to be 0.

    Three things are corrected here. Only legal edges count as expected zeros, the sparsity of the
    node masks counts every writer, and sparsity targets above 1 work with every schedule. In the
    published code a mask tensor also has entries that are not edges. Nothing trains them, so their
    log α decays towards 0, where each adds 0.17 to the number of expected zeros. The first layers
    have many such entries and few edges: there, every edge with log α below 0 is set to 0 because
    of them. Edges with log α above 0 are not affected.

    Two differences from the published code remain. Gradients are clipped by their norm. Without the
    node loss, the published code for language models includes in this norm the gradients of the
    node multipliers, although these train nothing; its code for Tracr models does not, and neither
    does this one. Under interchange ablation the node mask of `pos` changes no logit. In the
    published code rounding noise moves it by full steps of Adam; here it only decays.
    """

    target_sparsity: Positive = 0.98
    """The sparsity that training aims at. Above 1 it is never reached: the pressure remains."""
    target_warmup_steps: Count = 2500
    """Steps in which the targets rise linearly from 0."""
    node_masks: bool = True
    """Whether writers have masks too; an edge's mask is then multiplied by its writer's."""
    node_loss: bool = False
    """Whether the sparsity of the node masks has a target of its own. Without one, node masks are
    still trained and still decay."""
    node_target: Positive = 0.72
    """The target sparsity of the node masks, with `node_loss`."""
    cut: Literal["sparsity", "threshold", "ranking"] = "sparsity"
    """How masks become circuits. `sparsity` keeps the largest evaluation masks, as many as all of
    them add up to. `threshold` keeps those above `threshold`, as the paper does for Tracr.
    `ranking`, which the paper does not have, ranks all edges, for circuits of any size."""
    threshold: Annotated[float, Interval(ge=0, le=1)] = 0.005
    """What an evaluation mask has to exceed where `cut` is `threshold`."""
    name: ClassVar[str] = "edge-pruning"
    label: ClassVar[str] = "Edge Pruning"
    version: ClassVar[int] = 2
    sweeps: ClassVar[str | None] = "target_sparsity"
    aims_at: ClassVar[str | None] = "target_sparsity"
    after_training: ClassVar[tuple[str, ...]] = ("cut", "threshold")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.node_loss and not self.node_masks:
            raise ValueError("node_loss=True needs node_masks=True")

    @property
    def gives(self) -> Literal["a circuit", "a ranking"]:
        return "a ranking" if self.cut == "ranking" else "a circuit"

    def targets(self, step: int) -> Mapping[Constrained, float]:
        """They rise linearly."""
        goals: dict[Constrained, float] = {"edges": self.target_sparsity}
        if self.node_loss:
            goals["writers"] = self.node_target
        over = self.target_warmup_steps
        return {name: self.risen(step, goal, over) for name, goal in goals.items()}

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> ConstrainedMasks:
        """Masks that are all open."""
        trains: tuple[Constrained, ...] = ("edges", "writers") if self.node_masks else ("edges",)
        return ConstrainedMasks(self, graph, n_prompts, generator, trains=trains)

    @torch.no_grad()
    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or the ranking for trained log-alphas, which are kept as its `extra`.

        `log_alpha` is `[reader, writer]`; with node masks, `node_log_alpha` is `[writer]`.
        """
        log_alpha, nodes = trained["log_alpha"], trained.get("node_log_alpha")
        if self.cut == "ranking":
            scores = log_soft_mask(log_alpha)
            if nodes is not None:
                scores += log_soft_mask(nodes)
            return EdgeScores(scores, graph, extra=trained)
        keep = largest if self.cut == "sparsity" else lambda soft: soft > self.threshold
        return Circuit(cut_masks(trained, graph, keep), graph, extra=trained)
