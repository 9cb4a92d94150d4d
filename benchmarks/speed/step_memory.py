"""Peak memory of a step of Edge Pruning: measured in this process, and predicted.

`python -m benchmarks.speed.step_memory '{"layers": 2, ...}'` writes one line of JSON. Each model
needs a process of its own, because a process does not ask again for memory that it was given
before.
"""

import json
import sys
from dataclasses import dataclass

import click
import torch
from torch import Tensor

from benchmarks.speed.measuring import description, with_cost
from benchmarks.speed.random_models import random_gpt2, random_task
from edgewise.allocator import release_freed_memory
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning

STEPS = 2
STORES = 3
"""The writers' outputs, their gradients, and the ablated values of the batch."""


@dataclass(frozen=True)
class Size:
    """A model's shape and the batch of a step."""

    layers: int
    heads: int
    width: int
    prompts: int = 8
    positions: int = 16


def measured(size: Size) -> dict[str, object]:
    """The peak of two steps above what is held before: weights, references, log-alphas."""
    _run_steps(Size(1, 1, 16))  # what the process needs for its first step, whatever the size
    model, lengths, cost = _run_steps(size)
    return {
        **description(model, lengths, cost.pop("flops")),
        **cost,
        "writers": len(model.graph.writers),
        "store_bytes": store_bytes(model, size),
        "predicted_bytes": predicted_bytes(model, size),
    }


def _run_steps(size: Size) -> tuple[MaskedTransformer, Tensor, dict[str, int]]:
    model = random_gpt2(size.layers, size.heads, size.width)
    task = random_task(model, prompts=size.prompts, positions=size.positions)
    method = EdgePruning(batch_size=size.prompts)
    training = method.training(model, task, torch.Generator().manual_seed(0))
    release_freed_memory()
    _, cost = with_cost(lambda: [training.step(step) for step in range(STEPS)], model)
    return model, task.train.lengths, cost


def store_bytes(model: MaskedTransformer, size: Size) -> int:
    """Writers × tokens × d_model numbers."""
    tokens = size.prompts * size.positions
    return len(model.graph.writers) * tokens * size.width * model.dtype.itemsize


def predicted_bytes(model: MaskedTransformer, size: Size) -> int:
    """Stores, and what the backward pass keeps of readers, heads and MLPs.

    Of every reader, the input before and after its norm: as there are about three times as many
    readers as writers, this is the most of it, and grows with the tokens and d_model once, too. Of
    every layer, q, k, v and the heads' results, and the MLP's four times wider inner layer before
    and after its activation.
    """
    tokens = size.prompts * size.positions
    vectors = 2 * len(model.graph.readers) + (4 + 2 * 4) * size.layers
    return STORES * store_bytes(model, size) + vectors * tokens * size.width * model.dtype.itemsize


if __name__ == "__main__":
    click.echo(json.dumps(measured(Size(**json.loads(sys.argv[1])))))
