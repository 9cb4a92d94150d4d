"""What in the results may not mean what it seems to."""

from collections.abc import Iterator

from benchmarks.drawing.style import method_style
from benchmarks.record import Finished
from benchmarks.report.panels import Panel, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table
from benchmarks.report.tables.dtypes import REFERENCE, not_compared
from benchmarks.report.variants import codes_of
from benchmarks.warnings import warnings_of

EARLIER = "left out: an earlier version of the method, or of one inside it, found this"
CHANGED = "the method's file has changed between results; each of its contents is a variant"
APART = "not compared with the method's best variant: no seed and sparsity is common to both"
UNCLEAR = f"not compared with {REFERENCE}: models of different weights have this name, in one dtype"


def warnings(results: Results) -> list[Line]:
    """One line per cell and warning."""
    unclear = {record.name for record in not_compared(results)}
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
        for record, warning in [
            *((record, warning) for record in panel.records for warning in warnings_of(record)),
            *((record, EARLIER) for record in panel.superseded),
            *((record, CHANGED) for record in _of_changed_files(panel)),
            *((record, APART) for record in _of_variants_apart(panel)),
            *((record, UNCLEAR) for record in panel.records if record.name in unclear),
        ]
    ]


def _of_changed_files(panel: Panel) -> Iterator[Finished]:
    """The records of methods of which the file, or that of an inner method, had other contents."""
    for of_method in grouped(panel.records, lambda record: record.definition.method).values():
        codes = {code for record in of_method for code in codes_of(record).items()}
        if len({name for name, _ in codes}) < len(codes):
            yield from of_method


def _of_variants_apart(panel: Panel) -> Iterator[Finished]:
    """The records of rankings that could not be considered as their method's best variant."""
    by_name = {record.name: record for record in panel.records}
    for rows in panel.ranked().values():
        compared = panel.comparable(rows)
        apart = {row.cell: row for row in rows if row.variant not in compared}
        yield from (by_name[cell] for cell in apart)


TABLE = Table("warnings", "Look twice at these cells.", warnings, list, list)
