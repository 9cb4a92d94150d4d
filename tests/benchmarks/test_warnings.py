"""What is said of results that may not mean what they seem to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.grid.suite import single_cell
from benchmarks.record import Finished
from benchmarks.report.report import report
from benchmarks.store import Store
from benchmarks.warnings import warnings_about, warnings_of
from edgewise import MaskedTransformer
from edgewise.metrics import KL, Metric
from edgewise.prompts import PromptPairs
from tasks import TASKS
from tests.benchmarks.run.small_runs import run_small
from tests.benchmarks.samples import estimated, record_fields
from tests.methods import toys


def circuit(method: str, settings: dict[str, Any], sparsity: float, live: float) -> Finished:
    row = {
        "edges": 5,
        "sparsity": sparsity,
        "live_sparsity": live,
        **estimated({"kl": 1.0, "accuracy": 0.5}),
    }
    fields = {**record_fields(method, settings, "ioi", 0), "kind": "circuit", "rows": [row]}
    return Finished.model_validate(fields)


@pytest.mark.parametrize(
    ("target", "sparsity", "warning"),
    [
        (0.95, 0.969, None),
        (0.95, 0.931, None),
        (0.95, 0.971, "97.1 % of the edges are removed; target_sparsity is 0.95"),
        (0.95, 0.5, "50.0 % of the edges are removed; target_sparsity is 0.95"),
        (1.1, 0.97, None),
    ],
)
def test_a_sparsity_far_from_the_one_that_was_aimed_at(
    target: float, sparsity: float, warning: str | None
) -> None:
    record = circuit("edge-pruning", {"target_sparsity": target}, sparsity, live=sparsity)
    assert warnings_of(record) == ([warning] if warning else [])


def test_a_circuit_without_a_live_edge() -> None:
    (warning,) = warnings_of(circuit("acdc", {"threshold": 0.1}, 0.9, live=1.0))
    assert warning.startswith("no edge is live: ")
    assert not warnings_of(circuit("acdc", {"threshold": 0.1}, 0.9, live=0.99))


@pytest.fixture
def model() -> MaskedTransformer:
    return toys.llama()


@pytest.mark.parametrize(("right", "warning"), [(3, False), (2, True), (0, True)])
def test_a_full_model_that_does_not_do_the_task(
    model: MaskedTransformer, right: int, warning: bool
) -> None:
    def answered(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        return (torch.arange(len(pairs)) < right).float().expand(len(logits), -1)

    metric = Metric("answered", answered, "higher", "right or not", right_above=0.5)
    pairs = toys.random_pairs(4)
    task = replace(toys.task(pairs), metrics={"kl": KL, "answered": metric})
    said = f"the full model is right on only {25 * right} % of the test prompts"
    assert warnings_about(model, task) == ([said] if warning else [])


def test_prompts_longer_than_those_that_the_model_was_trained_on(model: MaskedTransformer) -> None:
    task = toys.task()
    assert not warnings_about(model, task)
    longest = int(task.test.lengths.max())
    model.architecture.trained_positions = longest - 1
    (warning,) = warnings_about(model, task)
    assert warning == (f"prompts of up to {longest} tokens; the model was trained on {longest - 1}")


def test_they_are_said_in_the_run_and_in_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = TASKS["tracr-xproportion"]
    monkeypatch.setattr(program.load_model().architecture, "trained_positions", 3)
    cell = single_cell("acdc", "tracr-xproportion", model=None, seed=0, given={})
    (name, *_) = run_small([cell], tmp_path)
    warning = "prompts of up to 5 tokens; the model was trained on 3"
    assert f"{name}: {warning}" in caplog.messages
    (record,) = Store(tmp_path).finished()
    assert record.warnings == [warning]
    report(tmp_path)
    assert warning in (tmp_path / "tables" / "warnings.md").read_text()
