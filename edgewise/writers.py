"""The writers' buffer: every writer's output minus its ablated value, stored once, token-major.

A reader's input is Σ_w ablated_w + Σ_w mask[r, w] · (clean_w − ablated_w). The first sum does not
depend on the mask: it is the ablated residual stream, one vector per token and block. The second
is one matrix product per token, `mask[readers, writers] @ delta[writers, d_model]`, with the store
laid out `[mask, token, writer, d_model]`. Nothing is concatenated or copied from layer to layer,
and the gradient with respect to the writers accumulates in one buffer of the same shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgewise.graph import Graph, Part


class WriterBuffer:
    """`delta[mask, token, writer]`, filled block by block in the order of the graph.

    It remembers the mask of its last run and which writers' outputs it holds, so that a run with
    another mask need not repeat what is the same. Only its first run may be differentiated.
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
    ) -> None:
        self.tokens, self.n_masks = tokens, n_masks
        n_writers = len(graph.writers)
        shape = (n_masks, tokens.numel(), n_writers, d_model)
        # Zero, as a writer that is not run may still be read, with a mask of zero.
        self.delta = torch.zeros(shape, dtype=dtype, device=tokens.device)
        self._held = torch.zeros(n_writers, dtype=torch.bool)
        self._mask: Tensor | None = None
        self.ablated = self.residual = None
        if ablated is not None:
            full = ablated.expand(*tokens.shape, n_writers, d_model)
            self.ablated = full.reshape(tokens.numel(), n_writers, d_model)
            self.residual = _residual_stream(graph, self.ablated)
        self._gradient: Tensor | None = None
        # Reads and writes pass this empty tensor on, so that autograd runs their backward passes
        # in exactly the reverse order, although the data flow through the buffer unseen by it.
        self._clock = torch.empty(0, dtype=dtype, device=tokens.device)

    def write(
        self,
        writers: slice | Int[Tensor, " writer"],
        clean: Float[Tensor, "batch position writer d_model"],
        rows: Int[Tensor, " row"] | None = None,
    ) -> None:
        """Store some writers; `batch` is masks × prompts, or prompts alone for all masks.

        With `rows`, only those tokens' outputs are given, and the writers do not count as held.
        """
        self._held[writers] = rows is None
        self._clock = _Write.apply(clean, self._clock, self, writers, rows)

    def read(
        self,
        mask: Float[Tensor, "mask reader writer"],
        part: Part,
        index: int,
        rows: Int[Tensor, " row"] | None = None,
        on_backward: Callable[[], None] | None = None,
    ) -> Float[Tensor, "mask row block_reader d_model"]:
        """The inputs of a part's readers, at all tokens or at `rows` of them.

        `index` is the block's place in the graph; `on_backward` is called in the backward pass.
        """
        weights, sources = mask[:, part.readers, : part.block.n_legal], None
        if part.sources is not None:
            sources = part.sources.to(self.delta.device)
            weights = weights[:, :, sources]
        return _Read.apply(weights, self._clock, self, index, sources, rows, on_backward)

    def holds(self, writers: slice) -> bool:
        """Whether all of some writers are stored, of the run that goes on."""
        return bool(self._held[writers].all())

    def outdated(
        self, mask: Float[Tensor, "mask reader writer"], graph: Graph
    ) -> Bool[Tensor, " writer"]:
        """The writers whose outputs a run with `mask` cannot take over from the last run."""
        if self._mask is None:
            return torch.ones_like(self._held)
        changed = (mask != self._mask).any(-1).any(0).cpu()
        return ~self._held | graph.downstream((mask != 0).any(0).cpu(), readers=changed)

    def start_run(
        self, mask: Float[Tensor, "mask reader writer"], outdated: Bool[Tensor, " writer"]
    ) -> None:
        """From here on the buffer is that of a run with `mask`."""
        self._mask = mask.detach()
        self._held &= ~outdated

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


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        clean: Tensor,
        clock: Tensor,
        buffer: WriterBuffer,
        writers: slice | Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        ctx.buffer, ctx.shape = buffer, clean.shape
        ctx.tokens = slice(None) if rows is None else rows
        ctx.writers = writers
        n_tokens = buffer.tokens.numel() if rows is None else len(rows)
        delta = clean.reshape(-1, n_tokens, *clean.shape[2:])
        if buffer.ablated is not None:
            delta = delta - buffer.ablated[ctx.tokens][:, writers]
        buffer.delta[:, ctx.tokens, writers] = delta
        return clock.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, clock: Tensor) -> tuple[Tensor | None, ...]:
        gradient = ctx.buffer.gradient()[:, ctx.tokens, ctx.writers]
        return gradient.reshape(ctx.shape), clock, None, None, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mask: Tensor,
        clock: Tensor,
        buffer: WriterBuffer,
        index: int,
        sources: Tensor | None,
        rows: Tensor | None,
        on_backward: Callable[[], None] | None,
    ) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.buffer, ctx.rows, ctx.on_backward = buffer, rows, on_backward
        ctx.starts_backward = index == -1
        assert sources is None or not mask.requires_grad
        n_masks, n_readers, n_writers = mask.shape
        delta = buffer.delta if rows is None else buffer.delta[:, rows]
        shape = (n_masks, delta.shape[1], n_readers, delta.shape[-1])
        inputs = torch.empty(shape, dtype=delta.dtype, device=delta.device)
        for one in range(n_masks):
            if sources is None:
                read = delta[one, :, :n_writers]
            else:
                read = delta[one].index_select(1, sources)
            weights = mask[one].expand(shape[1], n_readers, n_writers)
            torch.bmm(weights, read, out=inputs[one])
        if buffer.residual is not None:
            residual = buffer.residual[index]
            inputs += (residual if rows is None else residual[rows])[None, :, None]
        return inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        n_writers, rows, buffer = mask.shape[2], ctx.rows, ctx.buffer
        delta, into = buffer.delta, buffer.gradient(start=ctx.starts_backward)
        if rows is not None:
            delta = delta[:, rows]
        d_mask = torch.empty_like(mask)
        for one, by_reader in enumerate(gradient):
            weights = mask[one].T.expand(len(by_reader), n_writers, mask.shape[1])
            if rows is None:
                into[one, :, :n_writers].baddbmm_(weights, by_reader)
            else:
                into[one, :, :n_writers].index_add_(0, rows, torch.bmm(weights, by_reader))
            by_writer = delta[one, :, :n_writers].transpose(1, 2)
            d_mask[one] = torch.bmm(by_reader, by_writer).sum(0)
        if ctx.on_backward is not None:
            ctx.on_backward()
        return d_mask, buffer._clock.new_empty(0), None, None, None, None, None
