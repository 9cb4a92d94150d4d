"""Labels that a suite gives to settings: they name them and change nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.grid.suite import SuiteError, parse_suite
from benchmarks.record import Finished
from benchmarks.report.captions import settings_of_labels
from benchmarks.report.panels import Panel, load_panels
from benchmarks.run.execute import execute
from benchmarks.run.loading import Loader, identify_cells

SUITE = """
name = "labelled"
tasks = ["tracr-xproportion"]

[[method]]
name = "random"
draws = 2
label = "two of them"
"""


def test_a_cell_is_the_same_with_a_label_and_its_record_has_it(tmp_path: Path) -> None:
    loader = Loader(torch.device("cpu"))
    plain = SUITE.replace('label = "two of them"', "")
    (labelled,), (bare,) = (
        identify_cells(parse_suite(text, "s.toml").cells, loader) for text in (SUITE, plain)
    )
    assert labelled.name == bare.name
    model, task = loader.model(bare.bench), loader.task(bare.bench)
    records = [
        execute(cell, model, task, tmp_path / "state", every_seconds=60.0)[0]
        for cell in (labelled, bare)
    ]
    assert [record.label for record in records] == ["two of them", ""]


def test_a_label_that_is_no_text_is_an_error() -> None:
    with pytest.raises(SuiteError, match=r"method\.0\.label is 2; expected a valid string"):
        parse_suite(SUITE.replace('"two of them"', "2"), "s.toml")


@pytest.fixture
def panel(tmp_path: Path, add_cell: Callable[..., Finished]) -> Panel:
    """Two labels, one of which stands for two thresholds, and a cell without one."""
    for threshold, extra, label in ((0.1, 1, "new"), (0.2, 1, "new"), (0.3, 2, "as published")):
        settings = {"threshold": threshold, "extra": extra, "same": 7}
        add_cell("acdc", settings, [5], [0.1], kind="circuit", label=label)
    add_cell("acdc", {"threshold": 0.4, "extra": 3, "same": 7}, [5], [0.1], kind="circuit")
    ((panel,), _) = load_panels(tmp_path / "results")
    return panel


def test_tables_and_figures_show_labels_with_what_differs_among_their_cells(panel: Panel) -> None:
    assert [(row.setting, row.variant) for row in panel.rows] == [
        ("threshold=0.4", ""),
        ("as published", "as published"),
        ("new, threshold=0.1", "new"),
        ("new, threshold=0.2", "new"),
    ]


def test_notes_say_which_settings_a_label_stands_for(panel: Panel) -> None:
    assert settings_of_labels([panel]) == [
        "ACDC, as published: extra=2, threshold=0.3.",
        "ACDC, new: extra=1.",
    ]
