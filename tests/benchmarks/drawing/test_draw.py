"""Drawings of circuits: what is in them, where it stands, and what cannot be drawn."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from benchmarks.cli import main
from benchmarks.drawing.circuits import Edge, circuit_figure, drawn_edges, node_rows
from benchmarks.drawing.draw import draw
from benchmarks.drawing.layers import crossings, layout
from benchmarks.record import Finished
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores, Graph
from tasks import TASKS
from tests.benchmarks.samples import GRAPH

EDGES = ["tok->a0.h1.v", "tok->m0", "a0.h1->a1.h0.q", "m0->a1.h0.k", "a1.h0->m1", "m1->out"]
DEAD = ["tok->a0.h0.q", "pos->m1"]
"""Edges that lead nowhere, or from an embedding that is the same in both prompts."""


def circuit(edges: list[str], graph: Graph = GRAPH) -> Circuit:
    return Circuit(graph.mask_of(edges), graph)


def lines_of(circuit: Circuit, truth: Tensor | None = None) -> dict[str, tuple[Any, Any]]:
    """The colour and line style of every edge in the drawing, by name."""
    figure = circuit_figure(circuit, "interchange", title="", caption="", truth=truth)
    patches = [patch for patch in figure.axes[0].patches if "->" in (patch.get_gid() or "")]
    looks = {
        str(patch.get_gid()): (patch.get_edgecolor(), patch.get_linestyle()) for patch in patches
    }
    assert len(looks) == len(patches), "no edge is drawn twice"
    return looks


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    circuit([*EDGES, *DEAD]).save(tmp_path / "some.safetensors")
    return Path("some.safetensors")


def test_every_live_edge_is_drawn_once_and_no_other() -> None:
    assert set(lines_of(circuit([*EDGES, *DEAD]))) == set(EDGES)


def test_under_zero_ablation_positions_are_live_too() -> None:
    names = {edge.name for edge in drawn_edges(circuit([*EDGES, *DEAD]), "zero")}
    assert names == {*EDGES, "pos->m1"}


def test_q_k_and_v_have_colours_of_their_own() -> None:
    lines = lines_of(circuit(EDGES))
    kinds = ("tok->a0.h1.v", "a0.h1->a1.h0.q", "m0->a1.h0.k", "m1->out")
    assert len({lines[edge] for edge in kinds}) == 4
    assert lines["a1.h0->m1"] == lines["m1->out"]


def test_rows_rise_from_the_embeddings_to_out_without_gaps() -> None:
    rows = node_rows(GRAPH, drawn_edges(circuit(EDGES), "interchange"))
    assert rows == {"tok": 0, "a0.h1": 1, "m0": 2, "a1.h0": 3, "m1": 4, "out": 5}


def test_only_nodes_with_edges_are_drawn_by_their_short_names() -> None:
    figure = circuit_figure(circuit([*EDGES, *DEAD]), "interchange", title="a", caption="b")
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(labels) == ["0.1", "1.0", "m0", "m1", "out", "tok"]
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert sorted(heights, key=lambda name: heights[name]) == [
        "tok",
        "0.1",
        "m0",
        "1.0",
        "m1",
        "out",
    ]


def test_missing_and_extra_edges_stand_out_from_the_true_ones() -> None:
    truth = GRAPH.mask_of([*EDGES[1:], "a0.h1->out"])
    lines = lines_of(circuit(EDGES), truth)
    assert set(lines) == {*EDGES, "a0.h1->out"}
    alone = lines_of(circuit(EDGES))
    assert [edge for edge in EDGES if lines[edge] != alone[edge]] == [EDGES[0]]
    assert lines[EDGES[0]][1] == "-" and lines["a0.h1->out"][1] == "--"
    assert lines[EDGES[0]][0] not in {colour for colour, _ in alone.values()}
    figure = circuit_figure(circuit(EDGES), "interchange", title="", caption="", truth=truth)
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"missing edge", "extra edge"} <= labels


def test_a_true_edge_that_is_found_but_not_live_is_neither_missing_nor_extra() -> None:
    found = circuit(EDGES[:-1])
    edges = drawn_edges(found, "interchange", GRAPH.mask_of(EDGES))
    assert {edge.name: edge.status for edge in edges} == {
        **dict.fromkeys(EDGES, "found"),
        "m1->out": "missing",
    }


def test_key_value_heads_stand_below_the_heads_that_share_them() -> None:
    graph = Graph(1, 4, embeddings=("tok",), n_kv_heads=2)
    shared = circuit(["tok->a0.kv1.k", "tok->a0.kv1.v", "a0.h2->out", "a0.h3->out"], graph)
    assert set(lines_of(shared)) == set(graph.edge_names(shared.mask))
    figure = circuit_figure(shared, "interchange", title="", caption="")
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert places["tok"][1] < places["0.kv1"][1] < places["0.2"][1] == places["0.3"][1]
    joins = {patch.get_gid() for patch in figure.axes[0].patches}
    assert {"a0.kv1 of a0.h2", "a0.kv1 of a0.h3"} <= joins


def test_the_order_of_a_row_saves_crossings() -> None:
    rows = {"a": 0, "b": 0, "c": 0, "x": 1, "y": 1, "z": 1}
    edges = [("a", "z"), ("b", "y"), ("c", "x"), ("a", "y")]
    links = {((source, 0), (target, 1)): 1.0 for source, target in edges}
    as_given = {(node, row): float("abcxyz".index(node)) for node, row in rows.items()}
    assert crossings(as_given, links) == 4
    assert crossings(layout(rows, edges).places, links) == 0


def test_nothing_overlaps_in_a_row_and_long_edges_pass_between_nodes() -> None:
    mask = torch.rand(GRAPH.legal.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    edges = drawn_edges(Circuit(mask, GRAPH), "zero")
    rows = node_rows(GRAPH, edges)
    placed = layout(rows, [(edge.source, edge.target) for edge in edges])
    for row in set(rows.values()):
        here = sorted(
            (x, rows[node] == row) for (node, at), x in placed.places.items() if at == row
        )
        for (left, one), (right, other) in pairwise(here):
            assert right - left >= (0.2, 0.7, 1.0)[one + other] - 1e-9
    for edge in edges:
        node, row = placed.foot(edge.source, rows[edge.target])
        assert (node, row) == (edge.source, rows[edge.target] - 1)


def test_an_edge_says_its_own_name() -> None:
    assert Edge("m0", "a1.h0", "k", "found").name == "m0->a1.h0.k"
    assert Edge("m0", "out", "", "found").name == "m0->out"


def test_a_drawing_is_an_svg_and_a_png_and_the_same_each_time(file: Path) -> None:
    written = draw(file)
    assert written == [Path("some.svg"), Path("some.png")]
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in draw(file)] == first
    ids = {element.get("id") for element in ET.fromstring(first[0]).iter()}
    assert {*EDGES, "pos->m1"} <= ids and "tok->a0.h0.q" not in ids
    assert first[1].startswith(b"\x89PNG")


def test_the_title_names_the_circuit_and_its_size(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    record = add_cell("acdc", {"threshold": 0.1}, [8], [0.1], kind="circuit")
    store = Store(tmp_path / "results")
    origin = {"definition": record.definition.as_json(), "model": "a/model"}
    store.write(record, Circuit(GRAPH.mask_of([*EDGES, *DEAD]), GRAPH, origin))
    path = store.cells / f"{record.name}.safetensors"
    (svg,) = draw(path, out=tmp_path / "one.svg")
    text = svg.read_text()
    assert f"IOI, ACDC, 8 edges, sparsity {100 * (1 - 8 / GRAPH.n_edges):.2f} %" in text
    assert "6 live edges under interchange ablation" in text and "a/model" in text


def test_a_file_that_is_not_the_records_own_is_an_error(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    record = add_cell("acdc", {"threshold": 0.1}, [8], [0.1], kind="circuit")
    path = tmp_path / "results" / "cells" / f"{record.name}.safetensors"
    Circuit(GRAPH.mask_of(EDGES), GRAPH).save(path)
    with pytest.raises(ValueError, match=f"{path.name} is not the file that was written"):
        draw(path, out=tmp_path / "one.svg")


def test_a_compiled_programs_circuit_is_compared_with_the_nearest_true_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling a program takes long, so a stand-in knows two true circuits."""
    truths = {"zero": [GRAPH.mask_of(EDGES[2:]), GRAPH.mask_of([*EDGES, *DEAD[1:]])]}
    stand_in = SimpleNamespace(
        owns_model=True,
        load_model=lambda: None,
        build=lambda *_, **__: SimpleNamespace(true_circuits=truths),
    )
    monkeypatch.setitem(TASKS, "tracr-stand-in", stand_in)
    origin = {"task": "tracr-stand-in", "method": "eap", "seed": 4, "ablation": "zero"}
    Circuit(GRAPH.mask_of(EDGES), GRAPH, {"definition": origin}).save(file)
    svg, _ = draw(file)
    assert "true circuit of 7 edges: 1 missing, 0 extra" in svg.read_text()


def test_another_file_can_be_the_truth(file: Path) -> None:
    circuit(EDGES[1:]).save(Path("other.safetensors"))
    (svg,) = draw(file, out=Path("x.svg"), truth=Path("other.safetensors"))
    assert "true circuit of 5 edges: 0 missing, 3 extra" in svg.read_text()


def test_scores_are_cut_before_they_are_drawn(file: Path) -> None:
    EdgeScores(GRAPH.mask_of(EDGES).float(), GRAPH).save(Path("scores.safetensors"))
    result = CliRunner().invoke(main, ["draw", "scores.safetensors", "--edges", "6"])
    assert result.exit_code == 0, result.output
    assert result.stdout == "wrote scores.svg\nwrote scores.png\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["gone.safetensors"], "no file 'gone.safetensors'"),
        (["text.safetensors"], "text.safetensors is not a safetensors file"),
        (["scores.safetensors"], "scores.safetensors holds scores; --edges N"),
        (["scores.safetensors", "--edges", "999"], "999 edges asked for"),
        (["some.safetensors", "--edges", "3"], "holds a circuit; --edges 3 is for scores"),
        (["some.safetensors", "--out", "x.gif"], "'x.gif' ends in '.gif'; expected .svg"),
        (["some.safetensors", "--truth", "larger.safetensors"], "is of another graph"),
        (["dead.safetensors"], "none of the circuit's 2 edges is live"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_exit_code_2(
    file: Path, arguments: list[str], part: str
) -> None:
    Path("text.safetensors").write_text("no tensors")
    EdgeScores(GRAPH.legal.float(), GRAPH).save(Path("scores.safetensors"))
    circuit(["tok->m0"], Graph(3, 2)).save(Path("larger.safetensors"))
    circuit(["tok->a0.h0.q", "tok->a0.h1.q"]).save(Path("dead.safetensors"))
    result = CliRunner().invoke(main, ["draw", *arguments])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and part in line
    assert not list(Path().glob("*.svg"))


def test_scores_are_widths_and_negative_ones_dashed() -> None:
    scores = torch.zeros(GRAPH.legal.shape)
    scores[GRAPH.mask_of(["tok->m0"])], scores[GRAPH.mask_of(["m1->out"])] = 4.0, -1.0
    found = {edge.name: edge for edge in drawn_edges(circuit(EDGES), "interchange", None, scores)}
    assert found["tok->m0"].width > found["m1->out"].width > found["a1.h0->m1"].width
    assert (found["m1->out"].look[1], found["tok->m0"].look[1]) == ("--", "-")


def test_of_many_edges_the_strongest_are_drawn_and_the_caption_says_so(tmp_path: Path) -> None:
    values = torch.zeros(GRAPH.legal.shape)
    values[GRAPH.mask_of(EDGES)] = torch.arange(1.0, 1 + len(EDGES))
    path = tmp_path / "scores.safetensors"
    EdgeScores(values, GRAPH).save(path)
    (svg,) = draw(path, out=tmp_path / "some.svg", n_edges=len(EDGES), most=4)
    text = svg.read_text()
    assert f"The 4 strongest are drawn of {len(EDGES)} live edges" in text
    assert sum(f'id="{name}"' in text for name in map(_escaped, EDGES)) == 4


def _escaped(name: str) -> str:
    return name.replace(">", "&gt;")
