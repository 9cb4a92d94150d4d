"""What the page's explorer lists: the edges of the circuits that the tables evaluate."""

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.record import Finished
from benchmarks.report.page.circuits import STRONGEST, explored
from benchmarks.report.results import Results
from benchmarks.store import Store
from edgewise import EdgeScores
from edgewise.circuit import Cut
from tests.benchmarks.samples import GRAPH, N_PROMPTS

VALUES = torch.rand(GRAPH.legal.shape, generator=torch.Generator().manual_seed(0))


def shown_at(size: int, folder: Path) -> list[list[int]]:
    """The edges that the slider shows at a size, of all circuits and rankings."""
    (graph,) = explored(Results(folder))
    return [
        one["e"][:size] if one["n"] else one["e"]
        for one in graph.circuits
        if one["least"] <= size <= one["most"]
    ]


def ranked(
    add_cell: Callable[..., Finished], folder: Path, cut: Cut, sizes: list[int]
) -> tuple[EdgeScores, list[int]]:
    """A ranking, stored with the sizes that it reaches."""
    scores = EdgeScores(VALUES, GRAPH, selection=cut)
    sizes = sorted({scores.circuit(size).n_edges for size in sizes}, reverse=True)
    record = add_cell("eap", {"selection": f"{cut}-absolute"}, sizes, [0.1] * len(sizes))
    Store(folder).write(record, scores, torch.zeros(len(sizes), N_PROMPTS))
    return scores, sizes


def edges_of(scores: EdgeScores, size: int) -> set[int]:
    return set(scores.circuit(size).mask.flatten().nonzero().flatten().tolist())


def test_a_connected_ranking_shows_the_circuits_that_were_evaluated(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    folder = tmp_path / "results"
    scores, sizes = ranked(add_cell, folder, "connected", [40, 20, 9, 4, 3])
    for size in sizes:
        (edges,) = shown_at(size, folder)
        assert set(edges) == edges_of(scores, size)
        strengths = scores.values.flatten()[edges]
        assert torch.equal(strengths, strengths.sort(descending=True).values), "best first"
    assert set(scores.ranking()[:9].tolist()) != edges_of(scores, 9), "dead ends are left out"
    (between,) = shown_at(sizes[0] - 1, folder)
    assert set(between) == edges_of(scores, sizes[1]), "the next smaller one"
    assert shown_at(1, folder) == shown_at(sizes[-1], folder), "or the smallest"
    assert shown_at(STRONGEST, folder) == shown_at(sizes[0], folder)


def test_another_ranking_shows_its_best_edges_at_any_size(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    folder = tmp_path / "results"
    for cut in ("top", "greedy"):
        scores, _ = ranked(add_cell, folder, cut, [40, 9])
        (edges,) = shown_at(7, folder)
        assert edges == scores.ranking()[:7].tolist()
        (folder / "cells" / f"ioi-eap-{cut}-absolute-0.json").unlink()
