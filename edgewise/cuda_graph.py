"""Work recorded as a CUDA graph: one launch instead of some thousands of kernels.

A training step on prompts of GPT-2's lengths, or the test of an edge, is so short on a GPU that
launching its kernels takes longer than running them. A graph is recorded once and replayed with new
values in the same memory.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise import parallel
from edgewise.architectures.spread import Spread
from edgewise.batches import Batch
from edgewise.prompts import PromptPairs
from edgewise.schedule import schedule_after
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer

WARM_UP = 3
"""Calls before a step is recorded, in which libraries load and set up what they need."""


def can_record(model: MaskedTransformer) -> bool:
    """Whether recording is switched on and one process runs the whole model on one GPU."""
    return (
        model.cuda_graphs
        and model.device.type == "cuda"
        and not isinstance(model.architecture, Spread)
        and parallel.size() == 1
    )


class Memory:
    """The memory pool that successive recordings share.

    The latest recording is kept, so that the next can reuse its memory. Earlier ones may not be
    replayed again.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
        self.latest: torch.cuda.CUDAGraph | None = None


class Recording:
    """A function without arguments on a model's device, recorded when this object is made.

    Recording executes nothing; it notes the kernels and their memory addresses. The function must
    not read a value on the CPU. It must have run before, because loading a kernel would break off
    the recording. The operations it counts are added at each replay instead.

    Raises ValueError for a function that cannot be recorded.
    """

    def __init__(
        self, function: Callable[[], Any], model: MaskedTransformer, memory: Memory
    ) -> None:
        self._model, self._graph = model, torch.cuda.CUDAGraph()
        before = model.flops
        torch.cuda.synchronize(model.device)
        with torch.cuda.stream(memory.stream), _nothing_collected():
            self._graph.capture_begin(pool=memory.pool)
            try:
                function()
            except RuntimeError as error:
                with suppress(RuntimeError):  # this second error adds no information
                    self._graph.capture_end()
                raise ValueError(
                    "a step cannot be recorded as a CUDA graph, such as one whose loss looks at a "
                    f"number; run it without cuda_graphs ({error})"
                ) from error
            self._graph.capture_end()
        memory.latest = self._graph
        self._flops, model.flops = model.flops - before, before

    def replay(self) -> None:
        self._graph.replay()
        self._model.flops += self._flops


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Without garbage collection: to free an earlier graph would break off a recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class RecordedStep:
    """A function of tensors of fixed shapes: run a few times, then recorded and replayed.

    The function works only on the model's device, returns nothing and changes tensors in place.
    """

    def __init__(self, function: Callable[..., Any], model: MaskedTransformer) -> None:
        self._function, self._model = function, model
        self._memory = Memory(model.device)
        self._calls = 0
        self._recording: Recording | None = None
        self._inputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> None:
        self._calls += 1
        if self._calls <= WARM_UP:
            self._run(inputs)
            return
        if self._recording is None:
            self._inputs = tuple(given.clone() for given in inputs)
            self._recording = Recording(
                lambda: self._function(*self._inputs), self._model, self._memory
            )
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._recording.replay()

    def _run(self, inputs: tuple[Tensor, ...]) -> None:
        """Run on a separate stream, as a recording requires."""
        stream = self._memory.stream
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)


class RecordedRow:
    """The masked pass for masks that lack some edges of one reader's row of `mask`.

    The mask itself runs first, at all of the buffers' places. Outputs that do not depend on the row
    are kept from that run, so every call runs the same kernels: one by one at the first call,
    recorded later. The buffers may not be run otherwise in between.
    """

    def __init__(
        self,
        model: MaskedTransformer,
        kept: Sequence[tuple[Batch, WriterBuffer]],
        loss: Callable[[Tensor, Tensor, PromptPairs], Tensor],
        mask: Bool[Tensor, "reader writer"],
        reader: int,
        *,
        n_masks: int,
        memory: Memory,
    ) -> None:
        self._model, self._kept, self._loss = model, kept, loss
        self._masks = mask.to(model.device, model.dtype).repeat(n_masks, 1, 1)
        self._rows = self._masks[:, reader].clone()
        self._total = torch.zeros(n_masks, dtype=torch.float64, device=model.device)
        given = model.graph, mask, reader
        self._change = schedule_after(*given, n_masks=n_masks, device=model.device)
        self._memory, self._has_run = memory, False
        self._recording: Recording | None = None
        for batch, buffer in kept:
            model.run(buffer, mask.repeat(n_masks, 1, 1), batch.targets)

    def __call__(self, rows: Bool[Tensor, "mask writer"]) -> Float[Tensor, " mask"]:
        """The loss over all prompts for each of up to `n_masks` rows, on the CPU."""
        filled = torch.cat([rows, rows[-1:].expand(len(self._rows) - len(rows), -1)])
        self._rows.copy_(filled, non_blocking=True)
        with ExitStack() as changing:
            for _, buffer in self._kept:
                changing.enter_context(buffer.held.changing_row(self._change, filled))
            self._run_or_replay()
        return self._total[: len(rows)].cpu()

    def _run_or_replay(self) -> None:
        if not self._has_run:
            self._run()
            self._has_run = True
            return
        if self._recording is None:
            self._recording = Recording(self._run, self._model, self._memory)
        self._recording.replay()

    def _run(self) -> None:
        self._masks[:, self._change.reader] = self._rows
        self._total.zero_()
        for batch, buffer in self._kept:
            logits = self._model.run(buffer, self._masks, batch.targets, self._change.parts)
            loss = self._loss(logits, batch.full_logits, batch.pairs)
            self._total += loss.double().sum(-1)
