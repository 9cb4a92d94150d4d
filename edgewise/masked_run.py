"""One masked run of a writers' buffer: its parts are read and written in a fixed order.

`edgewise/schedule.py` chooses the parts. The inputs of a part are read after all earlier parts have
been written; then its outputs are written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from edgewise.schedule import Part
from edgewise.writers import WriterBuffer


@contextmanager
def running(
    buffer: WriterBuffer,
    masks: Float[Tensor, "mask reader writer"] | Bool[Tensor, "mask reader writer"],
    parts: Sequence[Part] | None = None,
) -> Iterator["Run"]:
    """A run of the buffer with these masks, which ends when all its parts have run.

    By default the parts are computed from the masks and from the outputs that the buffer holds.
    Inside `changing_row`, known `parts` can be given instead; then the CPU does not read the masks.

    Raises ValueError if ablated values need a gradient and the masks do not, because some
    components would then not run. Raises RuntimeError for a run inside another and for one that
    ends early. If a run fails for any reason, the next run reuses nothing but the embeddings.
    """
    if buffer.is_running:
        raise RuntimeError("a run of a writers' buffer inside another run of it")
    if buffer.is_ablated_trained and not masks.requires_grad:
        raise ValueError("masks without a gradient; expected one, as ablated values have one, too")
    buffer.is_running, buffer.n_runs = True, buffer.n_runs + 1
    try:
        if parts is None:
            parts = buffer.held.next_parts(masks)
        elif not buffer.held.is_row_changing:
            raise RuntimeError("a run of given parts outside `changing_row`")
        masks = masks.to(buffer.delta.device, non_blocking=True).to(buffer.delta.dtype)
        run = Run(buffer, buffer.weights(masks), parts)
        yield run
        run.check_complete()
    except BaseException:
        buffer.held.forget()
        raise
    finally:
        buffer.is_running = False
        # Without this, the autograd graph and the buffer would keep each other alive.
        buffer.clock = buffer.clock.detach()


class Run:
    """A run in progress: each part is read, then written, in order; `out` is only read.

    Any other order raises RuntimeError. A part that has run may be read again: a backward pass that
    recomputes blocks does so.
    """

    def __init__(
        self,
        buffer: WriterBuffer,
        weights: Float[Tensor, "place prompt reader column"],
        parts: Sequence[Part],
    ) -> None:
        self.buffer, self.parts = buffer, parts
        self._weights = weights
        self._places = {part: place for place, part in enumerate(parts)}
        self._n_done = 0
        self._read_part: Part | None = None  # and not written yet
        self._rows: Tensor | None = None

    def read(
        self,
        part: Part,
        rows: Int[Tensor, " row"] | None = None,
        on_backward: Callable[[], None] | None = None,
    ) -> Float[Tensor, "part_mask row part_reader d_model"]:
        """The inputs of a part's readers, at all tokens or at `rows` of them.

        `on_backward` is called in the backward pass.
        """
        self._begin(part, rows)
        buffer, weights = self.buffer, self._weights
        columns = slice(buffer.rounded(part.block.n_legal))
        if isinstance(part.readers, slice) and len(part.masks) == len(weights):
            weights = weights[:, :, part.readers, columns]
        else:
            weights = torch.stack([weights[mask, :, part.readers, columns] for mask in part.masks])
        if part.gathers is None:
            buffer.fill_blanks(part)
            inputs = _Read.apply(weights, buffer.clock, buffer, part, rows, on_backward)
        else:
            inputs = _gathered(buffer.delta, weights[:, 0], part, rows)
        if buffer.residual is not None:
            residual = buffer.residual[part.block.index]
            inputs += (residual if rows is None else residual[rows])[None, :, None]
        return inputs

    def write(self, part: Part, clean: Float[Tensor, "batch position writer d_model"]) -> None:
        """Store the outputs of a part's writers at the tokens at which its readers were read.

        `batch` is masks × prompts. If these are not all tokens, the outputs do not count as held.
        """
        if part is not self._read_part:
            raise RuntimeError(f"{part.label} is written but not read before")
        if part.stored is not None:
            clean = clean.index_select(2, part.stored)
        self.buffer.clock = _Write.apply(clean, self.buffer.clock, self.buffer, part, self._rows)
        self._read_part, self._n_done = None, self._n_done + 1

    def check_complete(self) -> None:
        """Raises RuntimeError if a part is left."""
        if self._n_done < len(self.parts):
            raise RuntimeError(f"the run ends before {self.parts[self._n_done].label}")

    def _begin(self, part: Part, rows: Tensor | None) -> None:
        """Raises RuntimeError unless the part is the next, or has run already."""
        place = self._places[part]
        if place > self._n_done:
            raise RuntimeError(f"{part.label} is read before {self.parts[self._n_done].label} ran")
        if place < self._n_done:
            return
        if part.block.kind == "out":
            self._n_done += 1
        else:
            self._read_part, self._rows = part, rows


def _gathered(
    delta: Float[Tensor, "mask token column d_model"],
    weights: Float[Tensor, "part_mask part_reader part_column"],
    part: Part,
    rows: Int[Tensor, " row"] | None,
) -> Float[Tensor, "part_mask row part_reader d_model"]:
    """Weighted sums over the gathered edges only: one bag per mask, token and reader."""
    _, n_tokens, n_columns, d_model = delta.shape
    device, n_readers = delta.device, weights.shape[1]
    tokens = torch.arange(n_tokens, device=device) if rows is None else rows
    starts, sources, values, n_before = [], [], [], 0
    for mask, of_mask, gather in zip(part.masks, weights, part.gathers or (), strict=True):
        n_edges = len(gather.writers)
        of_token = torch.arange(len(tokens), device=device) * n_edges
        starts.append(n_before + of_token[:, None] + gather.starts)
        sources.append((mask * n_tokens + tokens)[:, None] * n_columns + gather.writers)
        values.append(of_mask[gather.readers, gather.writers].expand(len(tokens), -1))
        n_before += len(tokens) * n_edges
    sums = embedding_bag(
        torch.cat([source.flatten() for source in sources]),
        delta.view(-1, d_model),
        torch.cat([start.flatten() for start in starts]),
        mode="sum",
        per_sample_weights=torch.cat([value.flatten() for value in values]),
    )
    return sums.view(len(weights), len(tokens), n_readers, d_model)


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
    """The reverse of `_of_tokens`: sums over the tokens that have the same mask."""
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
        part: Part,
        rows: Tensor | None,
    ) -> Tensor:
        ctx.buffer, ctx.part, ctx.rows, ctx.shape = buffer, part, rows, clean.shape
        buffer.store(clean, part.masks, part.writers, part.columns, rows)
        return clock.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, clock: Tensor) -> tuple[Tensor | None, ...]:
        gradient, tokens = ctx.buffer.gradient(), slice(None) if ctx.rows is None else ctx.rows
        of_masks = torch.stack(
            [gradient[mask, tokens, ctx.part.writers] for mask in ctx.part.masks]
        )
        return of_masks.reshape(ctx.shape), clock, None, None, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        clock: Tensor,
        buffer: WriterBuffer,
        part: Part,
        rows: Tensor | None,
        on_backward: Callable[[], None] | None,
    ) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.buffer, ctx.part, ctx.rows, ctx.on_backward = buffer, part, rows, on_backward
        ctx.n_runs = buffer.n_runs
        n_masks, _, n_readers, n_writers = weights.shape
        n_tokens = buffer.delta.shape[1] if rows is None else len(rows)
        inputs = buffer.delta.new_empty(n_masks, n_tokens, n_readers, buffer.delta.shape[-1])
        for one, mask, into in zip(part.masks, weights, inputs, strict=True):
            delta = buffer.delta[one, slice(None) if rows is None else rows, :n_writers]
            torch.bmm(_of_tokens(mask, buffer, rows), delta, out=into)
        return inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, buffer = ctx.rows, ctx.buffer
        if ctx.n_runs != buffer.n_runs:
            raise RuntimeError("a writers' buffer is run again before the backward pass of a run")
        (weights,) = ctx.saved_tensors
        n_writers = weights.shape[-1]
        gradients = buffer.gradient(start=ctx.part.block.kind == "out")
        d_weights = torch.empty_like(weights)
        for index, (one, by_reader) in enumerate(zip(ctx.part.masks, gradient, strict=True)):
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
        return d_weights, buffer.clock.new_empty(0), None, None, None, None
