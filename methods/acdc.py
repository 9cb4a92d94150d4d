"""ACDC: automatic circuit discovery (Conmy et al., NeurIPS 2023, arXiv:2304.14997).

Readers are visited from `out` downwards. The edges into each reader are tested one after the other:
an edge is removed for good if its removal raises the objective by strictly less than `threshold`,
`L(C \\ e) − L(C) < τ`. The objective is the mean loss over all training pairs. A component that has
lost all its outgoing edges is dropped with all its inputs, without a test.
Cost: at most one forward pass of all pairs per tested edge, of which only what it changes is run.

Most edges are removed. So several edges are tested in one pass, each as if those before it had been
removed. Once an edge has to stay, the results for the edges after it are of no use.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Interval
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from edgewise import parallel
from edgewise.batches import Batch, Batches
from edgewise.circuit import Circuit
from edgewise.cuda_graph import Memory, RecordedRow, can_record
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.progress import note, track
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer

Order = Literal["reverse", "forward", "random"]
Evaluate = Callable[[Bool[Tensor, "mask reader writer"]], list[float]]
CLOSE = 1e-6
"""A decision closer to the threshold than this could turn out differently with other rounding."""
WORTH_RECORDING = 8
"""The fewest passes for one reader that are worth recording as a CUDA graph."""
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
    objective: Literal["training", "attribution"] = "training"
    """The task's training loss (for text: the KL over the full vocabulary at the target positions)
    or its attribution loss."""
    buffer_bytes: Annotated[int, Interval(ge=0, lt=2**63)] = 8 * 2**30
    """The most memory for writers' outputs that are kept between tests. If it is too small, fewer
    edges are tested at once; if it is too small even for one, every test runs the whole model."""
    name: ClassVar[str] = "acdc"
    label: ClassVar[str] = "ACDC"
    family: ClassVar[Family] = "search"
    version: ClassVar[int] = 1
    sweeps: ClassVar[str | None] = "threshold"

    @property
    def gives(self) -> Literal["a circuit"]:
        return "a circuit"

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """One for each edge; few tests run the whole model, and many edges are not tested."""
        return 3.0 + graph.n_edges

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
        visits = self._visits(graph, generator)
        objective = _Objective(self, model, task)
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
            if is_dead(graph, mask, reader):
                counts["dropped"] += int(mask[reader].sum())
                mask[reader] = False
                continue
            tested = 0
            evaluate = objective.of_reader(mask, reader, len(parents))
            while tested < len(parents):
                at_once = min(objective.at_once, 1 + in_a_row // PER_MORE)
                writers = parents[tested : tested + at_once]
                removed = 0
                for value in evaluate(_prefixes(mask, reader, writers)):
                    tested += 1
                    counts["tested"] += 1
                    counts["close"] += abs(value - current - self.threshold) < CLOSE
                    if value - current >= self.threshold:
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


def is_dead(graph: Graph, mask: Bool[Tensor, "reader writer"], reader: int) -> bool:
    """Whether all that the reader feeds has lost its outgoing edges; never so for `out`."""
    fed = graph.feeds[reader]
    return bool(fed.any()) and not bool(mask[:, fed].any())


def _ordered(items: range, order: Order, generator: Generator) -> list[int]:
    if order == "random":
        shuffled = torch.randperm(len(items), generator=generator, device=generator.device)
        return [items[i] for i in shuffled.tolist()]
    return list(items) if order == "forward" else list(reversed(items))


def _prefixes(
    mask: Bool[Tensor, "reader writer"], reader: int, writers: Sequence[int]
) -> Bool[Tensor, "removed reader writer"]:
    """The mask without the reader's first edge, without its first two, and so on."""
    masks = mask.repeat(len(writers), 1, 1)
    for index, writer in enumerate(writers):
        masks[index:, reader, writer] = False
    return masks


class _Objective:
    """The mean loss over all training pairs, for up to `at_once` masks in one call.

    The buffers keep the outputs of the last run, so a run computes only what a change affects.
    """

    def __init__(self, method: ACDC, model: MaskedTransformer, task: Task) -> None:
        self._model = model
        self._loss: Callable[..., Tensor] = (
            task.training_loss if method.objective == "training" else task.attribution_loss
        )
        self._n_pairs = len(task.train)
        mine = parallel.share(task.train)
        self._batches = Batches(model, mine, task.ablation, mean_over=task.train)
        self._index = self._batches.indices()
        per_token = len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize
        own_tokens = mine.clean[:, len(self._batches.prefix) :].numel()
        # Losses are added up over ranks, mask by mask: all must take the same number of masks.
        n_tokens = int(parallel.largest(torch.tensor(own_tokens)))
        # The ablated values take as much as the outputs of one mask.
        room = method.buffer_bytes // (per_token * n_tokens) - 1
        self.at_once = max(1, min(room, AT_ONCE, self._batches.batch_tokens // n_tokens))
        self._kept: list[tuple[Batch, WriterBuffer]] | None = None
        if room >= 1:
            self._kept = [self._prepare(index) for index in self._index]
        self._memory = Memory(model.device) if can_record(model) else None

    def __call__(self, masks: Bool[Tensor, "mask reader writer"]) -> list[float]:
        total = torch.zeros(len(masks), dtype=torch.float64)
        for batch, buffer in self._kept or map(self._prepare, self._index):
            logits = self._model.run(buffer, masks, batch.targets)
            total += self._loss(logits, batch.full_logits, batch.pairs).double().sum(-1).cpu()
        return self._mean(total)

    def state(self) -> dict[str, Tensor]:
        """Which outputs the buffers hold, the same in all of them."""
        if self._kept is None:
            return {}
        held = self._kept[0][1].held
        return {"held.written": held.written, "held.masks": held.masks.bool()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Compute what the buffers held. If they had another size, they stay empty."""
        for batch, buffer in self._kept or ():
            written = state.get("held.written")
            if written is not None and written.shape == buffer.held.written.shape:
                with buffer.held.restoring(written):
                    self._model.run(buffer, state["held.masks"], batch.targets)

    def of_reader(self, mask: Bool[Tensor, "reader writer"], reader: int, n_edges: int) -> Evaluate:
        """A function that evaluates masks that lack some edges of this reader's row of `mask`.

        It will be called up to `n_edges` times. Where that pays, the pass is recorded and replayed.
        """
        memory, kept = self._memory, self._kept
        if memory is None or kept is None or n_edges < WORTH_RECORDING * self.at_once:
            return self
        given = self._model, kept, self._loss, mask, reader
        row = RecordedRow(*given, n_masks=self.at_once, memory=memory)
        return lambda masks: self._mean(row(masks[:, reader]))

    def _mean(self, total: Float[Tensor, " mask"]) -> list[float]:
        return (parallel.total(total) / self._n_pairs).tolist()

    def _prepare(self, index: Tensor) -> tuple[Batch, WriterBuffer]:
        batch = self._batches.batch(index)
        given = batch.tokens, batch.ablated
        return batch, self._model.buffer(*given, n_masks=self.at_once, prefix=batch.prefix)
