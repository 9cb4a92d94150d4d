"""Circuits that one setting of a method found with different seeds, and how far they overlap.

The overlap of two circuits is the number of edges in both over the number in either. Chance is its
expectation for random circuits of the same sizes: of E edges, two circuits of k1 and k2 have a
hypergeometric number in common, k1·k2/E on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Bool
from scipy.stats import hypergeom
from torch import Tensor

from benchmarks.report.panels import Panel, grouped
from benchmarks.store import Store
from edgewise import Circuit

LEAST_SEEDS = 3


@dataclass(frozen=True, eq=False)
class Repeats:
    """The circuits of one setting, one per seed; overlap and chance are per pair of them."""

    panel: Panel
    method: str
    setting: str
    sparsities: Sequence[float]
    overlaps: Sequence[float]
    chances: Sequence[float]


def repeats(panels: Sequence[Panel], store: Store) -> list[Repeats]:
    """Every setting that found circuits with enough seeds."""
    found: list[Repeats] = []
    for panel in panels:
        rows = [row for row in panel.rows if row.is_found]
        by_setting = grouped(rows, lambda row: (row.method, row.setting))
        for (method, setting), group in by_setting.items():
            if len({row.seed for row in group}) < LEAST_SEEDS:
                continue
            circuits = [store.discovery(row.cell) for row in group]
            masks = [circuit.mask for circuit in circuits if isinstance(circuit, Circuit)]
            assert len(masks) == len(group), "rows of circuits have circuits"
            overlaps, chances = [], []
            for first, second in combinations(masks, 2):
                overlaps.append(overlap(first, second))
                sizes = int(first.sum()), int(second.sum())
                chances.append(chance_overlap(*sizes, panel.n_edges))
            sparsities = [row.sparsity for row in group]
            found.append(Repeats(panel, method, setting, sparsities, overlaps, chances))
    return found


def overlap(one: Bool[Tensor, "reader writer"], other: Bool[Tensor, "reader writer"]) -> float:
    """The edges in both circuits over those in either; 1 for two empty ones."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


@cache
def chance_overlap(one: int, other: int, n_edges: int) -> float:
    """The expected overlap of two random circuits of these sizes in a graph of `n_edges`."""
    if one == other == 0:
        return 1.0
    shared = np.arange(max(0, one + other - n_edges), min(one, other) + 1)
    likely = hypergeom.pmf(shared, n_edges, one, other)
    return float((likely * shared / (one + other - shared)).sum())
