"""Peak memory of a step of Edge Pruning: measured in this process, and predicted.

`python -m benchmarks.step_memory '{"layers": 2, ...}'` writes a line of JSON: memory that a process
was given before is not asked for again, so that each model needs one of its own.
"""

import json
import sys
from dataclasses import dataclass

import click
import torch

from benchmarks.measuring import description, settle, with_cost
from benchmarks.random_models import random_gpt2, random_task
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning, Training

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
    model = random_gpt2(size.layers, size.heads, size.width)
    task = random_task(model, prompts=size.prompts, positions=size.positions)
    method = EdgePruning(batch_size=size.prompts)
    training = Training(method, model, task, torch.Generator().manual_seed(0))
    settle()
    _, cost = with_cost(lambda: [training.step(step) for step in range(STEPS)], model)
    return {
        **description(model, task.train.lengths, cost.pop("flops")),
        **cost,
        "writers": len(model.graph.writers),
        "store_bytes": store_bytes(model, size),
        "predicted_bytes": predicted_bytes(model, size),
    }


def store_bytes(model: MaskedTransformer, size: Size) -> int:
    """Writers × tokens × d_model numbers."""
    tokens = size.prompts * size.positions
    return len(model.graph.writers) * tokens * size.width * model.dtype.itemsize


def predicted_bytes(model: MaskedTransformer, size: Size) -> int:
    """Stores, and what the backward pass keeps of every reader's input before and after its norm.

    Two inputs per reader, of which there are about three times as many as writers, are the most of
    it; both grow with the tokens and d_model once.
    """
    tokens = size.prompts * size.positions
    kept = 2 * len(model.graph.readers) * tokens * size.width * model.dtype.itemsize
    return STORES * store_bytes(model, size) + kept


if __name__ == "__main__":
    click.echo(json.dumps(measured(Size(**json.loads(sys.argv[1])))))
