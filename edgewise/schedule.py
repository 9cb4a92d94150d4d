"""Which parts of each block have to run for which masks.

A component runs only if it can reach `out` through unmasked edges and depends on a change since the
last run, which `HeldOutputs` remembers. This is decided on the CPU. All indices of a run then move
to the model's device in one transfer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.graph import Block, Graph

INDICES = ("readers", "writers", "chosen", "stored")
"""The fields of a part that may be index tensors. They may also be a slice or None."""


@dataclass(frozen=True)
class Gather:
    """The edges of one mask that a part reads one by one, in the order of the part's readers.

    `starts` says where each reader's edges begin.
    """

    readers: Int[Tensor, " edge"]
    writers: Int[Tensor, " edge"]
    starts: Int[Tensor, " reader"]


@dataclass(frozen=True, eq=False)
class Part:
    """The work of one block that is done at once, for some masks: all of it or only some `heads`.

    `chosen` are these heads as an index, `readers` and `writers` the part's rows and columns of the
    mask. If heads share key-value readers or a norm, all heads of the layer run if one has to.
    `stored` then selects the outputs to keep; the others may have been computed from missing
    inputs. `gathers` lists the edges to read for each mask; it is set if they are so few that
    gathering them is cheaper than a product with all legal writers.
    """

    block: Block
    masks: tuple[int, ...]
    readers: slice | Int[Tensor, " reader"]
    writers: slice | Int[Tensor, " writer"]
    heads: tuple[int, ...] | None = None
    chosen: Int[Tensor, " head"] | None = None
    stored: Int[Tensor, " head"] | None = None
    gathers: tuple[Gather, ...] | None = None

    @property
    def label(self) -> str:
        return f"{self.block.kind} of layer {self.block.layer}"

    @property
    def columns(self) -> slice | list[int]:
        """The part's writers, for tensors that stay on the CPU."""
        if self.heads is None:
            return self.block.writers
        return [self.block.writers.start + head for head in self.heads]

    @property
    def n_readers(self) -> int:
        if self.chosen is None:
            return self.block.readers.stop - self.block.readers.start
        return 3 * len(self.chosen)

    @property
    def n_reads(self) -> int:
        """How many (reader, writer) pairs are multiplied per token, over all masks."""
        if self.gathers is None:
            return len(self.masks) * self.n_readers * self.block.n_legal
        return sum(len(gather.writers) for gather in self.gathers)


def whole(block: Block, n_masks: int = 1) -> Part:
    """All of a block, for each of `n_masks` masks."""
    return Part(block, tuple(range(n_masks)), block.readers, block.writers)


def schedule(
    graph: Graph,
    wanted: Bool[Tensor, "mask writer"],
    present: Bool[Tensor, "mask reader writer"],
    device: torch.device,
) -> list[Part]:
    """The parts that give each mask its `wanted` writers, block by block, and all of `out`.

    `present` are the edges that are not masked. Masks share a part if they run the same heads and
    read in the same way, by a product or by gathering edges.
    """
    parts = [
        part for block in graph.blocks for part in _parts(graph, block, wanted, present, device)
    ]
    return parts if device.type == "cpu" else _moved(parts, device)


@dataclass(frozen=True, eq=False)
class RowChange:
    """What a change to one reader's row of a mask entails: edges of it are removed or put back.

    `row` is the mask's. `parts` have to run. `stale` are the writers that depend on the row but do
    not run, because they lead nowhere, or may run at some tokens only.
    """

    reader: int
    row: Bool[Tensor, " writer"]
    parts: list[Part]
    stale: Bool[Tensor, " writer"]


def schedule_after(
    graph: Graph,
    mask: Bool[Tensor, "reader writer"],
    reader: int,
    *,
    n_masks: int,
    device: torch.device,
) -> RowChange:
    """What a change to the reader's row of the mask entails, for `n_masks` such masks.

    Readers of the changed reader's own block use products, which do not depend on the row's edges.
    """
    changed = torch.zeros(len(graph.readers), dtype=torch.bool)
    changed[reader] = True
    dependent = graph.downstream(mask, readers=changed)
    wanted = dependent & graph.reaches_out(mask)[1]
    own = next(block for block in graph.blocks if reader < block.readers.stop)
    present = mask.clone()
    present[own.readers] = True
    masks = wanted.expand(n_masks, -1), present.expand(n_masks, -1, -1)
    stale = dependent & ~wanted
    last_mlp = graph.blocks[-2].writers
    stale[last_mlp] = dependent[last_mlp]
    return RowChange(reader, mask[reader].clone(), schedule(graph, *masks, device), stale)


class HeldOutputs:
    """Which writers' outputs a buffer holds, and for which masks, so that a run can reuse them.

    A run may have fewer masks than the buffer has places. If masks are `paired` with prompts, all
    share one place, and a run reuses nothing.
    """

    def __init__(
        self, graph: Graph, n_masks: int, dtype: torch.dtype, device: torch.device, *, paired: bool
    ) -> None:
        self._graph, self._device, self._paired = graph, device, paired
        self._written = torch.zeros(n_masks, len(graph.writers), dtype=torch.bool)
        self._masks = torch.zeros(n_masks, *graph.legal.shape, dtype=dtype)  # of the last run
        self._restored: Bool[Tensor, "mask writer"] | None = None
        self.is_row_changing = False

    @property
    def written(self) -> Bool[Tensor, "mask writer"]:
        """The writers whose outputs are held, for the masks of the last run."""
        return self._written.clone()

    @property
    def masks(self) -> Float[Tensor, "mask reader writer"]:
        """Those of the last run."""
        return self._masks.clone()

    @contextmanager
    def restoring(self, written: Bool[Tensor, "mask writer"]) -> Iterator[None]:
        """Make the next run compute exactly the writers that another buffer holds (`written`).

        With that buffer's `masks` this buffer then holds the same outputs, so that later runs cost
        what they would cost there.
        """
        self._restored = written
        try:
            yield
        finally:
            self._restored = None

    def next_parts(
        self, masks: Float[Tensor, "mask reader writer"] | Bool[Tensor, "mask reader writer"]
    ) -> list[Part]:
        """Start a run with these masks: the parts of each block that have to run, and all of `out`.

        Masks without a gradient are read on the CPU; this waits for masks on an accelerator. With
        a gradient, or with paired masks, everything runs and they are not read.
        """
        if self._paired or (masks.requires_grad and torch.is_grad_enabled()):
            self.forget()
            n_masks = 1 if self._paired else len(masks)
            return [whole(block, n_masks) for block in self._graph.blocks]
        masks = masks.detach().cpu().to(self._masks.dtype)
        present = masks != 0
        outdated = self.outdated(masks, present)
        first = int(outdated.any(0).long().argmax())
        if self._restored is not None:
            wanted = outdated & self._restored
        else:
            wanted = outdated & self._graph.reaches_out(present, first=first)[1]
        self._masks[: len(masks)] = masks
        self._written[: len(masks)] &= ~outdated
        return schedule(self._graph, wanted, present, self._device)

    def outdated(
        self,
        masks: Float[Tensor, "mask reader writer"],
        present: Bool[Tensor, "mask reader writer"],
    ) -> Bool[Tensor, "mask writer"]:
        """The writers whose outputs a run with `masks` cannot reuse from the last run.

        `present` says where the masks are not zero. Both lie on the CPU.
        """
        n_masks = len(masks)
        changed = (masks != self._masks[:n_masks]).any(-1)
        return ~self._written[:n_masks] | self._graph.downstream(present, readers=changed)

    def note_written(
        self, masks: Sequence[int], writers: slice | list[int], *, at_all_tokens: bool
    ) -> None:
        """Record that these writers' outputs are stored, if they are stored at all tokens."""
        for mask in masks:
            self._written[mask, writers] = at_all_tokens

    def forget(self) -> None:
        """Let the next run reuse nothing but the embeddings."""
        self._masks.fill_(torch.nan)  # equal to no mask: every row counts as changed

    @contextmanager
    def changing_row(self, change: RowChange, rows: Bool[Tensor, "mask writer"]) -> Iterator[None]:
        """Allow one run whose masks differ from the change's mask in the reader's rows alone.

        The new rows are `rows`. Each place must have run the change's mask, followed by nothing but
        row-changing runs. The run uses the change's parts, or replays a recording of such a run. If
        it fails, the reader's rows count as changed in the next run.

        Raises ValueError for an edge that the mask lacks: its writer may never have run.
        """
        if bool((rows & ~change.row).any()):
            raise ValueError("a changed row has edges that the mask before the change lacks")
        own = self._masks[: len(rows), change.reader]
        own.fill_(torch.nan)
        self._written[: len(rows), change.stale] = False
        self.is_row_changing = True
        try:
            yield
        finally:
            self.is_row_changing = False
        own.copy_(rows)


def gathering_pays(n_readers: int, n_legal: int, n_edges: int, device: torch.device) -> bool:
    """Whether reading the edges one by one is faster than a product with all legal writers.

    The unit of cost is one (reader, writer) pair of a product. On a CPU an edge costs about four.
    On a GPU (measured on an H200, float32; results/README.md) an edge costs 16 and each reader 100
    more. A product for fewer than seven readers costs as much there as one for seven, as it is
    limited by memory bandwidth.
    """
    if device.type == "cpu":
        return 4 * n_edges <= n_readers * n_legal
    return 100 * n_readers + 16 * n_edges <= max(7, n_readers) * n_legal


def _parts(
    graph: Graph,
    block: Block,
    wanted: Bool[Tensor, "mask writer"],
    present: Bool[Tensor, "mask reader writer"],
    device: torch.device,
) -> list[Part]:
    n_writers = block.writers.stop - block.writers.start
    by_heads: dict[tuple[int, ...], list[int]] = {}
    for mask, runs in enumerate(wanted[:, block.writers].tolist()):
        heads = tuple(head for head, is_wanted in enumerate(runs) if is_wanted)
        if heads or block.kind == "out":
            by_heads.setdefault(heads if len(heads) < n_writers else (), []).append(mask)
    parts: list[Part] = []
    for heads, masks in by_heads.items():
        part = whole(block)
        if heads:
            part = _some(part, heads, run_all=graph.n_kv_heads is not None or graph.coupled_heads)
        sparse: dict[bool, list[int]] = {}
        for mask in masks:
            n_edges = int(present[mask, part.readers, : block.n_legal].count_nonzero())
            pays = gathering_pays(part.n_readers, block.n_legal, n_edges, device)
            sparse.setdefault(pays, []).append(mask)
        for is_sparse, sharing in sparse.items():
            part = replace(part, masks=tuple(sharing))
            parts.append(replace(part, gathers=_gathers(part, present)) if is_sparse else part)
    return parts


def _some(part: Part, heads: tuple[int, ...], *, run_all: bool) -> Part:
    """Restrict a part to some heads, or what it stores if heads share readers or a norm."""
    index = torch.tensor(heads)
    part = replace(part, heads=heads, writers=part.block.writers.start + index)
    if run_all:
        return replace(part, stored=index)
    n_heads = part.block.writers.stop - part.block.writers.start
    qkv = torch.cat([index + kind * n_heads for kind in range(3)])
    return replace(part, chosen=index, readers=part.block.readers.start + qkv)


def _gathers(part: Part, present: Bool[Tensor, "mask reader writer"]) -> tuple[Gather, ...]:
    read = present[:, part.readers, : part.block.n_legal]
    gathers: list[Gather] = []
    for mask in part.masks:
        readers, writers = read[mask].nonzero().unbind(1)
        counts = torch.bincount(readers, minlength=part.n_readers)
        gathers.append(Gather(readers, writers, counts.cumsum(0) - counts))
    return tuple(gathers)


def _moved(parts: list[Part], device: torch.device) -> list[Part]:
    """The same parts with their indices on the device, moved in one asynchronous transfer."""
    indices = [index for part in parts for index in _indices(part)]
    if not indices:
        return parts
    packed = torch.cat(indices).to(device, non_blocking=True)
    moved = iter(packed.split([len(index) for index in indices]))
    return [_with_indices(part, moved) for part in parts]


def _indices(part: Part) -> Iterator[Tensor]:
    own = (getattr(part, name) for name in INDICES)
    yield from (index for index in own if isinstance(index, Tensor))
    for gather in part.gathers or ():
        yield from (gather.readers, gather.writers, gather.starts)


def _with_indices(part: Part, moved: Iterator[Tensor]) -> Part:
    own = {name: next(moved) for name in INDICES if isinstance(getattr(part, name), Tensor)}
    gathers = tuple(Gather(next(moved), next(moved), next(moved)) for _ in part.gathers or ())
    return replace(part, **own, gathers=gathers if part.gathers is not None else None)
