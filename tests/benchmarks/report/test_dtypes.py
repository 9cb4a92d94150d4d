"""How far results in another dtype agree with those in float32."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.record import Finished
from benchmarks.report.report import report
from benchmarks.report.results import Results
from benchmarks.report.tables.dtypes import dtypes
from benchmarks.report.tables.warnings import UNCLEAR, warnings
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores
from tests.benchmarks.samples import GRAPH, edited

FOUND = {
    "float32": ["m1->out", "tok->m1", "tok->m0"],
    "bfloat16": ["m1->out", "tok->m1", "pos->m1", "m0->m1"],
}


def add_both(
    add_cell: Callable[..., Finished],
    store: Store,
    method: str,
    found: dict[str, Any],
    **given: Any,
) -> None:
    """One cell in each dtype, the second with twice the KL divergence of the first."""
    settings = {"threshold": 0.1} if method == "acdc" else {}
    record = add_cell(method, settings, kl=[0.25] * len(given["sizes"]), **given)
    store.write(record, found["float32"])

    def other(fields: dict[str, Any]) -> None:
        fields |= {"name": f"{record.name}-bfloat16", "dtype": "bfloat16"}
        fields["definition"] |= {"dtype": "bfloat16", "weights": "another hash"}
        for row in fields["rows"]:
            row["metrics"]["kl"] = 0.5
            row["intervals"]["kl"] = [0.4, 0.6]

    store.write(edited(record, other), found["bfloat16"], store.prompts(record.name))


@pytest.fixture
def lines(tmp_path: Path, add_cell: Callable[..., Finished]) -> list[dict[str, str]]:
    """A circuit and a ranking in two dtypes, and one in bfloat16 alone."""
    folder = tmp_path / "results"
    store = Store(folder)
    circuits = {name: Circuit(GRAPH.mask_of(edges), GRAPH) for name, edges in FOUND.items()}
    add_both(add_cell, store, "acdc", circuits, sizes=[3], kind="circuit")
    values = torch.arange(float(GRAPH.legal.numel())).view_as(GRAPH.legal)
    rankings = {"float32": EdgeScores(values, GRAPH), "bfloat16": EdgeScores(-values, GRAPH)}
    add_both(add_cell, store, "eap", rankings, sizes=[GRAPH.n_edges, 1])
    add_cell("random", {}, [3], [0.5], dtype="bfloat16")
    shown, _ = report(folder)
    assert any("rank correlation" in table for table in shown)
    with (folder / "tables" / "dtypes.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_each_cell_is_compared_with_the_same_in_float32(lines: list[dict[str, str]]) -> None:
    assert [(line["method"], line["dtype"]) for line in lines] == [
        ("EAP", "bfloat16"),
        ("ACDC", "bfloat16"),
    ]
    for line in lines:
        assert (float(line["mean"]), float(line["mean in float32"])) == (0.5, 0.25)
        assert line["metric"] == "kl"


@pytest.mark.slow
def test_of_circuits_the_edges_in_both_are_counted(lines: list[dict[str, str]]) -> None:
    line = lines[1]
    assert float(line["overlap"]) == pytest.approx(2 / 5)
    assert line["rank correlation"] == ""


@pytest.mark.slow
def test_of_rankings_every_cut_and_the_whole_order_are_compared(
    lines: list[dict[str, str]],
) -> None:
    line = lines[0]
    assert line["circuits"] == "2"
    assert float(line["overlap"]) == pytest.approx((1 + 0) / 2)
    assert float(line["rank correlation"]) == pytest.approx(-1)


def test_without_a_second_dtype_there_is_no_table(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("eap", {}, [3], [0.5])
    _, written = report(tmp_path / "results")
    assert not any("dtypes" in path.name for path in written)


def test_models_of_one_name_and_different_weights_are_not_compared_and_that_is_said(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    store = Store(tmp_path / "results")
    values = torch.arange(float(GRAPH.legal.numel())).view_as(GRAPH.legal)
    found = dict.fromkeys(FOUND, EdgeScores(values, GRAPH))
    add_both(add_cell, store, "eap", found, sizes=[3])
    results = Results(store.folder)
    assert len(dtypes(results)) == 1 and not warnings(results)
    retrained = add_cell("gim", {}, [3], [0.5])
    retrained = edited(retrained, lambda own: own["definition"].update(weights="trained again"))
    store.write(retrained, found["float32"], store.prompts(retrained.name))
    results = Results(store.folder)
    assert not dtypes(results)
    (line,) = warnings(results)
    assert line["cell"] == "ioi-eap-0-bfloat16" and line["warning"] == UNCLEAR
