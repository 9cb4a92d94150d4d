"""Two layouts of the writers' store, and reads of few edges by products or one by one.

`token`: [token, writer, d_model], a product per token. `writer`: [writer, token · d_model], one
product in all. Timed are a block's read and the two products of its backward pass.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from benchmarks.speed.gpu.clock import median_seconds
from benchmarks.speed.gpu.parts import PRECISIONS, Measurement, Row, Setting
from edgewise.precision import products_in

SHAPES = {
    "gpt2, 32 prompts": (36, 80, 512, 768),
    "gpt2, 200 prompts": (36, 80, 3200, 768),
    "13b, 2 prompts": (120, 800, 144, 5120),
}
"""Readers, writers, tokens, d_model."""
TOY = {"toy": (3, 4, 5, 8)}
EDGES_PER_READER = (1, 2, 4, 8)


def measurements(setting: Setting) -> list[Measurement]:
    shapes = TOY if setting.toy else SHAPES
    named = [
        (f"{name}, {precision}", partial(_both, shape, precision, setting.device))
        for name, shape in shapes.items()
        for precision in PRECISIONS
    ]
    gathered = [
        (f"gathered, {name}", partial(_gathered, shape, setting.device))
        for name, shape in shapes.items()
    ]
    return [*named, *gathered]


def _both(shape: tuple[int, int, int, int], precision: str, device: torch.device) -> Row:
    readers, writers, tokens, width = shape
    row: Row = {"gflop": 2e-9 * readers * writers * tokens * width}
    with products_in(precision) as dtype:
        mask = torch.rand(readers, writers, device=device).to(dtype)
        store = torch.randn(tokens, writers, width, device=device).to(dtype)
        above = torch.randn(tokens, readers, width, device=device).to(dtype)
        flat_store = store.transpose(0, 1).reshape(writers, -1)
        flat_above = above.transpose(0, 1).reshape(readers, -1)
        by_token = mask.expand(tokens, -1, -1)
        gradient, flat_gradient = torch.zeros_like(store), torch.zeros_like(flat_store)
        functions = {
            "token, read": lambda: torch.bmm(by_token, store),
            "writer, read": lambda: mask @ flat_store,
            "token, to writers": lambda: gradient.baddbmm_(by_token.transpose(1, 2), above),
            "writer, to writers": lambda: flat_gradient.addmm_(mask.T, flat_above),
            "token, to mask": lambda: torch.bmm(above, store.transpose(1, 2)).sum(0),
            "writer, to mask": lambda: flat_above @ flat_store.T,
        }
        for name, function in functions.items():
            row[f"{name}, microseconds"] = 1e6 * median_seconds(function, device, rounds=20)
    return row


def _gathered(shape: tuple[int, int, int, int], device: torch.device) -> Row:
    """A dense read in float32, and gathers of a few edges of each reader."""
    readers, writers, tokens, width = shape
    with products_in("float32"):
        mask = torch.rand(readers, writers, device=device)
        store = torch.randn(tokens, writers, width, device=device)
        product = median_seconds(
            lambda: torch.bmm(mask.expand(tokens, -1, -1), store), device, rounds=20
        )
        row: Row = {"product, microseconds": 1e6 * product}
        for count in EDGES_PER_READER:
            taken = median_seconds(partial(_bag, store, readers, count), device, rounds=20)
            row[f"{count} edges a reader, microseconds"] = 1e6 * taken
            row[f"{count} edges a reader, products an edge"] = taken / product * writers / count
    return row


def _bag(store: Tensor, readers: int, count: int) -> Tensor:
    tokens, writers, width = store.shape
    source = torch.arange(readers * count, device=store.device) % writers
    index = (torch.arange(tokens, device=store.device)[:, None] * writers + source).flatten()
    starts = torch.arange(0, len(index) + 1, count, device=store.device)
    weights = torch.ones(len(index), device=store.device)
    return embedding_bag(
        index,
        store.view(-1, width),
        starts,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )
