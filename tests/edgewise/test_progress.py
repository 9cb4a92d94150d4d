"""Loops tell an observer what they do, and what is said of them."""

from collections.abc import Callable

import pytest
import torch

from edgewise import Circuit
from edgewise.evaluate import evaluate
from edgewise.progress import Facts, note, observed_by, track
from methods.acdc import ACDC
from methods.edge_pruning import EdgePruning
from tests.methods import toys


class Recorder:
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.facts: dict[str, float | str] = {}

    def begin(self, label: str, total: int | None, done: int) -> None:
        self.told.append((label, total, done))

    def step(self) -> None:
        self.told.append("step")

    def note(self, facts: Callable[[], Facts]) -> None:
        self.facts.update(facts())

    def end(self) -> None:
        self.told.append("end")


def test_an_observer_is_told_of_loops_in_loops() -> None:
    with observed_by(recorder := Recorder()):
        for _ in track("ab", "outer"):
            list(track(iter("c"), "inner", total=5, done=4))
    inner = [("inner", 5, 4), "step", "end", "step"]
    assert recorder.told == [("outer", 2, 0), *inner, *inner, "end"]
    recorder.told.clear()
    note(lambda: pytest.fail("nobody observes"))
    assert list(track("ab", "later")) == ["a", "b"] and recorder.told == []


def test_a_loop_that_breaks_off_ends() -> None:
    with observed_by(recorder := Recorder()), pytest.raises(ZeroDivisionError):
        for _ in track("ab", "broken"):
            _ = 1 / 0
    assert recorder.told == [("broken", 2, 0), "end"]


def test_methods_and_evaluation_say_how_they_do() -> None:
    model, task = toys.gpt2(), toys.task()
    with observed_by(recorder := Recorder()):
        circuit = ACDC(threshold=0.1).discover(model, task, generator=torch.Generator())
        EdgePruning(steps=2, warmup_steps=1, target_warmup_steps=1).discover(
            model, task, generator=torch.Generator()
        )
        full = Circuit(model.graph.legal, model.graph)
        given = {"metrics": task.metrics, "ablation": task.ablation}
        evaluate(model, task.test, [circuit, full], **given)
    left, loss = recorder.facts["edges left"], recorder.facts["loss"]
    assert isinstance(left, int) and circuit.n_edges <= left <= model.graph.n_edges
    assert isinstance(loss, float) and loss >= 0
    assert 0 <= float(recorder.facts["sparsity"]) <= 1
    assert recorder.facts["circuits"] == "2/2"
