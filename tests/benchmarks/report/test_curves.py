"""Figures of made-up results: how panels stand, and what their lines and axes show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.drawing.style import GREY, method_style
from benchmarks.record import Finished
from benchmarks.report.figures.curves import BEST, FILLS, faithfulness_figure, metrics_figure
from benchmarks.report.figures.methods import methods
from benchmarks.report.figures.panel_grid import starts
from benchmarks.report.figures.paper import paper_figure
from benchmarks.report.panels import load_panels
from benchmarks.report.results import Results
from benchmarks.store import Store
from tests.benchmarks.samples import GRAPH, edited

SIZES = (GRAPH.n_edges, 20, 10, 5)


def test_large_errors_are_drawn_on_a_scale_that_shows_the_small_ones(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("eap", {}, SIZES, [0.0, 0.2, 1.0, 8.0])
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3], task="ioi-t1")
    panels, _ = load_panels(tmp_path / "results")
    wide, narrow = faithfulness_figure(panels).axes
    assert wide.get_yscale() == "symlog" and narrow.get_yscale() == "linear"
    assert wide.get_ylim()[0] < 0 < 8 < wide.get_ylim()[1]
    labels = [wide.yaxis.get_major_formatter()(tick) for tick in wide.get_yticks()]
    assert labels == ["0", "0.1", "0.2", "0.5", "1", "2", "5"]


def test_no_label_is_taller_than_its_panel(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    unit = "KL(full ‖ circuit) over 100 years, nats"

    def renamed(fields: dict[str, Any]) -> None:
        fields["metrics"]["kl"]["unit"] = unit

    for number in range(6):
        record = add_cell("eap", {}, SIZES, [0.0, 0.2, 1.0, 8.0], task=f"task-{number}")
        Store(tmp_path / "results").write(edited(record, renamed))
    panels, _ = load_panels(tmp_path / "results")
    for figure in (faithfulness_figure(panels), paper_figure(panels, "kl", 6.75)[0]):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        axes = figure.axes[0]
        label = axes.yaxis.label.get_window_extent(canvas.get_renderer())
        assert axes.get_ylabel().split() == unit.split()
        assert label.height <= axes.get_window_extent().height


def test_a_metrics_panels_start_a_line_or_fill_one(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for task in ("ioi", "ioi-t1"):
        add_cell("eap", {}, SIZES, [0.0, 0.2, 1.0, 8.0], task=task)
    record = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3], task="tracr-reverse")

    def without_accuracy(fields: dict[str, Any]) -> None:
        rows = (row[kind] for row in fields["rows"] for kind in ("metrics", "intervals"))
        for metrics in (fields["metrics"], *rows):
            del metrics["accuracy"]

    Store(tmp_path / "results").write(edited(record, without_accuracy))
    panels, _ = load_panels(tmp_path / "results")
    figure = metrics_figure(panels, ["kl", "other", "accuracy"])
    assert figure is not None
    titles = [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes]
    kl = record.metrics["kl"].unit
    assert titles == [
        *(("IOI", kl), ("IOI, one template", kl), ("Tracr: reverse", kl)),
        *(("IOI", "accuracy"), ("IOI, one template", "accuracy")),
    ]
    rows = [axes.get_subplotspec().rowspan.start for axes in figure.axes]  # pyright: ignore[reportOptionalMemberAccess]
    assert rows == [0, 0, 0, 1, 1]
    assert metrics_figure(panels, ["other"]) is None
    assert starts([3, 4, 1], 4) == ([0, 4, 3], 2)
    assert starts([5, 2, 1, 1], 3) == ([0, 6, 5, 8], 3)


def test_four_panels_have_a_legend_each_and_twelve_share_one(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for number in range(12):
        for selection in ("top-absolute", "top-signed"):
            settings = {"selection": selection}
            validation = [0.0, 1.0, 1.0, number % 2 if selection == "top-signed" else 0.5]
            task = f"task-{number:02}"
            add_cell("eap", settings, SIZES, [0.1] * 4, validation=validation, task=task)
        add_cell("acdc", {"threshold": 0.1}, [5], [0.3], kind="circuit", task=task)
    panels, _ = load_panels(tmp_path / "results")
    few, many = faithfulness_figure(panels[:4]), faithfulness_figure(panels)
    assert not few.legends and all(axes.get_legend() for axes in few.axes)
    assert few.axes[0].get_subplotspec().get_geometry()[:2] == (2, 2)  # pyright: ignore[reportOptionalMemberAccess]
    assert not any(axes.get_legend() for axes in many.axes)
    (legend,) = many.legends
    assert [text.get_text() for text in legend.get_texts()] == ["full model", "EAP", "ACDC"]
    notes = [axes.texts[0].get_text() for axes in many.axes]
    assert notes[:2] == ["EAP, selection=top-signed", "EAP, selection=top-absolute"]
    width, height = many.get_size_inches()
    assert many.axes[0].get_subplotspec().get_geometry()[:2] == (3, 4)  # pyright: ignore[reportOptionalMemberAccess]
    assert height < width < 15


def test_variants_are_marked_alike_where_panels_share_a_legend(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for task, steps in (("a", 10), ("a", 30), ("b", 30), ("b", 50), ("c", 10)):
        settings = {"threshold": 0.1, "steps": steps}
        add_cell("acdc", settings, [5], [0.1], kind="circuit", task=task)
    panels, _ = load_panels(tmp_path / "results")
    fills: dict[str, set[object]] = {}
    for axes in faithfulness_figure(panels).axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            marker = handle[0]  # pyright: ignore[reportIndexIssue]
            fills.setdefault(label, set()).add(marker.get_fillstyle())
    assert fills["ACDC, steps=30"] == {"none"} and fills["ACDC, steps=50"] == {"left"}
    (alone,) = faithfulness_figure(panels[2:]).axes
    handles = alone.get_legend_handles_labels()[0]
    assert handles[0][0].get_fillstyle() == "full"  # pyright: ignore[reportIndexIssue]


def test_a_methods_rankings_are_drawn_beside_its_circuits(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    """Each ranking is a curve of its own, whatever the setting that moves circuits."""
    for target in (0.9, 1.1):
        settings = {"target_sparsity": target, "cut": "sparsity"}
        add_cell("edge-pruning", settings, [int(50 * (2 - target))], [0.1], kind="circuit")
        settings["cut"] = "ranking"
        add_cell("edge-pruning", settings, SIZES, [0.0, target, target, target])
    panels, _ = load_panels(tmp_path / "results")
    (axes,) = faithfulness_figure(panels).axes
    drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ranking = "Edge Pruning, cut=ranking, target_sparsity=0.9"
    assert set(drawn) == {"full model", "Edge Pruning, cut=sparsity", ranking}
    np.testing.assert_allclose(np.asarray(drawn[ranking].get_ydata(), dtype=float)[:3], 0.9)


def test_no_legend_is_shared_where_one_look_would_mean_two_variants(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for number in range(len(FILLS) + 1):
        settings = {"threshold": 0.1, "steps": number}
        add_cell("acdc", settings, [5], [0.1], kind="circuit", task="a")
        for task in ("b", "c"):
            add_cell("acdc", {"threshold": 0.1}, [5], [0.1], kind="circuit", task=task)
    figure = faithfulness_figure(load_panels(tmp_path / "results")[0])
    assert not figure.legends and all(axes.get_legend() for axes in figure.axes)


def test_the_full_models_line_is_the_mean_over_seeds_however_many_draws_one_has(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("random", {"draws": 3}, SIZES, [0.5, 0.6, 0.7, 0.8], draws=3, seed=0)
    for seed, full in ((0, 0.5), (1, 0.1)):
        add_cell("eap", {}, SIZES, [full, 0.6, 0.7, 0.8], seed=seed)
    (panel,), _ = load_panels(tmp_path / "results")
    (axes,) = faithfulness_figure([panel]).axes
    (line,) = (line for line in axes.lines if line.get_label() == "full model")
    assert np.allclose(np.asarray(line.get_ydata(), dtype=float), 0.3, atol=0.05)


def test_a_panel_of_circuits_alone_shows_their_sparsities_and_the_distance_0(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for seed, kl in enumerate((0.3, 0.4)):
        add_cell("acdc", {"threshold": 0.1}, [5], [kl], kind="circuit", seed=seed)
    (panel,), _ = load_panels(tmp_path / "results")
    (axes,) = faithfulness_figure([panel]).axes
    left, right = axes.get_xlim()
    kept = 5 / GRAPH.n_edges
    assert right < kept < left < 1.3 * kept and left / right < 1.5
    assert axes.get_ylim()[0] < 0
    labels = [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()]
    assert len(labels) >= 2
    places = np.log(axes.get_xticks())
    assert np.diff(-places).min() > 0.05 * np.log(left / right)


def test_of_many_rankings_the_best_of_each_family_is_shown_and_all_have_a_panel_of_their_own(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("random", {"draws": 3}, SIZES, [0.0, 2.0, 3.0, 4.0], draws=3)
    names = ["activation-difference", "eap", "eap-ig", "ceap", "gim", "relp", "atp"]
    for place, name in enumerate(names):
        validation = [0.0, 1.0, 1.0, float(name != "gim")]
        add_cell(name, {}, SIZES, [0.0, 0.1, 0.2, 0.3 + place], validation=validation)
    add_cell("acdc", {"threshold": 0.1}, [5], [0.3], kind="circuit")
    folder = tmp_path / "results"
    (panel,), _ = load_panels(folder)
    assert list(panel.rankings()) == names
    figure = faithfulness_figure([panel])
    shown = figure.axes[0].get_legend_handles_labels()[1]
    best = ["Activation difference", "GIM"]
    assert shown == ["full model", "Random, 3 draws", *best, "ACDC"]
    assert BEST in " ".join(" ".join(text.get_text() for text in figure.texts).split())
    (title, small), *others = methods(Results(folder)).items()
    assert title == panel.title and not others
    assert [axes.get_title() for axes in small.axes] == [method_style(name).label for name in names]
    for axes, name in zip(small.axes, names, strict=True):
        *grey, own = axes.get_lines()
        assert len(grey) == len(names) - 1 and {line.get_color() for line in grey} == {GREY}
        assert own.get_color() == method_style(name).colour


def test_few_rankings_are_all_shown(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    for name in ("eap", "eap-ig", "gim"):
        add_cell(name, {}, SIZES, [0.0, 0.1, 0.2, 0.3])
    folder = tmp_path / "results"
    (panel,), _ = load_panels(folder)
    assert list(panel.best_rankings()) == ["eap", "eap-ig", "gim"]
    assert not methods(Results(folder))
