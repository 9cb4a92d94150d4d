"""What in the results may not mean what it seems to."""

from benchmarks.drawing.style import method_style
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table
from benchmarks.warnings import warnings_of


def warnings(results: Results) -> list[Line]:
    """One line per cell and warning."""
    return [
        {
            "task": panel.title,
            "model": panel.model,
            "method": method_style(record.definition.method).label,
            "seed": record.definition.seed,
            "cell": record.name,
            "warning": warning,
        }
        for panel in results.panels
        for record in panel.records
        for warning in warnings_of(record)
    ]


TABLE = Table("warnings", "Look twice at these cells.", warnings, list, list)
