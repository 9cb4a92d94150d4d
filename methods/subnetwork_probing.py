"""Subnetwork probing (Cao, Sanh & Rush 2021, arXiv:2104.03514), as ACDC's authors run it.

Every writer has a hard-concrete mask, the same for all that read it: `mask[r, w] = z_w`. Adam
minimises the loss plus λ times the expected share of masks that are not 0. A circuit has all edges
among the writers that are kept.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.graph import Graph
from edgewise.hard_concrete import HardConcreteMasks, log_soft_mask, probability_of_zero
from edgewise.mask_training import MaskMethod
from edgewise.method import Count, Positive


@dataclass(frozen=True)
class SubnetworkProbing(MaskMethod):
    """The defaults are those of ACDC's authors (Conmy et al. 2023, arXiv:2304.14997).

    Three things differ. They mask the q, the k and the v of a head, and here its output is masked,
    and embeddings are, so that all methods have the same graph. Their penalty is a mean over layers
    and kinds of masks, here over writers. They cut a circuit from one random draw of the masks, and
    here it is cut where the log α is above 0, so that the same training gives the same circuit.
    """

    penalty: Positive = 1.0
    """λ: a larger one gives smaller circuits."""
    learning_rate: Positive = 1e-3
    """Adam's."""
    batch_size: Count = 10**9
    """Training pairs per step; all of them, if there are fewer."""
    cut: Literal["threshold", "ranking"] = "ranking"
    """How masks become circuits. `threshold` keeps the writers with a log α above 0. `ranking`
    ranks all edges by the weaker of their two ends."""
    name: ClassVar[str] = "subnetwork-probing"
    label: ClassVar[str] = "Subnetwork probing"
    sweeps: ClassVar[str | None] = "penalty"
    after_training: ClassVar[tuple[str, ...]] = ("cut",)

    @property
    def gives(self) -> Literal["a circuit", "a ranking"]:
        return "a ranking" if self.cut == "ranking" else "a circuit"

    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> "ProbingMasks":
        """Masks that are nearly open."""
        return ProbingMasks(self, graph, generator)

    @torch.no_grad()
    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or the ranking for trained log-alphas, `node_log_alpha` `[writer]`."""
        log_alpha = trained["node_log_alpha"]
        if self.cut == "ranking":
            return EdgeScores(graph.weaker_end(log_soft_mask(log_alpha)), graph, extra=trained)
        return Circuit(graph.between(log_alpha > 0), graph, extra=trained)


class ProbingMasks(HardConcreteMasks):
    """The masks of one training, all of which are penalised."""

    def __init__(self, method: SubnetworkProbing, graph: Graph, generator: Generator) -> None:
        # A log α of log 5 gives a mask whose σ is (0.9 − l) / (r − l).
        super().__init__(graph, generator, edges=False, mean=1.6094, deviation=0.0)
        self._penalty = method.penalty
        self.parameters = {"log_alpha": self.log_alpha}
        self.rates = {"log_alpha": method.learning_rate}

    def penalty(
        self, edges: Float[Tensor, "sample edge"], writers: Float[Tensor, "sample writer"]
    ) -> Tensor:
        return self._penalty * (1 - probability_of_zero(self.log_alpha)).mean()
