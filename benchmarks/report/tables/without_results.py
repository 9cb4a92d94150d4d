"""Cells that failed or that a method does not support, and why."""

from benchmarks.drawing.style import method_style
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table


def without_results(results: Results) -> list[Line]:
    """One line per cell."""
    return [
        {
            "task": record.definition.task,
            "method": method_style(record.definition.method).label,
            "seed": record.definition.seed,
            "status": record.status,
            "reason": record.error.message,
        }
        for record in results.failed
    ]


TABLE = Table("without_results", "Cells without results, and why.", without_results, list, list)
