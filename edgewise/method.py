"""What every method for finding circuits offers, and what it says of itself."""

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
"""How a method goes about it: by chance, by gradients, by testing edges, by training masks."""


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass whose fields are the hyper-parameters, with the paper's defaults."""

    name: ClassVar[str]
    """As suites and the command line spell it."""
    label: ClassVar[str]
    """As tables and figures print it."""
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    """Raised whenever a number could move."""
    sweeps: ClassVar[str | None] = None
    """The setting that makes circuits sparser or denser; None where edges are ranked."""
    after_training: ClassVar[tuple[str, ...]] = ()
    """The settings that `finish` alone applies: cells that differ in no others share a training."""

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
        """What a training that ended with these tensors gives, where there are `after_training`."""
        raise NotImplementedError(f"{self.name} has no settings that apply after training")
