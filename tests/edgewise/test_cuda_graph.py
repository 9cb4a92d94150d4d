"""What is recorded on a GPU, run here one kernel at a time: the same results as unrecorded."""

import gc
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgewise import cuda_graph
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from tests import models
from tests.methods import toys


class Played:
    """Stands for a recording: it runs its function when it is made, in vain, and at each replay."""

    def __init__(
        self, function: Callable[[], Any], model: MaskedTransformer, memory: cuda_graph.Memory
    ) -> None:
        self.function = function

    def replay(self) -> None:
        self.function()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Played]:
    """All recordings that a test makes; models record wherever they may."""
    made: list[Played] = []

    def record(*given: Any) -> Played:
        made.append(Played(*given))
        return made[-1]

    monkeypatch.setattr(cuda_graph, "Recording", record)
    monkeypatch.setattr(
        "edgewise.objective.Memory", lambda device: cuda_graph.Memory.__new__(cuda_graph.Memory)
    )
    monkeypatch.setattr("edgewise.objective.can_record", lambda model: model.cuda_graphs)
    return made


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("threshold", [1e-4, 1e-2])
def test_acdc_finds_the_same_circuit_recorded(
    threshold: float, at_once: int, recorded: list[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("methods.acdc.AT_ONCE", at_once)
    monkeypatch.setattr("methods.acdc.PER_MORE", 1)
    monkeypatch.setattr("edgewise.objective.WORTH_RECORDING", 1)
    hf = models.gpt2(n_layer=3, n_head=2, n_embd=12).double()
    hf.transformer.h[-1].mlp.c_proj.weight.data *= 6  # its edge into `out` stays, others go
    model, task = MaskedTransformer(hf), toys.task(toys.random_pairs(3))
    found = []
    for model.cuda_graphs in (False, True):
        generator = torch.Generator().manual_seed(0)
        found.append(ACDC(threshold=threshold).discover(model, task, generator=generator))
    plain, replayed = found
    assert recorded
    assert plain.mask[-1, -1]
    assert torch.equal(plain.mask, replayed.mask)
    assert plain.meta["tested"] == replayed.meta["tested"]
    assert plain.meta["objective"] == pytest.approx(replayed.meta["objective"], rel=1e-9)


@pytest.mark.parametrize("fails", [False, True])
def test_no_earlier_graph_is_freed_while_one_is_recorded(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def function() -> None:
        seen.append(gc.isenabled())
        if fails:
            raise RuntimeError("it looks at a number")

    graph = SimpleNamespace(capture_begin=lambda pool: None, capture_end=lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    memory: Any = cuda_graph.Memory.__new__(cuda_graph.Memory)
    memory.pool, memory.stream = (0, 0), None
    model = MaskedTransformer(models.gpt2())
    with pytest.raises(ValueError, match=r"cannot be recorded.*number") if fails else nullcontext():
        cuda_graph.Recording(function, model, memory)
    assert seen == [False]
    assert gc.isenabled()
