"""ACDC: automatic circuit discovery (Conmy et al., NeurIPS 2023, arXiv:2304.14997).

Readers are visited from `out` downwards. The edges into each reader are tested one after the other:
an edge is removed for good if its removal raises the objective by strictly less than `threshold`,
`L(C \\ e) − L(C) < τ`. The objective is the mean loss over all training pairs. A component that has
lost all its outgoing edges is dropped with all its inputs, without a test. The published code also
tests edges from a head's q, k or v input to itself (`direct_edges`); they are none of this graph.
Cost: at most one forward pass of all pairs per tested edge, of which only what it changes is run.

Most edges are removed. So several edges are tested in one pass, each as if those before it had been
removed. Once an edge has to stay, the results for the edges after it are of no use.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Interval
from torch import Generator

from edgewise.circuit import Circuit
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.objective import Objective, without_first_edges
from edgewise.progress import note, track
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

Order = Literal["reverse", "forward", "random"]
CLOSE = 1e-6
"""A decision closer to the threshold than this could turn out differently with other rounding."""
AT_ONCE, PER_MORE = 4, 4
"""The most edges tested in one pass, and the removals in a row after which one more is tested."""


@dataclass(frozen=True)
class ACDC(Method):
    """The blocks are always visited from `out` down; settings order what is within a block."""

    threshold: Annotated[float, Gt(0)] = 1e-3
    """τ. An edge is removed if that raises the objective by less."""
    reader_order: Order = "reverse"
    """The order of the readers within a block. `reverse`: v, then k, then q, each with its heads in
    descending order."""
    parent_order: Order = "reverse"
    """The order in which the edges into a reader are tested, by their writers."""
    objective: str = "training"
    """`training`: the task's training loss, for text the KL over the full vocabulary at the target
    positions. `attribution`: its attribution loss. Or one of the task's metrics, by its name; where
    more of it is better, the search minimises its negative."""
    buffer_bytes: Annotated[int, Interval(ge=0, lt=2**63)] = 8 * 2**30
    """The most memory for writers' outputs that are kept between tests. If it is too small, fewer
    edges are tested at once; if it is too small even for one, every test runs the whole model."""
    abs_value_threshold: bool = False
    """Whether an edge also stays if its removal lowers the objective by `threshold` or more."""
    name: ClassVar[str] = "acdc"
    label: ClassVar[str] = "ACDC"
    family: ClassVar[Family] = "search"
    version: ClassVar[int] = 1
    sweeps: ClassVar[str | None] = "threshold"
    added: ClassVar[tuple[str, ...]] = ("abs_value_threshold",)

    @property
    def gives(self) -> Literal["a circuit"]:
        return "a circuit"

    def check_task(self, task: Task) -> None:
        task.objective(self.objective)

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """The passes if nothing is removed; each test runs only what follows the edge's reader."""
        return 3.0 + graph.passes_over_edges

    @torch.no_grad()
    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit:
        """The circuit; `meta` counts edges tested, dropped untested, and decided by under 1e-6."""
        graph = model.graph
        loss, visits = task.objective(self.objective), self._visits(graph, generator)
        given = model, task, loss
        objective = Objective(*given, most_at_once=AT_ONCE, buffer_bytes=self.buffer_bytes)
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            tensors, state = saved
            mask, done, current = tensors["mask"], state["done"], state["current"]
            counts, in_a_row = state["counts"], state["in_a_row"]
            with checkpoint.repeating():
                objective.restore(tensors)
        else:
            mask, done = graph.legal.clone(), 0
            (current,) = objective(mask[None])
            counts = {"tested": 0, "dropped": 0, "close": 0}
            in_a_row = 0  # removals since an edge last had to stay
        for position in track(range(done, len(visits)), "acdc", total=len(visits), done=done):
            if checkpoint is not None and checkpoint.due():
                state = {"done": position, "current": current, "counts": counts}
                state["in_a_row"] = in_a_row
                checkpoint.save({"mask": mask, **objective.state()}, state)
            note(lambda: {"edges left": int(mask.sum())})
            reader, parents = visits[position]
            if graph.is_dead(mask, reader):
                counts["dropped"] += int(mask[reader].sum())
                mask[reader] = False
                continue
            tested = 0
            evaluate = objective.of_reader(mask, reader, len(parents))
            while tested < len(parents):
                at_once = min(objective.at_once, 1 + in_a_row // PER_MORE)
                writers = parents[tested : tested + at_once]
                removed = 0
                for value in evaluate(without_first_edges(mask, reader, writers)):
                    tested += 1
                    counts["tested"] += 1
                    change = value - current
                    if self.abs_value_threshold:
                        change = abs(change)
                    counts["close"] += abs(change - self.threshold) < CLOSE
                    if change >= self.threshold:
                        in_a_row = 0
                        break
                    current, removed, in_a_row = value, removed + 1, in_a_row + 1
                mask[reader, writers[:removed]] = False
        return Circuit(mask, graph, {"objective": current, **counts})

    def _visits(self, graph: Graph, generator: Generator) -> list[tuple[int, list[int]]]:
        """(reader, its writers) in the order of the search."""
        visits: list[tuple[int, list[int]]] = []
        for block in reversed(graph.blocks):
            readers = range(block.readers.start, block.readers.stop)
            for reader in _ordered(readers, self.reader_order, generator):
                parents = _ordered(range(block.n_legal), self.parent_order, generator)
                visits.append((reader, parents))
        return visits


def _ordered(items: range, order: Order, generator: Generator) -> list[int]:
    if order == "random":
        shuffled = torch.randperm(len(items), generator=generator, device=generator.device)
        return [items[i] for i in shuffled.tolist()]
    return list(items) if order == "forward" else list(reversed(items))
