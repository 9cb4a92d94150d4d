"""Recovered against true circuits: which is each method's best, and what is drawn of it."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.record import Finished
from benchmarks.report.captions import captions
from benchmarks.report.figures.recovered import recoveries, recovery_figure
from benchmarks.report.panels import load_panels
from benchmarks.report.report import report
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores
from edgewise.evaluate import compare_with_truth
from tests.benchmarks.samples import GRAPH, edited

TRUTH = ["tok->m0", "m0->a1.h0.k", "a1.h0->m1", "m1->out"]
OTHER = ["tok->m0", "m0->out"]
TRUTHS = [GRAPH.mask_of(TRUTH), GRAPH.mask_of(OTHER)]
FOUND = {0.1: TRUTH[1:], 0.2: TRUTH, 0.3: ["tok->m0"]}


@pytest.fixture
def folder(
    tmp_path: Path, add_cell: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """ACDC recovers one of two true circuits with one threshold; EAP gets an edge wrong."""
    store = Store(tmp_path / "results")
    known = {"kind": "circuit", "task": "tracr-one", "true_circuits": [4, 2]}

    def add(
        method: str, settings: dict[str, Any], circuit: Circuit, found: Circuit | EdgeScores
    ) -> None:
        kind = "circuit" if isinstance(found, Circuit) else "scores"
        changes = {**known, "kind": kind}
        record = add_cell(method, settings, [circuit.n_edges], [0.1], **changes)

        def edit(fields: dict[str, Any]) -> None:
            fields["definition"]["weights"] = "abc"
            fields["rows"][0]["truth"] = dict(compare_with_truth(circuit, TRUTHS))

        store.write(edited(record, edit), found)

    for threshold, edges in FOUND.items():
        circuit = Circuit(GRAPH.mask_of(edges), GRAPH)
        add("acdc", {"threshold": threshold}, circuit, circuit)
    ranked = GRAPH.mask_of([*TRUTH[1:], "tok->m1"])
    scores = EdgeScores(ranked.float(), GRAPH)
    add("eap", {}, scores.circuit(4), scores)
    known_truths = {"tracr-one": TRUTHS}
    monkeypatch.setattr(
        "benchmarks.report.figures.recovered.known_truths",
        lambda task, ablation, weights: known_truths[task] if weights == "abc" else [],
    )
    return tmp_path / "results"


@pytest.mark.slow
def test_the_table_says_of_each_method_what_its_best_circuit_has_wrong(folder: Path) -> None:
    report(folder)
    with (folder / "tables" / "recovered.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["task"], line["true edges"]) == ("tracr-one", "2 or 4")
    assert (line["ACDC"], line["EAP"]) == ("exact", "1 missing, 1 extra")
    assert "chosen by the truth" in (folder / "tables" / "recovered.md").read_text()


def test_the_figure_has_the_truth_and_every_methods_best_edge_by_edge(folder: Path) -> None:
    panels, _ = load_panels(folder)
    (recovery,) = recoveries(panels, Store(folder))
    figure = recovery_figure(recovery)
    drawn = [{patch.get_gid() for patch in axes.patches} for axes in figure.axes]
    edges = [{name for name in names if name and "->" in name} for names in drawn]
    assert edges == [set(TRUTH), {*TRUTH, "tok->m1"}, set(TRUTH)]
    texts = [" ".join(text.get_text().split()) for text in figure.texts]
    assert texts[:3] == [
        "true circuit: 4 edges",
        "EAP: 1 missing, 1 extra",
        "ACDC, threshold=0.2: exact",
    ]
    assert texts[3].startswith(captions(panels)[0])


def test_the_drawings_lie_within_the_figure_and_do_not_overlap(folder: Path) -> None:
    panels, _ = load_panels(folder)
    (recovery,) = recoveries(panels, Store(folder))
    boxes = [axes.get_position() for axes in recovery_figure(recovery).axes]
    for place, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= 1 + 1e-9 and 0 < box.y0 < box.y1 < 1
        for other in boxes[:place]:
            apart = torch.tensor([box.x0 - other.x1, other.x0 - box.x1, other.y0 - box.y1])
            assert float(apart.max()) >= -1e-9


@pytest.mark.slow
def test_results_of_another_program_are_not_drawn(folder: Path) -> None:
    store = Store(folder)
    for record in store.finished():
        store.write(edited(record, lambda f: f["definition"].update(weights="another hash")))
    _, written = report(folder)
    names = {path.name for path in written}
    assert "recovered.md" in names and "recovered-tracr-one.png" not in names
