"""The writers' buffer: every writer's output minus its ablated value, stored once, token-major.

A reader's input is Σ_w ablated_w + Σ_w mask[r, w] · (clean_w − ablated_w). The first sum does not
depend on the mask: it is the ablated residual stream, one vector per token and block. The second
is one matrix product per token, `mask[readers, writers] @ delta[writers, d_model]`, with the store
laid out `[mask, token, writer, d_model]`; where few edges are present they are gathered one by one.
Nothing is concatenated or copied from layer to layer, and the gradient with respect to the writers
accumulates in one buffer of the same shape.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from edgewise.graph import Graph
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.schedule import HeldOutputs, Part


def alignment(device: torch.device) -> int:
    """The number of writers in a product is padded to a multiple of this, for speed."""
    return 1 if device.type == "cpu" else 8


class WriterBuffer:
    """`delta[mask, token, writer]`, with the embeddings' outputs from the start.

    The other outputs are filled in by a run (`edgewise/masked_run.py`), block by block in the order
    of the graph. `held` remembers which outputs belong to the last run's masks, so that a run with
    other masks need not recompute what stays the same. A run may have fewer masks than there is
    room for.

    If `paired`, each prompt has its own mask and the buffer holds one set of outputs; a run then
    reuses nothing.
    """

    def __init__(
        self,
        graph: Graph,
        tokens: Int[Tensor, "batch position"],
        embedded: Float[Tensor, "batch position embedding d_model"],
        ablated: Float[Tensor, "*batch_position writer d_model"] | None,
        *,
        n_masks: int,
        prefix: Prefix = NO_PREFIX,
        paired: bool = False,
    ) -> None:
        self.graph, self.tokens, self.prefix = graph, tokens, prefix
        self.n_masks, self.paired = n_masks, paired
        n_writers, d_model = len(graph.writers), embedded.shape[-1]
        dtype, device = embedded.dtype, embedded.device
        self._aligned = alignment(device)
        shape = (n_masks, tokens.numel(), self.rounded(n_writers), d_model)
        self.delta = torch.empty(shape, dtype=dtype, device=device)
        self._blank = torch.ones(n_masks, n_writers, dtype=torch.bool)  # never written, even with 0
        if self._aligned > 1:
            self.delta.zero_()
            self._blank[:] = False
        # Reads and writes pass this empty tensor on, so that autograd runs their backward passes
        # in exactly the reverse order, although autograd does not see the data in the buffer.
        self.clock = torch.empty(0, dtype=dtype, device=device)
        self.ablated = self.residual = None
        if ablated is not None:
            full = ablated.expand(*tokens.shape, n_writers, d_model)
            full = full.reshape(tokens.numel(), n_writers, d_model)
            self.residual = _residual_stream(graph, full)
            if self.is_ablated_trained:
                self.clock = _Subtracted.apply(full, self.clock, self)
            self.ablated = full.detach()
        self._gradient: Tensor | None = None
        self.is_running, self.n_runs = False, 0  # of those that have begun
        self.held = HeldOutputs(graph, n_masks, dtype, device, paired=paired)
        embeddings = slice(0, len(graph.embeddings))
        self.store(embedded, range(n_masks), embeddings, embeddings)

    @property
    def is_ablated_trained(self) -> bool:
        """Whether the values that removed edges carry need a gradient."""
        return self.residual is not None and self.residual.requires_grad

    def rounded(self, n_writers: int) -> int:
        """`n_writers` rounded up to the alignment."""
        return -(-n_writers // self._aligned) * self._aligned

    def weights(
        self, masks: Float[Tensor, "mask reader writer"]
    ) -> Float[Tensor, "place prompt reader column"]:
        """The masks in the shape that reads use: as wide as the store, zero where there is no edge.

        The `prompt` axis has size 1, for all prompts, unless each prompt has its own mask.
        """
        masks = masks[None] if self.paired else masks[:, None]
        width = self.delta.shape[2]
        if self._aligned == 1:
            return masks
        legal = _padded_legal(self.graph, width, masks.device)
        return torch.where(legal, pad(masks, (0, width - masks.shape[3])), 0)

    def store(
        self,
        clean: Float[Tensor, "batch position writer d_model"],
        masks: Sequence[int],
        writers: slice | Int[Tensor, " writer"],
        columns: slice | list[int],
        rows: Int[Tensor, " row"] | None = None,
    ) -> None:
        """Store the outputs of some writers.

        `batch` is masks × prompts, or only prompts if all masks have the same outputs. `columns`
        are the same writers, for tensors that stay on the CPU. With `rows`, only those tokens'
        outputs are given, and they do not count as held.
        """
        tokens = slice(None) if rows is None else rows
        n_tokens = self.tokens.numel() if rows is None else len(rows)
        outputs = clean.reshape(-1, n_tokens, *clean.shape[2:]).expand(len(masks), -1, -1, -1)
        ablated = 0 if self.ablated is None else _chosen(self.ablated[tokens], writers)
        for mask, of_mask in zip(masks, outputs, strict=True):
            if rows is not None and self._blank[mask, columns].any():
                self.delta[mask, :, writers] = 0
            if rows is None and isinstance(writers, slice):
                torch.sub(of_mask, ablated, out=self.delta[mask, :, writers])
            else:
                self.delta[mask, tokens, writers] = of_mask - ablated
            self._blank[mask, columns] = False
        self.held.note_written(masks, columns, at_all_tokens=rows is None)

    def fill_blanks(self, part: Part) -> None:
        """Set outputs that were never stored to zero: products read them too, with weight zero."""
        for mask in part.masks:
            blank = self._blank[mask, : part.block.n_legal].nonzero().flatten()
            if len(blank):
                self.delta[mask].index_fill_(1, blank.to(self.delta.device), 0)
                self._blank[mask, blank] = False

    def gradient(self, *, start: bool = False) -> Tensor:
        """The gradient that the backward pass has summed so far; `start` begins a new pass."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.delta)
        elif start:
            self._gradient.zero_()
        return self._gradient


class _Subtracted(torch.autograd.Function):
    """The gradient that ablated values get because every output in the store has them subtracted.

    It is minus the writers' gradient, which is complete when the first clock's gradient comes. The
    values are also part of the residual stream; for that part, autograd computes the gradient.
    """

    @staticmethod
    def forward(ctx: Any, ablated: Tensor, clock: Tensor, buffer: WriterBuffer) -> Tensor:
        ctx.buffer, ctx.n_writers = buffer, ablated.shape[1]
        return clock.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, clock: Tensor) -> tuple[Tensor | None, ...]:
        return -ctx.buffer.gradient()[:, :, : ctx.n_writers].sum(0), None, None


@lru_cache(maxsize=8)
def _padded_legal(graph: Graph, width: int, device: torch.device) -> Bool[Tensor, "reader column"]:
    return pad(graph.legal, (0, width - len(graph.writers))).to(device)


def _residual_stream(
    graph: Graph, ablated: Float[Tensor, "token writer d_model"]
) -> Float[Tensor, "block token d_model"]:
    """The ablated residual stream before each block: the sum of the block's legal writers."""
    stream = ablated.new_zeros(len(graph.blocks), len(ablated), ablated.shape[-1])
    summed, start = stream[0], 0
    for block in graph.blocks:
        summed = summed + ablated[:, start : block.n_legal].sum(1)
        stream[block.index], start = summed, block.n_legal
    return stream


def _chosen(
    values: Float[Tensor, "token writer d_model"], writers: slice | Int[Tensor, " chosen"]
) -> Float[Tensor, "token chosen d_model"]:
    if isinstance(writers, slice):
        return values[:, writers]
    return values.index_select(1, writers.to(values.device))  # several times as fast as an index
