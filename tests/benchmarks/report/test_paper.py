"""Figures for papers: their width, fonts, axes, legend and caption."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from benchmarks.cli import main
from benchmarks.record import Finished
from benchmarks.report.figures.paper import chosen_rankings, grid, paper_figure
from benchmarks.report.panels import load_panels
from benchmarks.report.report import report_for_paper
from tests.benchmarks.samples import GRAPH

SIZES = (GRAPH.n_edges, 20, 10, 5)
MANY = ("eap", "eap-ig", "ceap", "gim", "relp", "atp", "mask-ig")


@pytest.fixture
def folder(tmp_path: Path, add_cell: Callable[..., Finished]) -> Path:
    for task, top in (("ioi", 8.0), ("greater-than", 0.3), ("gendered-pronoun", 2.0)):
        for place, method in enumerate(MANY):
            add_cell(method, {}, SIZES, [0.0, 0.1 + place, 1.0 + place, top], task=task)
        for seed in range(6):
            settings, size = {"threshold": 0.1}, 8 + seed
            add_cell("acdc", settings, [size], [0.4], kind="circuit", task=task, seed=seed)
    return tmp_path / "results"


def drawn(folder: Path, width: float) -> tuple[Figure, str]:
    panels, _ = load_panels(folder)
    return paper_figure(panels, "kl", width)


def test_all_panels_have_the_same_axes_and_one_legend(folder: Path) -> None:
    figure, _ = drawn(folder, 6.75)
    assert figure.get_size_inches()[0] == 6.75
    assert [axes.get_title() for axes in figure.axes] == ["Gendered Pronoun", "Greater-Than", "IOI"]
    assert len({(axes.get_xlim(), axes.get_ylim(), axes.get_yscale()) for axes in figure.axes}) == 1
    assert len(figure.legends) == 1 and not any(axes.get_legend() for axes in figure.axes)


def test_a_place_without_a_panel_takes_the_legend(folder: Path) -> None:
    figure, _ = drawn(folder, 3.25)
    *panels, last = figure.axes
    assert len(panels) == 3 and last.get_legend() is not None and not last.axison
    assert not figure.legends


def test_no_place_is_left_empty_where_that_can_be_helped() -> None:
    wide = 6.75
    assert [grid(n, wide) for n in (1, 2, 3, 4, 6, 8)] == [
        *((1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (4, 2)),
    ]
    assert grid(4, 3.25) == (2, 2) and grid(5, 3.25) == (2, 3)


def test_many_seeds_are_one_point_with_its_ranges(folder: Path) -> None:
    figure, caption = drawn(folder, 6.75)
    points = [line for line in figure.axes[0].lines if line.get_label() == "_nolegend_"]
    acdc = [one for one in figure.axes[0].containers if one.get_label() == "ACDC"]
    assert len(acdc) == 1 and len(points) <= 1
    assert "their mean and range" in caption


def test_of_many_methods_the_best_of_each_family_is_shown(folder: Path) -> None:
    panels, _ = load_panels(folder)
    assert chosen_rankings(panels) == ["eap"]
    _, caption = drawn(folder, 6.75)
    assert "Of 7 methods that rank edges, the best of each family" in caption
    assert "linear below 0.1 and logarithmic above" in caption


@pytest.mark.slow
def test_it_is_written_with_truetype_fonts_and_its_caption_beside_it(folder: Path) -> None:
    written = report_for_paper(folder, tasks=["ioi"], width="column", formats=["pdf"])
    assert [path.name for path in written] == ["paper-kl-ioi-column.pdf", "paper-kl-ioi-column.txt"]
    pdf = written[0].read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert "KL(full" in written[1].read_text()


@pytest.mark.slow
def test_a_table_at_the_sparsities_asked_for_is_written_with_it(folder: Path) -> None:
    options = ["--task", "ioi", "--sparsity", "0.5,0.75", "--format", "svg"]
    done = CliRunner().invoke(main, ["report", str(folder), *options])
    assert done.exit_code == 0, done.output
    text = (folder / "tables" / "paper-kl-ioi.tex").read_text()
    assert r"IOI" in text and "Greater-Than" not in text and r"\label{tab:paper-kl-ioi}" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsities": [0.9, 1.5]}, "sparsity 1.5; expected a number above 0 and below 1"),
        ({"metric": "accuracy", "sparsities": [0.9]}, "sparsity 0.9; tables compare.*'accuracy'"),
        ({"tasks": ["ioj"]}, "task 'ioj'"),
        ({"metric": "klx"}, "metric 'klx'.*accuracy, kl"),
        ({"width": "wide"}, "width 'wide'; expected column, text or inches"),
        ({"width": "nan"}, "width 'nan'"),
        ({"formats": ["gif"]}, "format 'gif'; expected some of pdf, svg, png"),
    ],
)
def test_what_there_is_not_is_named(folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report_for_paper(folder, **options)  # pyright: ignore[reportArgumentType]
