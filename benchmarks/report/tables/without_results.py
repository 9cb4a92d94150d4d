"""Cells that failed, that a method does not support or that are damaged, and why."""

from benchmarks.drawing.style import method_style
from benchmarks.record import Damaged, Unfinished
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table


def without_results(results: Results) -> list[Line]:
    """One line per cell; of damaged files, what they are called."""
    return [_line(record) for record in results.failed]


def _line(record: Unfinished | Damaged) -> Line:
    if isinstance(record, Damaged):
        nothing = {"task": None, "method": None, "seed": None}
        return {"cell": record.name, **nothing, "status": "damaged", "reason": record.problem}
    return {
        "cell": record.name,
        "task": record.definition.task,
        "method": method_style(record.definition.method).label,
        "seed": record.definition.seed,
        "status": record.status,
        "reason": record.error.message,
    }


TABLE = Table("without_results", "Cells without results, and why.", without_results, list, list)
