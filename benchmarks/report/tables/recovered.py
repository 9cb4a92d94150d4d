"""Which method recovers which compiled program: of each, the circuit nearest to a true one.

That is a choice by the truth, and so an upper bound on what a method's settings can do.
"""

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Panel, Row, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table

_CAPTION = (
    "Each method's circuit nearest to a true one, of all its settings, seeds and draws: chosen by "
    "the truth. Rankings are cut to a true circuit's size."
)


def best_rows(panel: Panel) -> list[Row]:
    """Per method the row with the fewest edges missing and too many; none without a truth.

    Rankings are cut to a true circuit's size.
    """
    sizes = panel.records[0].true_circuits
    rows = [row for row in panel.rows if row.truth and (row.is_found or row.edges in sizes)]
    return [min(group, key=errors) for group in grouped(rows, lambda row: row.method).values()]


def errors(row: Row) -> int:
    """Edges missing and too many."""
    assert row.truth is not None, "rows without a true circuit are left out"
    return row.truth.missing + row.truth.extra


def verdict(row: Row) -> str:
    """`exact`, or what is missing and too many."""
    assert row.truth is not None, "rows without a true circuit are left out"
    if row.truth.exact:
        return "exact"
    return f"{row.truth.missing} missing, {row.truth.extra} extra"


def recovered(results: Results) -> list[Line]:
    """One line per program, one column per method."""
    lines: list[Line] = []
    for panel in results.panels:
        best = best_rows(panel)
        if best:
            sizes = sorted(set(panel.records[0].true_circuits))
            lines.append(
                {
                    "task": panel.title,
                    "edges": panel.n_edges,
                    "true edges": " or ".join(map(str, sizes)),
                    **{method_style(row.method).label: verdict(row) for row in best},
                }
            )
    return lines


TABLE = Table("recovered", _CAPTION, recovered, list, list)
