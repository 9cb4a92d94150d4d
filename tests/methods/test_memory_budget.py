"""Under any budget of memory the same is found."""

import logging
from typing import Any

import pytest
import torch
from torch import Generator

from benchmarks.grid.suite import single_cell
from benchmarks.run import environment
from benchmarks.run.environment import bytes_of, memory_budget
from benchmarks.run.items import Options
from benchmarks.run.loading import Loader
from edgewise.attribution import PromptBatch, PromptScores
from edgewise.batches import MARGIN, Batches
from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.memory import trace_bytes
from edgewise.method import Method
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.edge_pruning import EdgePruning
from tests.methods import toys

TRAINING = EdgePruning(
    steps=30, warmup_steps=3, target_warmup_steps=20, target_sparsity=0.7, batch_size=5
)
CPU = torch.device("cpu")


def found(method: Method, memory: int | None) -> tuple[Any, torch.Tensor]:
    """What the method finds within the budget, and its circuit of 40 edges evaluated within it."""
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(7))
    model.memory_bytes = memory
    result: Any = method.discover(model, task, generator=Generator().manual_seed(0))
    circuit = result if isinstance(result, Circuit) else result.circuit(40)
    options: Any = {"metrics": task.metrics, "ablation": task.ablation}
    return result, evaluate(model, task.test, [circuit], **options)["kl"]


@pytest.mark.parametrize("method", [EAP(), EAPIG(steps=2), TRAINING], ids=lambda m: m.name)
def test_a_small_and_a_large_budget_find_the_same(method: Method, unchecked: None) -> None:
    (small, small_kl), (large, large_kl), (default, _) = (
        found(method, memory) for memory in (60_000, 8 * 10**9, None)
    )
    torch.testing.assert_close(small_kl, large_kl, rtol=0, atol=1e-5)
    for result in (small, default):
        if isinstance(large, Circuit):
            assert torch.equal(result.mask, large.mask)
        else:
            torch.testing.assert_close(result.values, large.values, rtol=0, atol=1e-5)
            assert torch.equal(result.circuit(40).mask, large.circuit(40).mask)


def test_a_budget_sizes_batches_by_all_that_a_pass_takes() -> None:
    model, pairs = toys.gpt2(torch.float32), toys.random_pairs(7)
    needed = trace_bytes(model)
    for tokens in (9, 17, 4096):
        model.memory_bytes = round(MARGIN * (tokens + 0.5) * needed)
        batches = Batches(model, pairs, "interchange", budget_bytes=0, pass_bytes=needed)
        assert batches.batch_tokens == tokens
    kept = Batches(model, pairs, "interchange", pass_bytes=needed)
    model.memory_bytes = 12 * needed
    fewer = Batches(model, pairs, "interchange", pass_bytes=needed)
    assert fewer.n_kept < kept.n_kept == len(pairs), "at most half of it is kept"
    assert 4 <= fewer.batch_tokens < 10


class Scarce(EAP):
    """Prompts beyond this number do not fit."""

    most = 2

    def scores(self, batch: PromptBatch) -> PromptScores:
        if len(batch.pairs) > self.most:
            raise torch.OutOfMemoryError("no room")
        return super().scores(batch)


def test_out_of_memory_halves_the_batches_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, task = toys.gpt2(), toys.task(toys.random_pairs(4))
    with caplog.at_level(logging.WARNING):
        scarce = Scarce().discover(model, task, generator=Generator())
    assert [record.getMessage() for record in caplog.records] == [
        "eap: out of memory; batches are halved from here on"
    ]
    enough = EAP().discover(model, task, generator=Generator())
    torch.testing.assert_close(scarce.values, enough.values)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        Scarce().discover(model, toys.task(toys.random_pairs(6)), generator=Generator())


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), (" 1.5GB", 15 * 10**8)]
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["4", "GB", "4 TB", "-4GB", "0GB", "0.1MB", "4GiB", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"memory '{text}'; expected a size of at least 1 MB"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("asked", "free", "jobs", "budget"),
    [
        (4 * 10**9, 5 * 10**9, 1, 4 * 10**9),
        (4 * 10**9, 10**9, 1, 8 * 10**8),
        (4 * 10**9, 5 * 10**9, 2, 2 * 10**9),
        (None, 5 * 10**9, 1, None),
        (None, 10**9, 1, 8 * 10**8),
        (4 * 10**9, None, 1, 4 * 10**9),
    ],
)
def test_too_little_free_memory_lowers_the_budget_with_a_warning(
    asked: int | None,
    free: int | None,
    jobs: int,
    budget: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(environment, "free_memory", lambda device: free)
    with caplog.at_level(logging.WARNING):
        assert memory_budget(asked, CPU, jobs) == budget
    assert len(caplog.records) == (budget != asked)


def test_a_run_sets_the_budget_of_its_models_and_a_check_sets_none() -> None:
    bench = single_cell("eap", "ioi-t1", model=None, seed=0, given={}).bench
    assert Options(CPU, memory_bytes=5 * 10**6).loader.model(bench).memory_bytes == 5 * 10**6
    assert Loader(CPU).model(bench).memory_bytes is None


def test_the_free_memory_of_this_machine_is_known() -> None:
    free = environment.free_memory(CPU)
    assert free is not None and free > 0
