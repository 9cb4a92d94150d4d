"""The loss of masks that differ little from one call to the next.

A search that changes one edge after another asks again and again for the loss over the same
prompts. The outputs of the last run are kept, so a call computes only what a change affects. On a
GPU the passes for one reader's edges can be recorded and replayed.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise import parallel
from edgewise.batches import Batch, Batches
from edgewise.cuda_graph import Memory, RecordedRow, can_record
from edgewise.task import Loss, Task
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer

Evaluate = Callable[[Bool[Tensor, "mask reader writer"]], list[float]]
WORTH_RECORDING = 8
"""The fewest passes for one reader that are worth recording as a CUDA graph."""


class Objective:
    """The mean loss over all training pairs, for up to `at_once` masks in one call.

    It takes no more than `most_at_once` masks, and keeps outputs in at most `buffer_bytes`. Where
    these do not hold even the outputs for one mask, every call runs the whole model.
    """

    def __init__(
        self,
        model: MaskedTransformer,
        task: Task,
        loss: Loss,
        *,
        most_at_once: int,
        buffer_bytes: int,
    ) -> None:
        self._model, self._loss = model, loss
        self._n_pairs = len(task.train)
        mine = parallel.share(task.train)
        self._batches = Batches(model, mine, task.ablation, mean_over=task.train)
        self._index = self._batches.indices()
        per_token = len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize
        own_tokens = mine.clean[:, len(self._batches.prefix) :].numel()
        # Losses are added up over ranks, mask by mask: all must take the same number of masks.
        n_tokens = int(parallel.largest(torch.tensor(own_tokens)))
        # The ablated values take as much as the outputs of one mask.
        room = buffer_bytes // (per_token * n_tokens) - 1
        self.at_once = max(1, min(room, most_at_once, self._batches.batch_tokens // n_tokens))
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


def without_first_edges(
    mask: Bool[Tensor, "reader writer"], reader: int, writers: Sequence[int]
) -> Bool[Tensor, "removed reader writer"]:
    """The mask without the first of these edges into the reader, then the first two, and so on."""
    masks = mask.repeat(len(writers), 1, 1)
    for index, writer in enumerate(writers):
        masks[index:, reader, writer] = False
    return masks
