"""The minimal circuits of a model whose every input is known, by exact removal.

An edge goes if the model without it still reproduces its output on every prompt pair, whatever its
size on a loss; edges are tried in one order until none can go. What is left is minimal: no edge of
it can be removed alone. Where the order matters, several minimal circuits exist, so removal runs in
many orders at once, and all distinct results are given. Edges that are not live go untested, since
they change no logit. Cost: one masked pass over all prompts per edge and order, rarely more.
"""

from collections.abc import Callable

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
"""(the circuits' logits, the full model's) -> whether each circuit reproduces the model exactly."""

_PASS_BYTES = 2**24
"""About how large the writers' outputs of the circuits tested in one pass may become."""


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
    ablation, under which what is exact would depend on the set behind the mean.
    """
    if ablation == "mean":
        raise ValueError("ablation 'mean'; expected 'zero' or 'interchange'")
    graph = model.graph
    ablated = model.activations(pairs.corrupted) if ablation == "interchange" else None
    full = model(pairs.clean, targets=pairs.targets)
    element_bytes = full.element_size() * model.architecture.d_model
    per_circuit = pairs.clean.numel() * len(graph.writers) * element_bytes
    known: dict[bytes, bool] = {}

    def exact(circuits: Bool[Tensor, "circuit reader writer"]) -> Bool[Tensor, " circuit"]:
        keys = [circuit.numpy().tobytes() for circuit in circuits]
        new = {key: one for key, one in zip(keys, circuits, strict=True) if key not in known}
        if new:
            results = [
                reproduces(model(pairs.clean, some, ablated, pairs.targets), full)
                for some in torch.stack(list(new.values())).split(
                    max(1, _PASS_BYTES // per_circuit)
                )
            ]
            known.update(zip(new, torch.cat(results).tolist(), strict=True))
        return torch.tensor([known[key] for key in keys])

    orders = removal_orders(graph, random_orders, seed)
    circuits = graph.live(graph.legal, ablation).repeat(len(orders), 1, 1)
    assert exact(circuits).all(), "the live edges alone are the full model"
    while True:
        swept = _sweep(circuits, orders, graph, ablation, exact)
        if torch.equal(swept, circuits):
            return list(circuits.unique(dim=0))
        circuits = swept


def removal_orders(graph: Graph, random_orders: int, seed: int) -> Int[Tensor, "order edge"]:
    """All edges as flat indices: by reader and by writer, both ways, then in random orders."""
    by_reader = graph.legal.flatten().nonzero().flatten()
    by_writer = by_reader[torch.sort(by_reader % len(graph.writers), stable=True).indices]
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        by_reader[torch.randperm(len(by_reader), generator=generator)] for _ in range(random_orders)
    ]
    return torch.stack([by_reader, by_reader.flip(0), by_writer, by_writer.flip(0), *drawn])


def _sweep(
    circuits: Bool[Tensor, "order reader writer"],
    orders: Int[Tensor, "order edge"],
    graph: Graph,
    ablation: Ablation,
    exact: Callable[[Bool[Tensor, "circuit reader writer"]], Bool[Tensor, " circuit"]],
) -> Bool[Tensor, "order reader writer"]:
    """Try every edge once in each order; an edge goes where the circuit without it is exact."""
    rows = torch.arange(len(orders))
    for edges in orders.T:
        present = circuits.flatten(1)[rows, edges]
        if not present.any():
            continue
        smaller = circuits.clone()
        smaller.view(len(orders), -1)[rows, edges] = False
        smaller = graph.live(smaller, ablation)
        goes = torch.zeros_like(present)
        goes[present] = exact(smaller[present])
        circuits = torch.where(goes[:, None, None], smaller, circuits)
    return circuits
