"""Random: the control. Edges ranked by their first visit on random paths backwards from `out`.

Every path starts at `out` and ends at the token embedding. At a reader it goes to one of its legal
writers, and from there to one of the readers of that writer's component, each chosen uniformly. A
circuit of any size is therefore made of whole paths, as the circuits of other methods are, but it
depends on neither the model's weights nor the task.
Cost: no forward or backward pass.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise.circuit import EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.progress import track
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

PATHS_AT_ONCE, MOST_PATHS = 50_000, 1_000_000


@dataclass(frozen=True)
class Random(Method):
    """The model's graph is all that the rankings depend on."""

    draws: Annotated[int, Interval(ge=1, le=10_000)] = 20
    """The number of independent rankings. Figures show them as a band."""
    name: ClassVar[str] = "random"
    label: ClassVar[str] = "Random"
    family: ClassVar[Family] = "baseline"
    version: ClassVar[int] = 1

    @property
    def gives(self) -> Literal["several rankings"]:
        return "several rankings"

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 0.0

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> list[EdgeScores]:
        """One ranking per draw."""
        return [
            EdgeScores(_path_scores(model.graph, generator), model.graph)
            for _ in track(range(self.draws), "random draws")
        ]


def _path_scores(graph: Graph, generator: Generator) -> Float[Tensor, "reader writer"]:
    """The earlier an edge is first visited, the higher its score; unvisited edges come last.

    Unvisited edges are in random order. Among them are all edges from embedding writers other than
    the token embedding, as no path goes through those.
    """
    device, n_writers = generator.device, len(graph.writers)
    skipped = len(graph.embeddings) - 1
    n_legal = graph.legal.sum(1).to(device)
    inputs = [column.nonzero().flatten() for column in graph.feeds.T]
    n_inputs = torch.tensor([max(1, len(readers)) for readers in inputs], device=device)
    table = torch.zeros(n_writers, int(n_inputs.max()), dtype=torch.long, device=device)
    for writer, readers in enumerate(inputs):
        table[writer, : len(readers)] = readers.to(device)

    def uniform(below: Tensor) -> Tensor:
        return (torch.rand(below.shape, generator=generator, device=device) * below).long()

    first = torch.full((graph.legal.numel(),), torch.inf, device=device, dtype=torch.float64)
    longest = len(graph.blocks)
    reachable = graph.legal.clone()
    reachable[:, 1 : 1 + skipped] = False
    for done in range(0, MOST_PATHS, PATHS_AT_ONCE):
        reader = torch.full((PATHS_AT_ONCE,), len(graph.readers) - 1, device=device)
        path = torch.arange(done, done + PATHS_AT_ONCE, device=device)
        for step in range(longest):
            writer = uniform(n_legal[reader] - skipped)
            writer = torch.where(writer > 0, writer + skipped, writer)
            place = (path * longest + step).double()
            first.scatter_reduce_(0, reader * n_writers + writer, place, "amin")
            on = writer > 0
            writer, path = writer[on], path[on]
            reader = table[writer, uniform(n_inputs[writer])]
        if bool(first[reachable.to(device).flatten()].isfinite().all()):
            break
    last = 1.0 + MOST_PATHS * longest
    rest = last + torch.rand(first.shape, generator=generator, device=device, dtype=torch.float64)
    order = torch.where(first.isfinite(), first, rest).argsort()
    place = torch.empty(len(order), device=device)
    place[order] = torch.arange(len(order), device=device, dtype=place.dtype)
    return -place.view(graph.legal.shape).cpu()
