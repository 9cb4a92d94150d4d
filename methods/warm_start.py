"""Warm start: Edge Pruning (arXiv:2406.16778) that starts from the ranking of another method.

Only the ranking's best edges can be in the circuit, as in HAP (arXiv:2510.03282). The better an
edge ranks, the larger its mask p is at the start: `log α = ⅔ logit((p + 0.1)/1.2)`.
Cost: that of the ranking, and that of the training.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval
from torch import Generator

from edgewise.circuit import Circuit, EdgeScores, n_edges_at
from edgewise.constrained_masks import ConstrainedMethod
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.hard_concrete import HardConcreteMasks
from edgewise.method import Family, Positive
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.warm_start import starting_log_alpha
from edgewise.wrapper import Wrapper


@dataclass(frozen=True)
class WarmStart(Wrapper):
    """The first inner method ranks edges. The second trains masks: `edge-pruning`, or its curve,
    with any settings but `target_sparsity`.

    Sparsity counts all edges of the graph. The target rises from 0 as in Edge Pruning, but is never
    below the sparsity that the training starts at. Masks of writers start open.
    HAP's paper does not say how many edges it keeps; it starts with open masks.
    """

    methods: str = "eap, edge-pruning"
    target_sparsity: Positive = 0.98
    """The sparsity that training aims at."""
    restrict: Annotated[float, Interval(gt=0, le=1)] = 0.2
    """The share of all edges, from the top of the ranking, that can be in the circuit."""
    init: Literal["ranking", "open"] = "ranking"
    """Where training starts: with larger masks for better edges, or with all masks open."""
    start_sparsity: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """How sparse the edges that can be in the circuit are at first, with `init` as `ranking`. It
    holds for those into each layer's attention, into its MLP, and into `out`."""
    name: ClassVar[str] = "warm-start"
    label: ClassVar[str] = "Warm start"
    family: ClassVar[Family] = "masks"
    sweeps: ClassVar[str | None] = "target_sparsity"
    aims_at: ClassVar[str | None] = "target_sparsity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.named()) != 2:
            raise ValueError(f"methods={self.methods!r}; expected two methods")
        self.refuse_inner("target_sparsity")

    @property
    def gives(self) -> Literal["a circuit", "a ranking", "several rankings"]:
        return self.inner[1].gives

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores:
        """The circuit or the ranking, with the trained tensors as its `extra`."""
        ranker, trainer = self.inner
        if ranker.gives != "a ranking":
            raise Unsupported(f"{self.label} from {ranker.label}, which gives {ranker.gives}")
        if not isinstance(trainer, ConstrainedMethod) or "edges" not in trainer.targets(0):
            raise Unsupported(f"{self.label} of {trainer.label}; expected Edge Pruning")
        ranking = ranker.discover(model, task, generator=generator)
        assert isinstance(ranking, EdgeScores)
        settings: dict[str, Any] = {"target_sparsity": self.target_sparsity}
        trainer = replace(trainer, **settings)
        training = trainer.training(model, task, generator)
        masks = training.masks
        assert isinstance(masks, HardConcreteMasks)
        allowed = ranking.circuit(n_edges_at(model.graph, 1 - self.restrict)).mask
        log_alpha = None
        if self.init == "ranking":
            log_alpha = starting_log_alpha(ranking, allowed, self.start_sparsity)
        masks.start_from(log_alpha, allowed)
        return trainer.complete(training, checkpoint)
