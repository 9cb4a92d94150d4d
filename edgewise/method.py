"""The interface of circuit-discovery methods."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

Family = Literal["baseline", "attribution", "search", "masks"]
"""The kind of method: random, by gradients, by testing edges, or by training masks."""


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass whose fields are the hyper-parameters, with the paper's defaults."""

    name: ClassVar[str]
    """As suites and the command line spell it."""
    label: ClassVar[str]
    """As tables and figures print it."""
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    """Increased whenever its results could change."""
    sweeps: ClassVar[str | None] = None
    """The setting that makes circuits sparser or denser; None where edges are ranked."""
    after_training: ClassVar[tuple[str, ...]] = ()
    """Settings that only `finish` uses. Cells that differ only in these share one training."""

    @abstractmethod
    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores | list[EdgeScores]:
        """A circuit, a ranking of edges, or several rankings.

        It looks at `task.train` (and `task.validation` where a paper does) and draws chance from
        `generator` alone. Raises Unsupported for a task that the method cannot run.
        """

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or ranking for these trained tensors, for methods with `after_training`."""
        raise NotImplementedError(f"{self.name} has no settings that apply after training")
