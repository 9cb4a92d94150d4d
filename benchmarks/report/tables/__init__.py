"""The tables of a report, one file each. A new one is a file and a line here."""

from benchmarks.report.table import Table
from benchmarks.report.tables import (
    attribution,
    consistency,
    crossed,
    dtypes,
    examples,
    faithfulness,
    recovered,
    recovery,
    runtime,
    warnings,
    without_results,
)

TABLES: tuple[Table, ...] = (
    faithfulness.TABLE,
    recovery.TABLE,
    recovered.TABLE,
    examples.TABLE,
    crossed.TABLE,
    dtypes.TABLE,
    consistency.TABLE,
    attribution.TABLE,
    runtime.TABLE,
    warnings.TABLE,
    without_results.TABLE,
)
"""In the order in which the terminal shows them."""
