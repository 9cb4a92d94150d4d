"""ACDC ranking: circuits of ACDC (arXiv:2304.14997) at several thresholds as one ranking.

ACDC runs at each threshold τ, every time from the full model. Edges are ranked by the smallest τ at
which they are removed, as in AutoCircuit (Miller et al. 2024, arXiv:2407.08734); those that no
search removes come first. Of edges removed at the same τ, those come first that more of the other
searches keep.
Cost: one search for each threshold.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.method import Family, Positive
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper


@dataclass(frozen=True)
class ACDCRanking(Wrapper):
    """The inner method is ACDC, with any settings but `threshold`.

    Searches are not nested: an edge that a small threshold removes may stay at a larger one. So a
    circuit cut from the ranking need not be one that ACDC found. A search that was interrupted
    starts anew; those before it are kept.
    """

    methods: str = "acdc"
    lowest: Positive = 1e-3
    """The smallest threshold."""
    highest: Positive = 1e-1
    """The largest threshold."""
    searches: Annotated[int, Interval(ge=2, le=1000)] = 5
    """How many thresholds there are. Each is the one before it times the same factor."""
    name: ClassVar[str] = "acdc-ranking"
    label: ClassVar[str] = "ACDC ranking"
    family: ClassVar[Family] = "search"
    takes_one: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest >= self.highest:
            raise ValueError(f"lowest={self.lowest}; expected less than {self.highest} (highest)")
        self.refuse_inner("threshold")

    @property
    def thresholds(self) -> list[float]:
        factor = (self.highest / self.lowest) ** (1 / (self.searches - 1))
        return [self.lowest * factor**place for place in range(self.searches)]

    @property
    def runs(self) -> int:
        return self.searches

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> EdgeScores:
        """The ranking; `meta` has the counts of all searches together."""
        (inner,) = self.inner
        if inner.sweeps != "threshold":
            raise Unsupported(f"{self.label} of {inner.label}; expected ACDC")
        kept, counts = torch.zeros(0, *model.graph.legal.shape, dtype=torch.bool), {}
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            tensors, counts = saved
            kept = tensors["kept"]
            generator.set_state(tensors["generator"])
        for threshold in self.thresholds[len(kept) :]:
            settings: dict[str, Any] = {"threshold": threshold}
            found = replace(inner, **settings).discover(model, task, generator=generator)
            assert isinstance(found, Circuit)
            kept = torch.cat([kept, found.mask[None]])
            own = {name: count for name, count in found.meta.items() if isinstance(count, int)}
            counts = {name: counts.get(name, 0) + count for name, count in own.items()}
            if checkpoint is not None and checkpoint.due():
                checkpoint.save({"kept": kept, "generator": generator.get_state()}, counts)
        return EdgeScores(places(kept), model.graph, counts)


def places(kept: Tensor) -> Tensor:
    """Scores `[reader, writer]` for the edges that each search keeps, `[search, reader, writer]`.

    The number of searches before the first that removes the edge; below that, of all that keep it.
    """
    before = kept.cumprod(0).sum(0)
    return before + kept.sum(0) / (len(kept) + 1)
