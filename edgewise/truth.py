"""Minimal circuits of a model whose possible inputs are all known, found by removing edges exactly.

An edge is removed if the model without it still reproduces its output on every prompt pair,
whatever its effect on a loss. Edges are tried in one order until none can be removed. What is left
is minimal: no edge of it can be removed alone. If the order matters, there are several minimal
circuits, so removal runs in many orders at once, and all distinct results are given. Edges that are
not live are removed untested, since they change no logit.

Two shortcuts do not change this: several edges are removed at once where possible; and removal uses
a sample of the pairs, which grows until the result holds on all pairs.

Cost: per order about five masked passes over the sample for each edge that stays, and one for every
eight edges that are removed.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.graph import Ablation, Graph
from edgewise.prompts import PromptPairs
from edgewise.transformer import MaskedTransformer

Criterion = Callable[
    [Float[Tensor, "circuit batch target vocab"], Float[Tensor, "batch target vocab"]],
    Bool[Tensor, " circuit"],
]
"""(the circuits' logits, the full model's) -> whether each circuit reproduces the model exactly.

Holds on all pairs if it holds on each part of them.
"""

_PASS_BYTES = 2**24
"""About how large the writers' outputs of the circuits tested in one pass may become."""
_SAMPLE = 16
"""The number of pairs in the first sample, and in each part by which it grows."""
_RUN = 8
"""Edges tried at once; compiled programs need about one in eight."""


def same_choice(
    logits: Float[Tensor, "circuit batch target vocab"], full: Float[Tensor, "batch target vocab"]
) -> Bool[Tensor, " circuit"]:
    """The likeliest value is the full model's, at every target of every prompt."""
    return (logits.argmax(-1) == full.argmax(-1)).flatten(1).all(1)


def within(tolerance: float) -> Criterion:
    """Every output lies closer than `tolerance` to the full model's."""

    def same_value(
        logits: Float[Tensor, "circuit batch target vocab"],
        full: Float[Tensor, "batch target vocab"],
    ) -> Bool[Tensor, " circuit"]:
        return ((logits - full).abs() < tolerance).flatten(1).all(1)

    return same_value


@torch.no_grad()
def minimal_circuits(
    model: MaskedTransformer,
    pairs: PromptPairs,
    reproduces: Criterion,
    *,
    ablation: Ablation,
    random_orders: int = 20,
    seed: int = 0,
) -> list[Bool[Tensor, "reader writer"]]:
    """All distinct minimal circuits found in `random_orders` random and four systematic orders.

    `pairs` have equal lengths. Under interchange a circuit must hold for each pair, so several
    corrupted twins of a prompt keep a circuit from holding by accident. Raises ValueError for mean
    ablation, since exactness would then depend on the prompts over which the mean is taken.
    """
    if ablation == "mean":
        raise ValueError("ablation 'mean'; expected 'zero' or 'interchange'")
    graph = model.graph
    generator = torch.Generator().manual_seed(seed)
    pairs = pairs[torch.randperm(len(pairs), generator=generator).to(pairs.clean.device)]
    ablated = model.activations(pairs.corrupted) if ablation == "interchange" else None
    full = model(pairs.clean, targets=pairs.targets)
    per_token = len(graph.writers) * model.architecture.d_model * full.element_size()

    def exact(
        circuits: Bool[Tensor, "circuit reader writer"], part: Int[Tensor, " pair"]
    ) -> Bool[Tensor, " circuit"]:
        part = part.to(full.device)
        clean, targets, expected = pairs.clean[part], pairs.targets[part], full[part]
        twins = None if ablated is None else ablated[part]
        at_once = max(1, _PASS_BYTES // (clean.numel() * per_token))
        return torch.cat(
            [
                reproduces(model(clean, some, twins, targets), expected).cpu()
                for some in circuits.split(at_once)
            ]
        )

    orders = removal_orders(graph, random_orders, seed)
    live = graph.live(graph.legal, ablation)
    parts = torch.arange(len(pairs)).split(_SAMPLE)
    assert all(exact(live[None], part) for part in parts), "the live edges are the full model"
    sample = parts[:1]
    while True:
        on_sample = partial(exact, part=torch.cat(sample))
        circuits = _remove(live, orders, graph, ablation, on_sample).unique(dim=0)
        wrong = [part for part in parts if not exact(circuits, part).all()]
        if not wrong:
            return list(circuits)
        sample += tuple(wrong[: len(sample)])


def removal_orders(graph: Graph, random_orders: int, seed: int) -> Int[Tensor, "order edge"]:
    """All edges as flat indices: by reader and by writer, both ways, then in random orders."""
    by_reader = graph.legal.flatten().nonzero().flatten()
    by_writer = by_reader[torch.sort(by_reader % len(graph.writers), stable=True).indices]
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        by_reader[torch.randperm(len(by_reader), generator=generator)] for _ in range(random_orders)
    ]
    return torch.stack([by_reader, by_reader.flip(0), by_writer, by_writer.flip(0), *drawn])


def _remove(
    live: Bool[Tensor, "reader writer"],
    orders: Int[Tensor, "order edge"],
    graph: Graph,
    ablation: Ablation,
    exact: Callable[[Bool[Tensor, "circuit reader writer"]], Bool[Tensor, " circuit"]],
) -> Bool[Tensor, "order reader writer"]:
    """What is left in each order when no single edge can be removed."""
    known: dict[bytes, bool] = {}

    def remembered(circuits: Bool[Tensor, "circuit reader writer"]) -> Bool[Tensor, " circuit"]:
        keys = [circuit.numpy().tobytes() for circuit in circuits]
        new = {key: one for key, one in zip(keys, circuits, strict=True) if key not in known}
        if new:
            known.update(zip(new, exact(torch.stack(list(new.values()))).tolist(), strict=True))
        return torch.tensor([known[key] for key in keys])

    circuits = _sweep(live.repeat(len(orders), 1, 1), orders, graph, ablation, remembered, _RUN)
    while True:
        swept = _sweep(circuits, orders, graph, ablation, remembered, 1)
        if torch.equal(swept, circuits):
            return circuits
        circuits = swept


def _sweep(
    circuits: Bool[Tensor, "order reader writer"],
    orders: Int[Tensor, "order edge"],
    graph: Graph,
    ablation: Ablation,
    exact: Callable[[Bool[Tensor, "circuit reader writer"]], Bool[Tensor, " circuit"]],
    run: int,
) -> Bool[Tensor, "order reader writer"]:
    """Try every edge once in each order, `run` edges at a time; remove those that are not needed.

    If a group cannot be removed, try its first half, down to single edges, which stay if needed.
    """
    place = torch.arange(orders.shape[1])
    start = torch.zeros(len(orders), 1, dtype=torch.long)
    # The number of edges ahead that were tried together and could not be removed.
    doubtful = torch.zeros_like(start)
    while True:
        present = circuits.flatten(1).gather(1, orders)
        ahead = present & (place >= start)
        size = torch.where(doubtful > 0, (doubtful // 2).clamp(min=1), run)
        tried = ahead & (ahead.cumsum(1) <= size)
        count = tried.sum(1, keepdim=True)
        if not count.any():
            return circuits
        smaller = circuits.flatten(1).scatter(1, orders, present & ~tried).view_as(circuits)
        smaller = graph.live(smaller, ablation)
        busy = count.squeeze(1) > 0
        goes = torch.zeros_like(busy)
        goes[busy] = exact(smaller[busy])
        circuits = torch.where(goes[:, None, None], smaller, circuits)
        past = goes[:, None] | (count == 1)
        start = torch.where(past, (tried * (place + 1)).amax(1, keepdim=True), start)
        doubtful = torch.where(past, (doubtful - count).clamp(min=0), count)
