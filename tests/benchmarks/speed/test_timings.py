"""The report of timings: fits, tables and the figure, from a small made-up benchmark file."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.cli import main
from benchmarks.speed.scaling import along_axes, fit, scaling_figure, series
from benchmarks.speed.timings import load_timings, report_timings

MODEL = {
    "layers": 4,
    "heads": 4,
    "d_model": 64,
    "edges": 449,
    "graph": "449 edges (tok+pos embeddings, k and v per query head)",
    "prompts": 8,
    "tokens": 128,
}
COST = {"flops": 10**9, "forward_equivalents": 4.5, "peak_bytes": 2**29, "added_bytes": 2**23}


def point(method: str, value: int, seconds: float, **changes: Any) -> dict[str, Any]:
    """A point of the axis `layers`."""
    info = {**MODEL, **COST, "method": method, "axis": "layers", "value": value}
    return {**info, "seconds": seconds, "work": "one pass", **changes}


POINTS = [
    *(point("eap", value, 0.5 * value**2, added_bytes=value * 2**20) for value in (2, 4, 8)),
    *(point("random", value, 0.1, forward_equivalents=0.0) for value in (2, 4, 8)),
    *(point("acdc", value, float(value), tested=10) for value in (4, 2)),
]
RATIO = {
    **MODEL,
    **COST,
    "method": "acdc",
    "against": "large products",
    "against_seconds": 2.0,
    "seconds": 3.0,
    "ratio": 1.5,
    "lower_quartile": 1.4,
    "upper_quartile": 1.7,
    "pairs": 15,
    "tested": 18,
    "dropped": 4,
}
DISCOVERY = {
    **MODEL,
    **COST,
    "method": "edge-pruning",
    "task": "tracr-reverse",
    "seconds": 1.25,
    "kept": 5,
    "test_prompts": 9,
    "metric": "squared error",
    "quality": 0.25,
    "missing": 1,
    "extra": 2,
}
MEMORY = {**MODEL, **COST, "writers": 22, "store_bytes": 2**21, "predicted_bytes": 2**22}


def written(folder: Path, entries: list[dict[str, Any]]) -> Path:
    """A file as pytest-benchmark writes it."""
    content = {
        "machine_info": {"device_name": "a processor, 2 threads", "packages": {"torch": "2.13.0"}},
        "benchmarks": [{"name": f"test_{n}", "extra_info": one} for n, one in enumerate(entries)],
    }
    file = folder / "timings.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, [*POINTS, RATIO, DISCOVERY, MEMORY])


def lines(file: Path, table: str) -> list[dict[str, str]]:
    with (file.parent / "tables" / f"{table}.csv").open(encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_a_power_law_gives_back_its_exponent_and_factor() -> None:
    fitted = fit([2, 4, 8, 16], [3 * value**1.5 for value in (2, 4, 8, 16)])
    assert fitted is not None
    assert (fitted.exponent, fitted.factor) == pytest.approx((1.5, 3.0))
    assert fitted.error == pytest.approx(0, abs=1e-9)
    assert fitted.at([4.0]) == pytest.approx([24.0])


def test_points_that_are_not_positive_are_left_out_of_a_fit() -> None:
    fitted = fit([1, 2, 4, 8], [0, 2, 4, 8])
    assert fitted is not None and fitted.exponent == pytest.approx(1)


def test_fewer_than_three_points_have_no_exponent() -> None:
    assert fit([1, 2], [1, 2]) is None
    assert fit([1, 2, 4], [0, 0, 0]) is None


@pytest.mark.slow
def test_exponents_are_fitted_for_each_method_and_quantity(file: Path) -> None:
    report_timings(file)
    eap, random, acdc = lines(file, "exponents")
    assert (eap["method"], eap["from"], eap["to"], eap["points"]) == ("EAP", "2", "8", "3")
    assert float(eap["seconds"]) == pytest.approx(2)
    assert float(eap["added_bytes"]) == pytest.approx(1)
    assert float(eap["forward_equivalents"]) == pytest.approx(0, abs=1e-9)
    assert random["forward_equivalents"] == "" and float(random["seconds"]) == pytest.approx(0)
    assert acdc["seconds"] == ""


def test_a_search_counts_whole_beside_whole_passes(file: Path) -> None:
    timings, _ = load_timings(file)
    search = along_axes(timings)["layers"]["acdc"]
    assert series(search, "seconds") == ([2, 4], [2, 4])
    assert series(search, "added_bytes") == ([2, 4], [8, 8])


@pytest.mark.slow
def test_points_stand_in_the_order_of_their_axis(file: Path) -> None:
    report_timings(file)
    found = [(line["method"], line["value"]) for line in lines(file, "scaling")]
    assert found[-2:] == [("ACDC", "2"), ("ACDC", "4")]


@pytest.mark.slow
def test_a_ratio_is_shown_with_its_quartiles_and_the_cost_of_a_tested_edge(file: Path) -> None:
    shown, _ = report_timings(file)
    assert "1.50 (1.40 to 1.70)" in shown[0] and "0.250" in shown[0]
    (line,) = lines(file, "costs")
    assert (line["tested"], line["dropped"], line["pairs"]) == ("18", "4", "15")


@pytest.mark.slow
def test_discoveries_and_memory_have_their_tables(file: Path) -> None:
    report_timings(file)
    (discovery,) = lines(file, "methods")
    assert (discovery["method"], discovery["missing"], discovery["extra"]) == (
        *("Edge Pruning", "1", "2"),
    )
    (memory,) = lines(file, "memory")
    assert float(memory["measured / predicted"]) == 2
    assert float(memory["one store, MB"]) == 2


@pytest.mark.slow
def test_every_table_is_written_twice_and_says_what_it_depends_on(file: Path) -> None:
    _, written = report_timings(file)
    names = {path.name for path in written if path.parent.name == "tables"}
    tables = ("costs", "methods", "scaling", "exponents", "memory")
    assert names == {f"{table}.{kind}" for table in tables for kind in ("md", "csv")}
    for table in tables:
        text = (file.parent / "tables" / f"{table}.md").read_text(encoding="utf-8")
        assert "a processor, 2 threads" in text and "tok+pos embeddings" in text
        assert "Interchange ablation" in text


def test_the_figure_has_a_panel_per_quantity_with_exponents_in_its_legend(file: Path) -> None:
    timings, _ = load_timings(file)
    figure = scaling_figure(timings, "caption")
    assert figure is not None and len(figure.axes) == 3
    seconds, equivalents, _ = figure.axes
    legend = [text.get_text() for text in seconds.get_legend().get_texts()]  # pyright: ignore[reportOptionalMemberAccess]
    assert legend == ["$\\propto x^{2.00}$", "$\\propto x^{0.00}$"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["EAP: one pass", "Random: one pass", "ACDC: one pass"]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in figure.axes)
    assert len(equivalents.get_legend_handles_labels()[1]) == 1, "Random costs no passes"


def test_timings_without_an_axis_have_no_figure(tmp_path: Path) -> None:
    _, paths = report_timings(written(tmp_path, [RATIO]))
    assert {path.parent.name for path in paths} == {"tables"}


@pytest.mark.slow
def test_the_command_line_reports_a_file_beside_it(file: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(file)])
    assert done.exit_code == 0, done.output
    assert "1.50 (1.40 to 1.70)" in done.output
    for kind in ("png", "svg"):
        assert (file.parent / "figures" / f"scaling.{kind}").stat().st_size > 0


@pytest.mark.parametrize("content", ["", "[]", '{"benchmarks": []}', "{}"])
def test_a_file_that_holds_no_timings_is_an_error_in_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "timings.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="is no output of --benchmark-json"):
        report_timings(file)


def test_a_file_of_other_benchmarks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no timings of this suite's"):
        report_timings(written(tmp_path, [{}]))
