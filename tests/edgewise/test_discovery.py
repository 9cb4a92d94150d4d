"""Meter and checkpoint: no second and no operation is lost or counted twice."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from edgewise import discovery
from edgewise.allocator import release_freed_memory
from edgewise.discovery import Checkpoint, Meter
from edgewise.transformer import MaskedTransformer
from tests.models import gpt2, random_tokens

STATE = {"step": 7, "losses": [0.5, 0.25], "done": False}


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    times = SimpleNamespace(perf_counter=clock.read, monotonic=clock.read)
    monkeypatch.setattr(discovery, "time", times)
    yield clock


@pytest.fixture
def model() -> MaskedTransformer:
    return MaskedTransformer(gpt2())


def one_pass(model: MaskedTransformer) -> int:
    return model.forward_flops(torch.full((2,), 5))


def test_the_meter_counts_what_happens_inside_its_block_alone(
    model: MaskedTransformer, clock: Clock
) -> None:
    tokens = random_tokens(2, 5)
    model(tokens)
    clock.sleep(1)
    meter = Meter(model)
    assert (meter.seconds, meter.flops, meter.peak_bytes) == (0, 0, 0)
    with meter.run():
        model(tokens)
        clock.sleep(2)
        assert (meter.seconds, meter.flops) == (2, one_pass(model))
        model(tokens)
        clock.sleep(3)
    model(tokens)
    clock.sleep(4)
    assert (meter.seconds, meter.flops) == (5, 2 * one_pass(model))


def test_several_blocks_add_up_and_a_failing_one_counts(
    model: MaskedTransformer, clock: Clock
) -> None:
    meter = Meter(model)
    with meter.run():
        clock.sleep(2)
    with pytest.raises(RuntimeError, match="on purpose"), meter.run():
        clock.sleep(3)
        model(random_tokens(2, 5))
        raise RuntimeError("on purpose")
    clock.sleep(5)
    assert (meter.seconds, meter.flops) == (5, one_pass(model))


def test_real_seconds_are_measured(model: MaskedTransformer) -> None:
    meter = Meter(model)
    with meter.run():
        time.sleep(0.05)
    assert 0.05 <= meter.seconds < 5


def test_peak_memory_is_the_blocks_own(model: MaskedTransformer) -> None:
    peaks = []
    for size in (60_000_000, 1):
        release_freed_memory()  # kept since another test of this process
        meter = Meter(model)
        with meter.run():
            held = torch.ones(size)
            assert held.sum() > 0
            del held
        assert meter.memory_source and meter.peak_bytes > 0
        peaks.append(meter.peak_bytes)
    if "reset before" in meter.memory_source:
        assert peaks[0] - peaks[1] > 200_000_000


def test_a_checkpoint_gives_back_tensors_and_state(
    model: MaskedTransformer, tmp_path: Path
) -> None:
    weights = torch.randn(3, 4, requires_grad=True)
    tensors = {"weights": weights, "same memory": weights, "part": weights.T[1:]}
    tensors["generator"] = torch.Generator().manual_seed(3).get_state()
    path = tmp_path / "new" / "cell.checkpoint"
    checkpoint = Checkpoint(path, Meter(model))
    assert checkpoint.load() is None
    checkpoint.save(tensors, STATE)
    loaded = Checkpoint(path, Meter(model)).load()
    assert loaded is not None and loaded[1] == STATE
    assert loaded[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[0][name], tensor)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    checkpoint.remove()
    assert checkpoint.load() is None and not path.exists()
    checkpoint.remove()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    save_file({"step": torch.tensor(1)}, path)


@pytest.mark.parametrize("damage", [truncated, altered, emptied, replaced])
def test_a_damaged_checkpoint_is_set_aside_with_a_warning(
    model: MaskedTransformer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    path = tmp_path / "cell.safetensors"
    meter = Meter(model)
    Checkpoint(path, meter).save({"step": torch.tensor(1)}, STATE)
    damage(path)
    content = path.read_bytes()
    assert Checkpoint(path, meter).load() is None
    assert meter.flops == 0 and not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == content
    (message,) = caplog.messages
    assert str(path) in message and "cell.damaged" in message


def test_work_up_to_a_checkpoint_is_counted_once_and_work_after_it_when_done_again(
    model: MaskedTransformer, clock: Clock, tmp_path: Path
) -> None:
    tokens, path = random_tokens(2, 5), tmp_path / "checkpoint"
    killed = Meter(model)
    with killed.run():
        clock.sleep(10)
        model(tokens)
        Checkpoint(path, killed).save({}, STATE)
        clock.sleep(5)  # done again after the kill
        model(tokens)
    clock.sleep(1000)
    resumed = Meter(model)
    with resumed.run():
        clock.sleep(1)  # prepared again, as the killed run had done
        model(tokens)
        checkpoint = Checkpoint(path, resumed)
        assert checkpoint.load() is not None
        clock.sleep(5)
        model(tokens)
        assert (resumed.seconds, resumed.flops) == (15, 2 * one_pass(model))
        checkpoint.save({}, STATE)
        clock.sleep(3)
    assert (resumed.seconds, resumed.flops) == (18, 2 * one_pass(model))
    again = Meter(model)
    with again.run():
        assert Checkpoint(path, again).load() is not None
    assert (again.seconds, again.flops) == (15, 2 * one_pass(model))
    assert again.peak_bytes >= killed.peak_bytes > 0


def test_a_checkpoint_is_due_when_enough_time_has_passed_since_the_last(
    model: MaskedTransformer, clock: Clock, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", Meter(model), every_seconds=60.0)
    assert not checkpoint.due()
    clock.sleep(60)
    assert checkpoint.due()
    checkpoint.save({}, STATE)
    assert not checkpoint.due()
    clock.sleep(59)
    assert not checkpoint.due()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    model: MaskedTransformer, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    checkpoint = Checkpoint(path, Meter(model))
    checkpoint.save({"step": torch.tensor(1)}, STATE)
    with pytest.raises(TypeError):
        checkpoint.save({"step": torch.tensor(2)}, {"not json": object()})
    loaded = checkpoint.load()
    assert loaded is not None and loaded[0]["step"] == 1
