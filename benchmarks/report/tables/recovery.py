"""How often a method recovered a true circuit. Rankings are cut to a true circuit's size."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table

_CAPTION = (
    "Found circuits against the nearest true one; `exact` counts runs and, of random circuits, "
    "draws; other columns are means over them. Rankings are cut to a true circuit's size."
)


def recovery(results: Results) -> list[Line]:
    """One line per program and setting."""
    lines: list[Line] = []
    for panel in results.panels:
        sizes = sorted(set(panel.records[0].true_circuits))
        rows = [row for row in panel.rows if sizes and (row.is_found or row.edges in sizes)]
        by_setting = grouped(rows, lambda row: (row.method, row.setting))
        for (method, setting), group in by_setting.items():
            truths = [row.truth for row in group if row.truth is not None]
            lines.append(
                {
                    "task": panel.title,
                    "true_edges": " or ".join(map(str, sizes)),
                    "method": method_style(method).label,
                    "setting": setting,
                    "runs": len(truths),
                    "exact": sum(truth.exact for truth in truths),
                    "edges": fmean(row.edges for row in group),
                    **{
                        name: fmean(getattr(truth, name) for truth in truths)
                        for name in ("missing", "extra", "precision", "recall")
                    },
                }
            )
    return lines


def _show(lines: Sequence[Line]) -> list[Line]:
    return [
        {
            "task": line["task"],
            "true edges": line["true_edges"],
            "method": line["method"],
            "setting": line["setting"],
            "exact": f"{line['exact']}/{line['runs']}",
            **{name: f"{line[name]:.4g}" for name in ("edges", "missing", "extra")},
            **{name: f"{line[name]:.2f}" for name in ("precision", "recall")},
        }
        for line in lines
    ]


TABLE = Table("recovery", _CAPTION, recovery, _show, _show)
