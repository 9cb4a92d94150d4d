"""In which order a run reads and writes its buffer: any other is an error, and nothing stays."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from edgewise.masked_run import Run, running
from edgewise.schedule import Part, RowChange, schedule_after, whole
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer
from tests.models import gpt2, random_masks, random_soft_masks, random_tokens


@pytest.fixture
def model() -> MaskedTransformer:
    return MaskedTransformer(gpt2())


@pytest.fixture
def buffer(model: MaskedTransformer) -> WriterBuffer:
    """One that holds a run."""
    tokens, corrupted = (random_tokens(2, 5, seed=seed) for seed in (0, 1))
    buffer = model.buffer(tokens, model.activations(corrupted), n_masks=2)
    model.run(buffer, random_masks(model.graph, 2, density=0.5))
    return buffer


@contextmanager
def begun(buffer: WriterBuffer) -> Iterator[Run]:
    """A run of all components, at its start."""
    with running(buffer, random_soft_masks(buffer.graph, 2).requires_grad_()) as run:
        yield run


def outputs(run: Run, part: Part) -> torch.Tensor:
    """Numbers that stand for what a part's writers give."""
    n_writers = part.block.writers.stop - part.block.writers.start
    n_prompts = len(part.masks) * len(run.buffer.tokens)
    shape = (n_prompts, run.buffer.tokens.shape[1], n_writers, run.buffer.delta.shape[-1])
    return torch.zeros(shape)


def write_unread(run: Run) -> None:
    run.write(run.parts[0], outputs(run, run.parts[0]))


def write_another(run: Run) -> None:
    run.read(run.parts[0])
    run.write(run.parts[1], outputs(run, run.parts[1]))


def write_twice(run: Run) -> None:
    run.read(run.parts[0])
    for _ in range(2):
        run.write(run.parts[0], outputs(run, run.parts[0]))


def read_too_early(run: Run) -> None:
    run.read(run.parts[0])
    run.read(run.parts[1])


def end_early(run: Run) -> None:
    for part in run.parts[:-1]:
        run.read(part)
        run.write(part, outputs(run, part))


def run_inside(run: Run) -> None:
    with begun(run.buffer):
        pass


def break_off(run: Run) -> None:
    run.read(run.parts[0])
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (write_unread, "attention of layer 0 is written but not read"),
        (write_another, "mlp of layer 0 is written but not read"),
        (write_twice, "attention of layer 0 is written but not read"),
        (read_too_early, "mlp of layer 0 is read before attention of layer 0"),
        (end_early, "the run ends before out"),
        (run_inside, "inside another run"),
        (break_off, "out of memory"),
    ],
)
def test_a_run_in_another_order_is_an_error_after_which_all_runs_again(
    misuse: object, message: str, model: MaskedTransformer, buffer: WriterBuffer
) -> None:
    assert callable(misuse)
    with pytest.raises(RuntimeError, match=message), begun(buffer) as run:
        misuse(run)
    assert_all_runs_again(model, buffer)


def assert_all_runs_again(model: MaskedTransformer, buffer: WriterBuffer) -> None:
    """In the next run of the same masks as the last; and it gives what it gave."""
    masks = random_masks(model.graph, 2, density=0.5)
    fresh = model.buffer(buffer.tokens, model.activations(random_tokens(2, 5, seed=1)), n_masks=2)
    work = []
    for one in (buffer, fresh):
        before = model.flops
        work.append((model.run(one, masks), model.flops - before))
    assert torch.equal(work[0][0], work[1][0])
    assert work[0][1] == work[1][1]


def test_a_part_of_another_run_is_an_error(buffer: WriterBuffer) -> None:
    with pytest.raises(KeyError), begun(buffer) as run:
        run.read(whole(buffer.graph.blocks[0], 2))


def test_a_backward_pass_after_another_run_is_an_error(
    model: MaskedTransformer, buffer: WriterBuffer
) -> None:
    loss = model.run(buffer, random_soft_masks(model.graph, 2).requires_grad_()).sum()
    model.run(buffer, random_masks(model.graph, 2, density=0.5))
    with pytest.raises(RuntimeError, match="run again before the backward pass"):
        loss.backward()


@pytest.fixture
def masks(model: MaskedTransformer) -> Tensor:
    """The same random one twice, in which all writers lead to `out`."""
    mask = random_masks(model.graph, 1, density=0.5)
    mask[:, -1] = True
    return mask.repeat(2, 1, 1)


@pytest.fixture
def change(model: MaskedTransformer, buffer: WriterBuffer, masks: Tensor) -> RowChange:
    """Of the last MLP's row, in these masks, which the buffer holds."""
    model.run(buffer, masks)
    reader = len(model.graph.readers) - 2
    return schedule_after(model.graph, masks[0], reader, n_masks=2, device=model.device)


@pytest.fixture
def changed(masks: Tensor, change: RowChange) -> Tensor:
    """The masks without some edges of the row."""
    changed = masks.clone()
    changed[0, change.reader, ::2] = changed[1, change.reader, ::3] = False
    return changed


def test_given_parts_run_where_a_row_changes_and_nowhere_else(
    model: MaskedTransformer, buffer: WriterBuffer, change: RowChange, changed: Tensor
) -> None:
    expected = model(buffer.tokens, changed, model.activations(random_tokens(2, 5, seed=1)))
    with buffer.held.changing_row(change, changed[:, change.reader]):
        found = model.run(buffer, changed, parts=change.parts)
    torch.testing.assert_close(found, expected)
    before = model.flops
    model.run(buffer, changed)
    assert model.flops - before < 0.2 * before  # `out` alone
    with pytest.raises(RuntimeError, match="outside"):
        model.run(buffer, changed, parts=change.parts)
    assert_all_runs_again(model, buffer)


def test_a_changed_row_with_an_edge_that_the_mask_lacks_is_an_error(
    buffer: WriterBuffer, change: RowChange
) -> None:
    rows = torch.stack([change.row, buffer.graph.legal[change.reader]])
    with pytest.raises(ValueError, match="lacks"), buffer.held.changing_row(change, rows):
        pass


def test_of_a_replayed_run_the_last_mlp_counts_as_run_at_some_tokens_only(
    buffer: WriterBuffer, masks: Tensor, change: RowChange, changed: Tensor
) -> None:
    before = buffer.held.outdated(masks.float(), masks)
    with buffer.held.changing_row(change, changed[:, change.reader]):
        pass  # a replay calls nothing here
    after = buffer.held.outdated(changed.float(), changed)
    assert (before ^ after).nonzero()[:, 1].tolist() == [len(buffer.graph.writers) - 1] * 2


def test_a_row_whose_change_is_broken_off_runs_again(
    model: MaskedTransformer, buffer: WriterBuffer
) -> None:
    masks = random_masks(model.graph, 2, density=0.5)
    expected = model.run(buffer, masks)
    block = model.graph.blocks[1]
    buffer.delta[:, :, block.writers] = torch.nan
    reader = block.readers.start
    change = schedule_after(model.graph, model.graph.legal, reader, n_masks=2, device=model.device)
    rows = masks[:, reader] & change.row
    with pytest.raises(KeyError), buffer.held.changing_row(change, rows):
        raise KeyError
    assert torch.equal(model.run(buffer, masks), expected)
