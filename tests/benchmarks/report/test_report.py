"""The report on made-up results: what is in the tables, captions and figures."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.drawing.style import GREY, method_style
from benchmarks.record import FAILED, Failure, Finished, RowRecord, Unfinished
from benchmarks.report.captions import captions
from benchmarks.report.figures import Plot
from benchmarks.report.figures.curves import LINES, POINTS, faithfulness_figure
from benchmarks.report.panels import load_panels
from benchmarks.report.report import report
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.store import Store
from methods import METHODS
from tests.benchmarks.samples import GRAPH, N_PROMPTS, edited, estimated

SIZES = (GRAPH.n_edges, 20, 10, 5)
TABLES, FIGURES = ("faithfulness", "runtime"), ("faithfulness", "agreement")


@pytest.fixture
def folder(tmp_path: Path, add_cell: Callable[..., Finished]) -> Path:
    """Every kind of cell; one ranking looks best on the test prompts, the other on validation."""
    for seed in (0, 1):
        add_cell("random", {"draws": 3}, SIZES, [0.0, 2.0, 3.0, 3.5], draws=3, seed=seed)
        add_cell(
            *("eap", {"selection": "top-signed"}, SIZES, [0.0, 0.1, 0.2, 0.3]),
            validation=[0.0, 5.0, 5.0, 5.0],
            seed=seed,
        )
        add_cell(
            *("eap", {"selection": "top-absolute"}, SIZES, [0.0, 0.5, 1.0, 2.0]),
            validation=[0.0, 1.0, 1.0, 1.0],
            seed=seed,
        )
        for threshold, size, kl in ((0.01, 20, 0.4), (0.1, 10, 0.9)):
            add_cell("acdc", {"threshold": threshold}, [size], [kl], kind="circuit", seed=seed)
    return tmp_path / "results"


def lines(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_file_is_written_and_named(folder: Path) -> None:
    _, written = report(folder)
    names = {path.relative_to(folder).as_posix() for path in written}
    assert names == {
        *(f"tables/{table}.{kind}" for table in TABLES for kind in ("md", "csv")),
        "tables/rows.csv",
        "report.html",
        *(f"figures/{figure}.{kind}" for figure in FIGURES for kind in ("png", "svg")),
    }
    assert all(path.stat().st_size > 0 for path in written)
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
def test_the_frame_of_all_rows_holds_every_circuit_and_metric(folder: Path) -> None:
    report(folder)
    (panel,), _ = load_panels(folder)
    found = lines(folder, "rows")
    assert len(found) == sum(len(row.metrics) for row in panel.rows)
    first = found[0]
    row = panel.rows[0]
    estimate = row.metrics[first["metric"]]
    assert (first["cell"], int(first["edges"])) == (row.cell, row.edges)
    values = [float(first[name]) for name in ("value", "low", "high")]
    assert values == pytest.approx(list(estimate))


@pytest.mark.slow
def test_what_no_longer_applies_is_removed_and_nothing_else(folder: Path) -> None:
    report(folder)
    stale = [folder / "tables" / f"without_results.{suffix}" for suffix in ("md", "tex", "csv")] + [
        folder / "figures" / f"recovered-tracr-sort.{kind}" for kind in ("png", "svg")
    ]
    own = [folder / "tables" / "notes.md", folder / "figures" / "mine.png"]
    for path in [*stale, *own]:
        path.write_text("")
    _, written = report(folder)
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in [*own, *written])


@pytest.mark.slow
def test_a_circuit_stands_beside_the_rankings_at_its_own_size(folder: Path) -> None:
    report(folder)
    first = lines(folder, "faithfulness")[0]
    assert (first["method"], first["setting"], first["edges"]) == ("ACDC", "threshold=0.01", "20")
    assert float(first["circuit"]) == pytest.approx(0.4)
    assert float(first["Random"]) == pytest.approx(2.0)
    assert float(first["circuit low"]) < 0.4 < float(first["circuit high"])


@pytest.mark.slow
def test_of_several_variants_the_best_on_validation_is_shown_and_named(folder: Path) -> None:
    report(folder)
    for line in lines(folder, "faithfulness"):
        assert line["EAP variant"] == "selection=top-absolute"
    assert float(lines(folder, "faithfulness")[0]["EAP"]) == pytest.approx(0.5)
    (panel,), _ = load_panels(folder)
    (axes,) = faithfulness_figure([panel]).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["full model", "Random, 6 draws", "EAP, selection=top-absolute", "ACDC"]


def test_the_curve_runs_over_achieved_sparsity_with_the_sparse_end_to_the_right(
    folder: Path,
) -> None:
    (panel,), _ = load_panels(folder)
    (axes,) = faithfulness_figure([panel]).axes
    curve = next(line for line in axes.lines if line.get_color() == method_style("eap").colour)
    kept = [size / GRAPH.n_edges for size in sorted(SIZES)]
    assert np.allclose(np.asarray(curve.get_xdata(), dtype=float), kept)
    assert np.allclose(np.asarray(curve.get_ydata(), dtype=float), [2.0, 1.0, 0.5, 0.0])
    left, right = axes.get_xlim()
    assert left > 1 > right
    ticks = [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()]
    assert ticks[:3] == ["0", "50", "80"]


def test_settings_that_follow_from_others_tell_no_variants_apart(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for threshold, steps, warmup, extra in ((0.1, 10, 1, 5), (0.2, 10, 1, 5), (0.1, 30, 3, 5)):
        settings = {"threshold": threshold, "steps": steps, "warmup": warmup, "extra": extra}
        add_cell("acdc", settings, [5], [0.1], kind="circuit")
    (panel,), _ = load_panels(tmp_path / "results")
    assert {row.variant for row in panel.rows} == {"steps=10", "steps=30"}
    assert panel.rows[0].setting == "threshold=0.1, steps=10, warmup=1"
    fills = {line.get_fillstyle() for line in faithfulness_figure([panel]).axes[0].lines}
    assert {"full", "none"} <= fills


@pytest.mark.slow
def test_runtimes_stand_beside_published_ones_of_the_same_model_and_as_many_examples(
    folder: Path, add_cell: Callable[..., Finished]
) -> None:
    report(folder)
    assert {line["published_seconds"] for line in lines(folder, "runtime")} == {""}
    numbers = {"train": 200, "validation": 8, "test": N_PROMPTS}
    papers: dict[str, Any] = {"n_prompts": numbers, "model": "openai-community/gpt2"}
    for seed in (0, 1):
        add_cell("random", {"draws": 3}, SIZES, [0.0] * 4, draws=3, seed=seed, **papers)
        settings = {"threshold": 0.1}
        add_cell("acdc", settings, [10], [0.9], kind="circuit", seed=seed, **papers)
    for path in (folder / "cells").glob("*eap*"):
        path.unlink()
    for path in (folder / "cells").glob("*acdc-0.01-*"):
        path.unlink()
    report(folder)
    by_method = {line["method"]: line for line in lines(folder, "runtime")}
    assert float(by_method["ACDC"]["published_seconds"]) == 18783
    assert "Table 1" in by_method["ACDC"]["published_source"]
    assert by_method["Random"]["published_seconds"] == ""
    assert float(by_method["ACDC"]["seconds"]) == 2.5
    assert by_method["ACDC"]["runs"] == "2" and by_method["ACDC"]["prompts"] == "200"
    assert "Published: Bhaskar" in (folder / "tables" / "runtime.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["faithfulness", "runtime"])
def test_a_caption_says_what_the_numbers_depend_on(folder: Path, table: str) -> None:
    report(folder)
    in_markdown = (folder / "tables" / f"{table}.md").read_text()
    for part in (
        f"{GRAPH.n_edges} edges (tok+pos embeddings, k and v per query head)",
        "interchange ablation",
        f"{N_PROMPTS} test prompts",
        "seeds 0, 1",
        "a processor",
    ):
        assert part in in_markdown


def test_one_circuit_makes_no_figure(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    add_cell("acdc", {"threshold": 0.1}, [5], [0.3], kind="circuit")
    _, written = report(tmp_path / "results")
    assert written and not any("figures" in path.parts for path in written)


@pytest.mark.slow
def test_a_metric_besides_the_primary_has_a_figure(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    difference = {"better": "higher", "unit": "logit difference"}
    record = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3])

    def with_difference(fields: dict[str, Any]) -> None:
        fields["metrics"].update(logit_difference=difference)
        for row in fields["rows"]:
            row |= estimated({**row["metrics"], "logit_difference": row["metrics"]["kl"] + 1})

    Store(tmp_path / "results").write(edited(record, with_difference))
    report(tmp_path / "results")
    assert (tmp_path / "results" / "figures" / "task_metric.svg").stat().st_size > 0


@pytest.mark.slow
def test_the_figures_caption_is_in_the_figure(folder: Path) -> None:
    report(folder)
    (panel,), _ = load_panels(folder)
    figure = faithfulness_figure([panel])
    text = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert text == f"{captions([panel])[0]} {POINTS} {LINES}"


def test_a_figures_file_is_in_the_folder_of_figures_whatever_its_panel_is_called(
    tmp_path: Path, add_cell: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_cell("acdc", {"threshold": 0.1}, [5], [0.3], kind="circuit")
    monkeypatch.setattr(
        "benchmarks.report.report.PLOTS", [Plot("one", lambda _: {"ioi, a/model": Figure()})]
    )
    _, written = report(tmp_path / "results")
    figures = {path.name for path in written if path.parent == tmp_path / "results" / "figures"}
    assert figures == {"one-ioi, a-model.png", "one-ioi, a-model.svg"}


@pytest.mark.slow
def test_the_figure_is_not_empty(folder: Path) -> None:
    report(folder)
    pixels = image.imread(folder / "figures" / "faithfulness.png")[..., :3]
    assert pixels.shape[0] > 400 and pixels.shape[1] > 400
    assert 0.02 < float((pixels < 0.95).any(-1).mean()) < 0.6
    for method in ("eap", "acdc"):
        colour = method_style(method).colour
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert int((np.abs(pixels - wanted) < 0.02).all(-1).sum()) > 50


@pytest.mark.slow
def test_equal_results_give_equal_figures(folder: Path) -> None:
    report(folder)
    before = {path: path.read_bytes() for path in (folder / "figures").iterdir()}
    report(folder)
    assert before == {path: path.read_bytes() for path in (folder / "figures").iterdir()}


@pytest.mark.slow
def test_recovery_counts_runs_and_draws(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    def truth(missing: int, extra: int) -> dict[str, Any]:
        exact = missing == extra == 0
        return {
            "missing": missing,
            "extra": extra,
            "exact": exact,
            "precision": 0.5,
            "recall": 0.5,
        }

    store = Store(tmp_path / "results")
    for seed, found in enumerate(((0, 0), (1, 2), (0, 0))):
        record = add_cell(
            *("acdc", {"threshold": 0.1}, [5], [0.1]),
            kind="circuit",
            task="tracr-reverse",
            seed=seed,
            true_circuits=[5, 5],
        )
        store.write(edited(record, lambda f, found=found: f["rows"][0].update(truth=truth(*found))))
    record = add_cell("eap", {}, [10, 5], [0.1, 0.2], task="tracr-reverse", true_circuits=[5, 5])
    store.write(edited(record, lambda f: [row.update(truth=truth(2, 2)) for row in f["rows"]]))
    main, _ = report(tmp_path / "results")
    eap, acdc = lines(tmp_path / "results", "recovery")
    assert (acdc["exact"], acdc["runs"]) == ("2", "3")
    assert float(acdc["missing"]) == pytest.approx(1 / 3)
    assert (eap["exact"], eap["runs"], float(eap["edges"])) == ("0", "1", 5.0)
    assert any("2/3" in table for table in main)


def test_cells_without_results_are_listed_with_the_reason(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    record = add_cell("eap", {}, [5], [0.1])
    failed = Unfinished(
        name="x",
        status=FAILED,
        error=Failure(message="it broke", traceback="..."),
        definition=record.definition,
        environment=record.environment,
    )
    Store(tmp_path / "results").write(failed)
    main, _ = report(tmp_path / "results")
    assert lines(tmp_path / "results", "without_results")[0]["reason"] == "it broke"
    assert any("it broke" in table for table in main)


def test_panels_keep_models_apart(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    store = Store(tmp_path / "results")
    first = add_cell("eap", {}, [5], [0.1])

    def other(fields: dict[str, Any]) -> None:
        fields["name"] = "other"
        fields["definition"]["weights"] = "another hash"

    store.write(edited(first, other), store.discovery(first.name), store.prompts(first.name))
    panels, _ = load_panels(tmp_path / "results")
    assert len(panels) == 2


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results in"):
        report(tmp_path)


def test_intervals_agree_with_scipys() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(3, 200))
    intervals = bootstrap_intervals(torch.from_numpy(values).float())
    generator = np.random.default_rng(2)
    for row in range(3):
        expected = stats.bootstrap(
            (values[row],), np.mean, method="percentile", rng=generator
        ).confidence_interval
        assert intervals[row] == pytest.approx([expected.low, expected.high], abs=0.03)


def test_the_interval_of_one_prompt_is_its_value() -> None:
    assert bootstrap_intervals(torch.tensor([[3.0], [0.1]])) == [[3, 3], [0.1, 0.1]]


def test_every_method_has_a_colour_and_marker_of_its_own() -> None:
    looks = [method_style(method) for method in METHODS]
    assert len({(look.colour, look.marker) for look in looks}) == len(METHODS)
    assert method_style("random").colour == GREY
    labels = [method_style(method).label for method in ("random", "eap", "acdc", "edge-pruning")]
    assert labels == ["Random", "EAP", "ACDC", "Edge Pruning"]
    assert method_style("gone").label == "gone"


def test_a_dollar_sign_in_a_label_stands_for_itself(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    label = "$\\frac$ for $5"
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3], label=label)
    panels, _ = load_panels(tmp_path / "results")
    figure = faithfulness_figure(panels)
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    (text,) = [text for text in legend.get_texts() if "frac" in text.get_text()]
    assert not text.get_parse_math()


def test_cells_whose_settings_have_other_names_and_types_are_reported(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for settings in ({"threshold": 0.1, "other": 1}, {"threshold": "x"}, {}):
        add_cell("acdc", settings, [15], [0.9], kind="circuit")
    (panel,), _ = load_panels(tmp_path / "results")
    assert [row.setting for row in panel.rows] == [
        "threshold=None",
        "threshold=0.1",
        "threshold=x",
    ]


def test_matched_rows_of_other_metrics_are_an_error_that_names_their_file(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    name = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3]).name
    row = RowRecord(edges=7, sparsity=0.5, live_sparsity=0.5, **estimated({"other": 0.1}))
    Store(tmp_path / "results").add_matched_rows(name, [row])
    with pytest.raises(ValueError, match=f"matched rows of {name} have other metrics than"):
        load_panels(tmp_path / "results")
