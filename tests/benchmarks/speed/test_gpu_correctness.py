"""The correctness checks for an accelerator: they pass on a CPU, and notice planted faults."""

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.speed.gpu import cases, correctness
from benchmarks.speed.gpu.parts import Measurement, Setting
from edgewise.architectures.gpt2 import GPT2Architecture
from edgewise.mask_training import MaskTraining
from edgewise.precision import products_in
from edgewise.schedule import HeldOutputs
from tests.edgewise.places import made_up_devices

CPU = torch.device("cpu")
TOYS = dict(correctness.measurements(Setting(CPU, toy=True)))
ALL = dict(correctness.measurements(Setting(CPU)))


def of(*names: str) -> list[Measurement]:
    """The measurements whose names hold all of these."""
    found = [(key, run) for key, run in TOYS.items() if all(name in key for name in names)]
    assert found
    return found


@pytest.fixture
def wrong_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2's attention is off by a hundredth, in one type as it could be on one device."""
    attention = GPT2Architecture.attention

    def wrong(self: GPT2Architecture, layer: int, x: Tensor, *given: Any) -> Tensor:
        return attention(self, layer, x, *given) * (1.01 if x.dtype == torch.float32 else 1)

    monkeypatch.setattr(GPT2Architecture, "attention", wrong)
    monkeypatch.setattr("edgewise.transformer.check_forward", lambda *_: None)  # it would see this


def test_names_are_unique_and_say_shape_and_type() -> None:
    every = correctness.measurements(Setting(CPU))
    assert len(every) == len(ALL)
    assert TOYS.keys() < ALL.keys()
    assert all(", float" in name or ", bfloat16" in name for name in ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_a_check_holds_on_the_cpu(name: str, unchecked: None) -> None:
    row = TOYS[name]()
    assert row == {"skipped": "one device only"} or row["largest"] <= row["tolerance"]
    assert ("skipped" in row) == ("on the CPU" in name)


@pytest.mark.slow
def test_the_other_shapes_hold_on_the_cpu(unchecked: None) -> None:
    for name in ALL.keys() - TOYS.keys():
        row = ALL[name]()
        assert row["largest"] <= row["tolerance"], name


@pytest.mark.parametrize(
    "what", ["Hugging Face's", "logits", "gradients", "targets", "EAP", "evaluation"]
)
def test_a_wrong_attention_is_noticed_where_it_is_wrong(what: str, wrong_in_float32: None) -> None:
    for name, run in of("gpt2, float32", what):
        if "twice" not in name and "recomputed" not in name:
            with pytest.raises(AssertionError, match=r"largest difference .*; tolerance \d"):
                run()
    for _, run in of("llama, float32", what):
        run()


def test_a_stale_buffer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: HeldOutputs, masks: Tensor, present: Tensor) -> Tensor:
        return ~self._written[: len(masks)]

    monkeypatch.setattr(HeldOutputs, "outdated", nothing)
    for _, run in of("a used buffer"):
        with pytest.raises(AssertionError, match="largest difference"):
            run()


def test_a_run_that_forgets_its_optimiser_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = MaskTraining.restore

    def forgetful(self: MaskTraining, tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
        kept = ("generator", "log_alpha", "multipliers")
        return restore(self, {name: tensors[name] for name in kept}, state)

    monkeypatch.setattr(MaskTraining, "restore", forgetful)
    for _, run in of("Edge Pruning resumed"):
        with pytest.raises(AssertionError, match="tolerance 0"):
            run()


@pytest.mark.slow
def test_a_device_that_draws_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correctness, "_drawn", lambda draw, source, *size, **given: draw(*size))
    for _, run in of("Edge Pruning, 10 steps"):
        with pytest.raises(AssertionError, match=r"tolerance 0\.001"):
            run()


def test_a_run_that_never_repeats_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    step, noise = MaskTraining.step, iter(range(1, 99))

    def unsteady(self: MaskTraining, number: int) -> None:
        step(self, number)
        self.state(number)[0]["log_alpha"].data += 1e-6 * next(noise)

    monkeypatch.setattr(MaskTraining, "step", unsteady)
    for _, run in of("Edge Pruning twice"):
        with pytest.raises(AssertionError, match="tolerance 0"):
            run()


def test_nan_is_no_agreement() -> None:
    ones, nan = torch.ones(3), torch.tensor([1.0, torch.nan, 1.0])
    for found, expected in ((nan, ones), (ones, nan), (nan, nan)):
        with pytest.raises(AssertionError, match="largest difference nan"):
            correctness._held([ones, found], [ones, expected], 1.0)


def test_the_precision_of_products_is_put_back() -> None:
    with products_in("tf32"):
        with products_in("float32"):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.slow
def test_a_model_on_two_devices_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up device; weights of it share one address, so no weight may be tied."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # made-up devices are for one thread
    (llama,) = (shape for shape in cases.FEW if shape.name == "llama")
    with made_up_devices():
        case = cases.case_of(llama, torch.float32, torch.device("lazy:0"))
        for home_on_the_cpu in (True, False):
            row = correctness._two_devices(case, home_on_the_cpu=home_on_the_cpu)
            assert 0 < row["largest"] <= row["tolerance"]
