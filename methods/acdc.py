"""ACDC: automatic circuit discovery (Conmy et al., NeurIPS 2023, arXiv:2304.14997).

Readers are visited from `out` downwards; of each, one edge after the other is removed for good if
that raises the objective by strictly less than `threshold`:  L(C \\ e) − L(C) < τ.  A component
without outgoing edges is dropped with all its inputs, untested. The objective is one value over all
training pairs.
Cost: one forward pass of all pairs per tested edge, of which only what depends on the edge is run:
everything below is still the full model, and above most components are cut off or do not see it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from edgewise import parallel
from edgewise.circuit import Circuit
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.progress import track
from edgewise.reference import Batch, Reference
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer

Order = Literal["reverse", "forward", "random"]
CLOSE = 1e-6
"""A decision nearer to the threshold than this could differ in another arithmetic."""


@dataclass(frozen=True)
class ACDC:
    """Settings of the search.

    `reader_order` orders the readers within a block (reverse: v, k, q, each with heads descending)
    and `parent_order` the writers of a reader; blocks always go from `out` down. `objective` is the
    task's training loss (for text the KL over the full vocabulary at the targets) or its
    attribution loss. `buffer_bytes` bounds the writers' outputs that are kept between tests; beyond
    it every test runs the whole model.
    """

    threshold: float = 1e-3
    reader_order: Order = "reverse"
    parent_order: Order = "reverse"
    objective: Literal["training", "attribution"] = "training"
    buffer_bytes: int = 8 * 2**30
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ValueError(f"threshold={self.threshold}; expected a positive number")
        for name in ("reader_order", "parent_order"):
            if getattr(self, name) not in get_args(Order):
                raise ValueError(
                    f"{name}={getattr(self, name)!r}; expected one of {', '.join(get_args(Order))}"
                )
        if self.objective not in ("training", "attribution"):
            raise ValueError(f"objective={self.objective!r}; expected 'training' or 'attribution'")

    @torch.no_grad()
    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit:
        """The circuit; `meta` counts edges tested, dropped untested, and decided within 1e-6."""
        graph = model.graph
        visits = self._visits(graph, generator)
        objective = _Objective(self, model, task)
        mask, done = graph.legal.clone(), 0
        counts = {"tested": 0, "dropped": 0, "close": 0}
        current = objective(mask)
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            tensors, state = saved
            mask, done, current = tensors["mask"], state["done"], state["current"]
            counts = state["counts"]
        for position in track(range(done, len(visits)), "acdc", total=len(visits), done=done):
            if checkpoint is not None and checkpoint.due():
                state = {"done": position, "current": current, "counts": counts}
                checkpoint.save({"mask": mask}, state)
            reader, parents = visits[position]
            if is_dead(graph, mask, reader):
                counts["dropped"] += int(mask[reader].sum())
                mask[reader] = False
                continue
            for writer in parents:
                mask[reader, writer] = False
                value = objective(mask)
                counts["tested"] += 1
                counts["close"] += abs(value - current - self.threshold) < CLOSE
                if value - current < self.threshold:
                    current = value
                else:
                    mask[reader, writer] = True
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


def is_dead(graph: Graph, mask: Bool[Tensor, "reader writer"], reader: int) -> bool:
    """Whether no component that the reader feeds has an outgoing edge left; never so for `out`."""
    fed = graph.feeds[reader]
    return bool(fed.any()) and not bool(mask[:, fed].any())


def _ordered(items: range, order: Order, generator: Generator) -> list[int]:
    if order == "random":
        shuffled = torch.randperm(len(items), generator=generator, device=generator.device)
        return [items[i] for i in shuffled.tolist()]
    return list(items) if order == "forward" else list(reversed(items))


class _Objective:
    """The mean loss over all training pairs of a mask.

    The buffers keep what the last mask's run left, so a run costs what depends on the change alone.
    """

    def __init__(self, method: ACDC, model: MaskedTransformer, task: Task) -> None:
        self._model = model
        self._loss: Callable[..., Tensor] = (
            task.training_loss if method.objective == "training" else task.attribution_loss
        )
        self._n_pairs = len(task.train)
        mine = parallel.share(task.train)
        self._reference = Reference(model, mine, task.ablation, mean_over=task.train)
        self._index = self._reference.batches()
        per_token = len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize
        needed = 2 * per_token * mine.clean.numel()  # outputs and their ablated values
        self._kept: list[tuple[Batch, WriterBuffer]] | None = None
        if needed <= method.buffer_bytes:
            self._kept = [self._prepare(index) for index in self._index]

    def __call__(self, mask: Bool[Tensor, "reader writer"]) -> float:
        total = 0.0
        for batch, buffer in self._kept or map(self._prepare, self._index):
            logits = self._model.run(buffer, mask, batch.pairs.targets)
            total += float(self._loss(logits, batch.full_logits, batch.pairs).double().sum())
        return float(parallel.total(torch.tensor(total, dtype=torch.float64))) / self._n_pairs

    def _prepare(self, index: Tensor) -> tuple[Batch, WriterBuffer]:
        batch = self._reference.batch(index)
        return batch, self._model.buffer(batch.pairs.clean, batch.ablated)
