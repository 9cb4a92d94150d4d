"""A curve of ten circuits, evaluated at once: against its own products, and Hugging Face's passes.

The circuits are cuts of one Random ranking at 90 to 99.9 % sparsity: made of whole paths, so that
little of them is dead. GPT-2 small's shape.
"""

import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.speed.measuring import InTurns, products
from benchmarks.speed.random_models import random_circuits, random_task
from edgewise import flops
from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

PROMPTS, POSITIONS = 8, 16


@dataclass(frozen=True)
class Curve:
    """The circuits, what they are evaluated on, and Hugging Face's own model."""

    model: MaskedTransformer
    hugging_face: Any
    task: Task
    circuits: list[Circuit]

    def evaluate(self) -> None:
        evaluate(
            self.model,
            self.task.test,
            self.circuits,
            metrics=self.task.metrics,
            ablation=self.task.ablation,
        )


@pytest.fixture(scope="module")
def curve() -> Curve:
    torch.manual_seed(0)
    hugging_face = GPT2LMHeadModel(GPT2Config())
    model = MaskedTransformer(hugging_face)
    task = random_task(model, prompts=PROMPTS, positions=POSITIONS)
    return Curve(model, hugging_face, task, random_circuits(model, task))


def test_a_curve_against_the_products_of_its_live_parts(in_turns: InTurns, curve: Curve) -> None:
    """Live components and reads of live edges, and the full and the corrupted run once."""
    operations = 2 * curve.model.forward_flops(curve.task.test.lengths)
    operations += sum(live_flops(curve.model, curve.task, circuit) for circuit in curve.circuits)
    in_turns(
        curve.evaluate,
        products(operations),
        curve.model,
        curve.task.test.lengths,
        against="2048³ products of its live parts",
        live_gflop=operations / 1e9,
    )


def test_a_curve_against_ten_passes_of_hugging_face(in_turns: InTurns, curve: Curve) -> None:
    """As many forward passes over the clean prompts as there are circuits."""
    tokens = curve.task.test.clean

    @torch.no_grad()
    def passes() -> float:
        start = time.perf_counter()
        for _ in curve.circuits:
            curve.hugging_face(tokens, use_cache=False)
        return time.perf_counter() - start

    in_turns(
        curve.evaluate,
        passes,
        curve.model,
        curve.task.test.lengths,
        against="ten Hugging Face passes",
    )


def live_flops(model: MaskedTransformer, task: Task, circuit: Circuit) -> int:
    """Operations of a circuit's live components, and of reading its live edges one by one."""
    architecture = model.architecture
    prompts, positions = task.test.clean.shape
    n_targets = task.test.targets.numel()
    live = model.graph.live(circuit.mask, task.ablation)
    read_vectors = prompts * positions * int(live[:-1].sum()) + n_targets * int(live[-1].sum())
    total = 2 * architecture.d_model * read_vectors
    for block in model.graph.blocks[:-1]:
        n_live = int(live[:, block.writers].any(0).sum())
        if n_live:
            total += flops.block_flops(
                architecture, block, prompts, positions, n_heads=n_live, n_kv=n_live
            )
    return total + flops.block_flops(architecture, model.graph.blocks[-1], 1, n_targets)
