"""Circuit-discovery methods: one file each, one line here."""

from typing import Protocol

from torch import Generator

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from methods.random import Random


class Method(Protocol):
    """A frozen dataclass whose fields are the hyper-parameters, with the paper's defaults.

    `discover` looks at `task.train` (and `task.validation` where a paper does) and draws chance
    from `generator` alone. It gives a circuit, a ranking of edges, or several rankings.
    """

    version: int

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores | list[EdgeScores]: ...


METHODS: dict[str, type] = {
    "random": Random,
    "eap": EAP,
    "acdc": ACDC,
    "edge-pruning": EdgePruning,
}
