"""How long one step of a method takes on GPT-2 small's shape, against large matrix products."""

import itertools
import time

import pytest
import torch

from benchmarks.speed.measuring import InTurns, Measure, products
from benchmarks.speed.random_models import gpt2_small, random_task
from edgewise.transformer import MaskedTransformer
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from methods.random import Random

PROMPTS, POSITIONS = 8, 16
OPERATIONS = 65e9
"""Of one training step on GPT-2 small with 8 prompts of 16 tokens."""


@pytest.fixture(scope="module")
def model() -> MaskedTransformer:
    return gpt2_small()


def test_a_step_of_edge_pruning_on_gpt2_small(in_turns: InTurns, model: MaskedTransformer) -> None:
    """What `discover` does in each step; full and corrupted runs are kept, as there."""
    task = random_task(model, prompts=PROMPTS, positions=POSITIONS)
    method = EdgePruning(batch_size=PROMPTS)
    training = method.training(model, task, torch.Generator().manual_seed(0))
    steps = itertools.count()
    in_turns(
        lambda: training.step(next(steps)),
        products(OPERATIONS),
        model,
        task.train.lengths,
        against="2048³ products, 65 GFLOP",
        method="edge-pruning",
    )


def test_a_step_with_a_mask_for_each_prompt(in_turns: InTurns, model: MaskedTransformer) -> None:
    """In turns with a step of the paper, one mask for all prompts: what pairing costs."""
    task = random_task(model, prompts=PROMPTS, positions=POSITIONS)
    steps = itertools.count()
    paired, shared = (
        EdgePruning(batch_size=PROMPTS, noise_samples=n_samples).training(
            model, task, torch.Generator().manual_seed(0)
        )
        for n_samples in (PROMPTS, 1)
    )

    def seconds_of_shared() -> float:
        start = time.perf_counter()
        shared.step(next(steps))
        return time.perf_counter() - start

    in_turns(
        lambda: paired.step(next(steps)),
        seconds_of_shared,
        model,
        task.train.lengths,
        against="a step with one mask for all prompts",
        method="edge-pruning",
    )


def test_a_batch_of_eap_on_gpt2_small(in_turns: InTurns, model: MaskedTransformer) -> None:
    """A whole discovery of one batch, the full and the corrupted run included."""
    task = random_task(model, prompts=PROMPTS, positions=POSITIONS)

    def discover() -> None:
        EAP().discover(model, task, generator=torch.Generator())

    before = model.flops
    discover()
    operations = model.flops - before
    in_turns(
        discover,
        products(operations),
        model,
        task.train.lengths,
        method="eap",
    )


def test_a_random_ranking_on_gpt2_small(measure: Measure, model: MaskedTransformer) -> None:
    """No pass at all, so that there are no products to compare with."""
    task = random_task(model, prompts=PROMPTS, positions=POSITIONS)
    measure(
        lambda: Random(draws=1).discover(model, task, generator=torch.Generator().manual_seed(0)),
        model,
        task.train.lengths,
        method="random",
    )
    assert measure.benchmark.extra_info["flops"] == 0
