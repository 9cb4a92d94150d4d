"""How alike the circuits of several seeds are."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.record import Finished
from benchmarks.report.captions import captions
from benchmarks.report.figures.consistency import consistency
from benchmarks.report.repeats import chance_overlap
from benchmarks.report.report import report
from benchmarks.report.results import Results
from benchmarks.store import Store
from edgewise import Circuit
from tests.benchmarks.samples import GRAPH

FOUND = (["m1->out", "tok->m1"], ["m1->out", "tok->m1"], ["m1->out", "tok->m0", "m0->m1"])


@pytest.fixture
def folder(tmp_path: Path, add_cell: Callable[..., Finished]) -> Path:
    """Three seeds of one setting, two of another, and rankings, which are no circuits."""
    store = Store(tmp_path / "results")
    for seed, edges in enumerate(FOUND):
        add_cell("eap", {}, [5], [0.1], seed=seed)
        for threshold in (0.1, 0.2) if seed < 2 else (0.1,):
            settings = {"threshold": threshold}
            record = add_cell("acdc", settings, [len(edges)], [0.1], kind="circuit", seed=seed)
            store.write(record, Circuit(GRAPH.mask_of(edges), GRAPH))
    return tmp_path / "results"


@pytest.mark.slow
def test_overlap_and_sparsity_are_those_of_the_seeds_circuits(folder: Path) -> None:
    report(folder)
    with (folder / "tables" / "consistency.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["method"], line["setting"], line["seeds"]) == ("ACDC", "threshold=0.1", "3")
    assert float(line["overlap"]) == pytest.approx((1 + 1 / 4 + 1 / 4) / 3)
    assert (float(line["overlap low"]), float(line["overlap high"])) == (0.25, 1.0)
    assert float(line["sparsity low"]) == pytest.approx(1 - 3 / GRAPH.n_edges)
    assert float(line["sparsity high"]) == pytest.approx(1 - 2 / GRAPH.n_edges)
    chances = [chance_overlap(2, other, GRAPH.n_edges) for other in (2, 3, 3)]
    assert float(line["chance"]) == pytest.approx(sum(chances) / 3)


def test_chance_is_the_mean_overlap_of_random_circuits() -> None:
    generator = np.random.default_rng(0)
    one, other = (generator.random((4000, 20)).argsort(1) < size for size in (6, 9))
    overlaps = (one & other).sum(1) / (one | other).sum(1)
    error = overlaps.std() / len(overlaps) ** 0.5
    assert abs(chance_overlap(6, 9, 20) - overlaps.mean()) < 4 * error
    assert chance_overlap(20, 20, 20) == chance_overlap(0, 0, 20) == 1
    assert chance_overlap(0, 5, 20) == 0


def test_every_circuit_and_every_pair_is_in_the_histograms(folder: Path) -> None:
    results = Results(folder)
    (figure,) = consistency(results).values()
    sparsity, overlap = figure.subfigs[0].axes
    counts = [
        sum(bar.get_height() for bar in axes.patches)  # pyright: ignore[reportAttributeAccessIssue]
        for axes in (sparsity, overlap)
    ]
    assert counts == [3, 3]
    (caption,) = captions(results.panels)
    assert " ".join(figure.texts[0].get_text().split()) == caption


def test_two_seeds_are_too_few(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    for seed in (0, 1):
        add_cell("acdc", {"threshold": 0.1}, [5], [0.1], kind="circuit", seed=seed)
    _, written = report(tmp_path / "results")
    assert not any("consistency" in path.name for path in written)
