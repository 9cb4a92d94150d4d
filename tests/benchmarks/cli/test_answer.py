"""What a comparison prints: a value stands only under the sparsity at which it was measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cli.answer import answer
from benchmarks.record import Finished
from benchmarks.report.results import Results
from benchmarks.store import Store
from tests.benchmarks.samples import GRAPH, edited

GRID = [0.0, 0.2, 0.5, 0.8, 0.85, 0.9, 0.95, 0.97]


def add_ranking(
    add_cell: Callable[..., Finished],
    folder: Path,
    method: str,
    sparsities: list[float],
    **fields: Any,
) -> Finished:
    """A ranking of which the KL divergence is 10 times the sparsity, cut on this grid."""
    sizes = [round(GRAPH.n_edges * (1 - at)) for at in sparsities]
    record = add_cell(method, {}, sizes, [10 * at for at in sparsities])
    changes = {"sparsities": sparsities, **fields}
    record = edited(record, lambda own: own["definition"].update(changes))
    Store(folder).write(record, Store(folder).discovery(record.name))
    return record


def lines_of(text: str) -> list[list[str]]:
    """The table's lines, with - for blanks, by the columns of the rule below its head."""
    head, rule, *lines = text.splitlines()[2:]
    widths = [len(part) for part in rule.split("  ")]
    found = []
    for line in (head, *lines):
        cells, start = [], 0
        for width in widths:
            cells.append(line[start : start + width].strip() or "-")
            start += width + 2
        found.append(cells)
    return found


def test_no_value_stands_under_a_sparsity_at_which_it_was_not_measured(
    add_cell: Callable[..., Finished], tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    add_ranking(add_cell, folder, "eap", [0.0, 0.9])
    now = add_ranking(add_cell, folder, "gim", GRID)
    add_cell("acdc", {"threshold": 0.1}, [8], [0.25], kind="circuit")
    assert lines_of(answer(Results(folder), {now.name})) == [
        ["method", "sparsity", "value", "20 %", "80 %", "90 %", "97 %"],
        ["eap", "-", "-", "-", "-", "9", "-"],
        ["gim", "-", "-", "2", "8", "9", "9.7"],
        ["acdc threshold=0.1", f"{100 - 100 * 8 / GRAPH.n_edges:.1f} %", "0.25", *"----"],
    ]


def test_of_a_methods_file_what_ran_now_is_shown(
    add_cell: Callable[..., Finished], tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    before = add_ranking(add_cell, folder, "mine", [0.0, 0.5], code="a" * 64)
    now = edited(before, lambda own: own.update(name="now", rows=own["rows"][1:]))
    now = edited(now, lambda own: own["definition"].update(code="b" * 64))
    now = edited(now, lambda own: own["rows"][0]["metrics"].update(kl=7.0))
    Store(folder).write(now, Store(folder).discovery(before.name))
    for record, value in ((before, "5"), (now, "7")):
        code = str(record.definition.code)[:8]
        (_, line) = lines_of(answer(Results(folder), {record.name}))
        assert line == [f"mine code of mine={code}", value]
