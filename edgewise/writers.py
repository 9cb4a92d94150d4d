"""The writers' buffer: every writer's output minus its ablated value, stored once, token-major.

A reader's input is Σ_w ablated_w + Σ_w mask[r, w] · (clean_w − ablated_w). The first sum does not
depend on the mask: it is the ablated residual stream, one vector per token and block. The second
is one matrix product per token, `mask[readers, writers] @ delta[writers, d_model]`, with the store
laid out `[mask, token, writer, d_model]`; where few edges are present they are gathered one by one.
Nothing is concatenated or copied from layer to layer, and the gradient with respect to the writers
accumulates in one buffer of the same shape.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, pad

from edgewise.graph import Graph
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.schedule import Gather, Part, schedule, whole


def alignment(device: torch.device) -> int:
    """Of what the number of writers in a product is a multiple, for the sake of its speed."""
    return 1 if device.type == "cpu" else 8


class WriterBuffer:
    """`delta[mask, token, writer]`, filled block by block in the order of the graph.

    It remembers the masks of its last run and which writers' outputs it holds, so that a run with
    other masks need not repeat what is the same. A run may be of fewer masks than there is room
    for. Only the first may be differentiated.

    If it is `paired`, every prompt has a mask of its own, for which there is one place; a run then
    takes nothing over from the last.
    """

    def __init__(
        self,
        graph: Graph,
        tokens: Int[Tensor, "batch position"],
        ablated: Float[Tensor, "*batch_position writer d_model"] | None,
        *,
        n_masks: int,
        d_model: int,
        dtype: torch.dtype,
        prefix: Prefix = NO_PREFIX,
        paired: bool = False,
    ) -> None:
        self.graph, self.tokens, self.prefix = graph, tokens, prefix
        self.n_masks, self.paired = n_masks, paired
        n_writers = len(graph.writers)
        self._aligned = alignment(tokens.device)
        shape = (n_masks, tokens.numel(), self._rounded(n_writers), d_model)
        self.delta = torch.empty(shape, dtype=dtype, device=tokens.device)
        self._held = torch.zeros(n_masks, n_writers, dtype=torch.bool)
        self._blank = ~self._held  # what was never written, not even with zeros
        if self._aligned > 1:
            self.delta.zero_()
            self._blank[:] = False
        self._mask = torch.zeros(n_masks, *graph.legal.shape, dtype=dtype)  # of the last run
        self.ablated = self.residual = None
        if ablated is not None:
            full = ablated.expand(*tokens.shape, n_writers, d_model)
            self.ablated = full.reshape(tokens.numel(), n_writers, d_model)
            self.residual = _residual_stream(graph, self.ablated)
        self._gradient: Tensor | None = None
        # Reads and writes pass this empty tensor on, so that autograd runs their backward passes
        # in exactly the reverse order, although the data flow through the buffer unseen by it.
        self._clock = torch.empty(0, dtype=dtype, device=tokens.device)

    def _rounded(self, n_writers: int) -> int:
        """So many or more, as products are fast with."""
        return -(-n_writers // self._aligned) * self._aligned

    def weights(
        self, masks: Float[Tensor, "mask reader writer"]
    ) -> Float[Tensor, "place prompt reader column"]:
        """The masks as reads take them: as wide as the store, zero where there is no edge.

        `prompt` is one, for all prompts, unless each has its own.
        """
        masks = masks[None] if self.paired else masks[:, None]
        width = self.delta.shape[2]
        if self._aligned == 1:
            return masks
        legal = _padded_legal(self.graph, width, masks.device)
        return torch.where(legal, pad(masks, (0, width - masks.shape[3])), 0)

    def embed(self, embedded: Float[Tensor, "batch position embedding d_model"]) -> None:
        """Store what the embedding writers give, the same for all masks."""
        embeddings = slice(0, embedded.shape[2])
        self._write(range(self.n_masks), embeddings, embeddings, embedded)

    def write(
        self,
        part: Part,
        clean: Float[Tensor, "batch position writer d_model"],
        rows: Int[Tensor, " row"] | None = None,
    ) -> None:
        """Store what a part's writers give; `batch` is masks × prompts, or prompts alone for all.

        With `rows`, only those tokens' outputs are given, and the writers do not count as held.
        """
        if part.stored is not None:
            clean = clean.index_select(2, part.stored)
        self._write(part.masks, part.writers, part.columns, clean, rows)

    def _write(
        self,
        masks: Sequence[int],
        writers: slice | Int[Tensor, " writer"],
        columns: slice | list[int],
        clean: Float[Tensor, "batch position writer d_model"],
        rows: Int[Tensor, " row"] | None = None,
    ) -> None:
        for mask in masks:
            self._held[mask, columns] = rows is None
            if rows is not None and self._blank[mask, columns].any():
                self.delta[mask, :, writers] = 0
            self._blank[mask, columns] = False
        self._clock = _Write.apply(clean, self._clock, self, masks, writers, rows)

    def read(
        self,
        weights: Float[Tensor, "place prompt reader column"],
        part: Part,
        index: int,
        rows: Int[Tensor, " row"] | None = None,
        on_backward: Callable[[], None] | None = None,
    ) -> Float[Tensor, "part_mask row part_reader d_model"]:
        """The inputs of a part's readers, at all tokens or at `rows` of them.

        `index` is the block's place in the graph; `on_backward` is called in the backward pass.
        """
        columns = slice(self._rounded(part.block.n_legal))
        if isinstance(part.readers, slice) and len(part.masks) == len(weights):
            weights = weights[:, :, part.readers, columns]
        else:
            weights = torch.stack([weights[mask, :, part.readers, columns] for mask in part.masks])
        if part.gathers is None:
            self._fill_blanks(part)
            inputs = _Read.apply(weights, self._clock, self, part.masks, index, rows, on_backward)
        else:
            inputs = self._gathered(weights[:, 0], part.masks, part.gathers, rows)
        if self.residual is not None:
            residual = self.residual[index]
            inputs += (residual if rows is None else residual[rows])[None, :, None]
        return inputs

    def _fill_blanks(self, part: Part) -> None:
        """A product reads writers that were not run, too, with weights of zero."""
        for one in part.masks:
            blank = self._blank[one, : part.block.n_legal].nonzero().flatten()
            if len(blank):
                self.delta[one].index_fill_(1, blank.to(self.delta.device), 0)
                self._blank[one, blank] = False

    def _gathered(
        self,
        weights: Float[Tensor, "part_mask part_reader part_column"],
        masks: Sequence[int],
        gathers: Sequence[Gather],
        rows: Int[Tensor, " row"] | None,
    ) -> Float[Tensor, "part_mask row part_reader d_model"]:
        """Weighted sums of some writers' outputs alone: one bag per mask, token and reader."""
        _, n_tokens, n_columns, d_model = self.delta.shape
        device, n_readers = self.delta.device, weights.shape[1]
        tokens = torch.arange(n_tokens, device=device) if rows is None else rows
        starts, sources, values, n_before = [], [], [], 0
        for mask, of_mask, gather in zip(masks, weights, gathers, strict=True):
            n_edges = len(gather.writers)
            of_token = torch.arange(len(tokens), device=device) * n_edges
            starts.append(n_before + of_token[:, None] + gather.starts)
            sources.append((mask * n_tokens + tokens)[:, None] * n_columns + gather.writers)
            values.append(of_mask[gather.readers, gather.writers].expand(len(tokens), -1))
            n_before += len(tokens) * n_edges
        sums = embedding_bag(
            torch.cat([source.flatten() for source in sources]),
            self.delta.view(-1, d_model),
            torch.cat([start.flatten() for start in starts]),
            mode="sum",
            per_sample_weights=torch.cat([value.flatten() for value in values]),
        )
        return sums.view(len(masks), len(tokens), n_readers, d_model)

    def holds(self, writers: slice) -> bool:
        """Whether all of some writers are stored, of the run that goes on."""
        return bool(self._held[:, writers].all())

    def next_parts(
        self, masks: Float[Tensor, "mask reader writer"] | Bool[Tensor, "mask reader writer"]
    ) -> list[list[Part]]:
        """What has to run of each block in a run with these masks, which begins; of `out` all.

        For masks without a gradient it depends on them: those on an accelerator are waited for.
        """
        if self.paired or (masks.requires_grad and torch.is_grad_enabled()):
            self._mask.fill_(torch.nan)  # not looked at: the next run takes nothing over
            n_masks = 1 if self.paired else len(masks)
            return [[whole(block, n_masks)] for block in self.graph.blocks]
        masks = masks.detach().cpu().to(self._mask.dtype)
        present = masks != 0
        outdated = self.outdated(masks, present)
        first = int(outdated.any(0).long().argmax())
        wanted = outdated & self.graph.reaches_out(present, first=first)[1]
        self._mask[: len(masks)] = masks
        self._held[: len(masks)] &= ~outdated
        return schedule(self.graph, wanted, present, self.delta.device)

    def outdated(
        self,
        mask: Float[Tensor, "mask reader writer"],
        present: Bool[Tensor, "mask reader writer"],
    ) -> Bool[Tensor, "mask writer"]:
        """The writers whose outputs a run with `mask` cannot take over from the last run.

        `present` says where the mask is not zero. Both lie on the CPU.
        """
        n_masks = len(mask)
        changed = (mask != self._mask[:n_masks]).any(-1)
        return ~self._held[:n_masks] | self.graph.downstream(present, readers=changed)

    def note_row(self, reader: int, rows: Bool[Tensor, "mask writer"]) -> None:
        """The last run was one with these rows of the reader, all else as before."""
        self._mask[: len(rows), reader] = rows.to(self._mask.dtype)

    def end_run(self) -> None:
        """Let go of the autograd graph: it holds the buffer, so neither would ever be freed."""
        self._clock = self._clock.detach()

    def gradient(self, *, start: bool = False) -> Tensor:
        """What the backward pass has added up so far; `start` begins a new one."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.delta)
        elif start:
            self._gradient.zero_()
        return self._gradient


@lru_cache(maxsize=8)
def _padded_legal(graph: Graph, width: int, device: torch.device) -> Bool[Tensor, "reader column"]:
    return pad(graph.legal, (0, width - len(graph.writers))).to(device)


def _residual_stream(
    graph: Graph, ablated: Float[Tensor, "token writer d_model"]
) -> Float[Tensor, "block token d_model"]:
    """The ablated residual stream before each block: the sum of the block's legal writers."""
    stream = ablated.new_zeros(len(graph.blocks), len(ablated), ablated.shape[-1])
    summed, start = stream[0], 0
    for index, block in enumerate(graph.blocks):
        summed = summed + ablated[:, start : block.n_legal].sum(1)
        stream[index], start = summed, block.n_legal
    return stream


def _chosen(
    values: Float[Tensor, "token writer d_model"], writers: slice | Int[Tensor, " chosen"]
) -> Float[Tensor, "token chosen d_model"]:
    if isinstance(writers, slice):
        return values[:, writers]
    return values.index_select(1, writers.to(values.device))  # several times as fast as an index


def _of_tokens(
    masks: Float[Tensor, "prompt reader writer"], buffer: WriterBuffer, rows: Tensor | None
) -> Float[Tensor, "token reader writer"]:
    """The mask of each token, or of those in `rows`."""
    n_prompts, position = buffer.tokens.shape
    if not buffer.paired:
        return masks.expand(n_prompts * position if rows is None else len(rows), -1, -1)
    return masks.repeat_interleave(position, 0) if rows is None else masks[rows // position]


def _of_prompts(
    by_token: Float[Tensor, "token reader writer"], buffer: WriterBuffer, rows: Tensor | None
) -> Float[Tensor, "prompt reader writer"]:
    """The reverse: sums over the tokens that have the same mask."""
    if not buffer.paired:
        return by_token.sum(0, keepdim=True)
    n_prompts, position = buffer.tokens.shape
    if rows is None:
        return by_token.view(n_prompts, position, *by_token.shape[1:]).sum(1)
    return by_token.new_zeros(n_prompts, *by_token.shape[1:]).index_add(
        0, rows // position, by_token
    )


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        clean: Tensor,
        clock: Tensor,
        buffer: WriterBuffer,
        masks: Sequence[int],
        writers: slice | Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        ctx.buffer, ctx.shape = buffer, clean.shape
        ctx.masks, ctx.writers = masks, writers
        ctx.tokens = slice(None) if rows is None else rows
        n_tokens = buffer.tokens.numel() if rows is None else len(rows)
        outputs = clean.reshape(-1, n_tokens, *clean.shape[2:]).expand(len(masks), -1, -1, -1)
        ablated = 0 if buffer.ablated is None else _chosen(buffer.ablated[ctx.tokens], writers)
        for one, of_one in zip(masks, outputs, strict=True):
            if rows is None and isinstance(writers, slice):
                torch.sub(of_one, ablated, out=buffer.delta[one, :, writers])
            else:
                buffer.delta[one, ctx.tokens, writers] = of_one - ablated
        return clock.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, clock: Tensor) -> tuple[Tensor | None, ...]:
        gradient = ctx.buffer.gradient()
        of_masks = torch.stack([gradient[one, ctx.tokens, ctx.writers] for one in ctx.masks])
        return of_masks.reshape(ctx.shape), clock, None, None, None, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        clock: Tensor,
        buffer: WriterBuffer,
        masks: Sequence[int],
        index: int,
        rows: Tensor | None,
        on_backward: Callable[[], None] | None,
    ) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.buffer, ctx.masks, ctx.rows, ctx.on_backward = buffer, masks, rows, on_backward
        ctx.starts_backward = index == -1
        n_masks, _, n_readers, n_writers = weights.shape
        n_tokens = buffer.delta.shape[1] if rows is None else len(rows)
        inputs = buffer.delta.new_empty(n_masks, n_tokens, n_readers, buffer.delta.shape[-1])
        for one, mask, into in zip(masks, weights, inputs, strict=True):
            delta = buffer.delta[one, slice(None) if rows is None else rows, :n_writers]
            torch.bmm(_of_tokens(mask, buffer, rows), delta, out=into)
        return inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        n_writers, rows, buffer = weights.shape[-1], ctx.rows, ctx.buffer
        gradients = buffer.gradient(start=ctx.starts_backward)
        d_weights = torch.empty_like(weights)
        for index, (one, by_reader) in enumerate(zip(ctx.masks, gradient, strict=True)):
            transposed = _of_tokens(weights[index], buffer, rows).transpose(1, 2)
            delta, into = buffer.delta[one, :, :n_writers], gradients[one, :, :n_writers]
            if rows is None:
                into.baddbmm_(transposed, by_reader)
            else:
                delta = delta[rows]
                into.index_add_(0, rows, torch.bmm(transposed, by_reader))
            by_token = torch.bmm(by_reader, delta.transpose(1, 2))
            d_weights[index] = _of_prompts(by_token, buffer, rows)
        if ctx.on_backward is not None:
            ctx.on_backward()
        return d_weights, buffer._clock.new_empty(0), None, None, None, None, None
