"""What a report is made from: a folder's panels, and what its tables and figures read besides."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

from pandas import DataFrame

from benchmarks.record import SearchRecord
from benchmarks.report.panels import Panel, Row, load_panels
from benchmarks.report.repeats import Repeats, repeats
from benchmarks.store import Store

_NESTED = ("metrics", "validation", "truth")
_OF_ROW = [field.name for field in fields(Row) if field.name not in _NESTED]


class Results:
    """A folder of results, read once.

    Raises ValueError if it holds none, or some of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.panels, self.failed = load_panels(folder)

    @cached_property
    def searches(self) -> list[SearchRecord]:
        """Every finished search."""
        return self.store.search_records()

    @cached_property
    def repeats(self) -> list[Repeats]:
        """Settings that found circuits with several seeds."""
        return repeats(self.panels, self.store)

    @property
    def curves(self) -> Sequence[Panel]:
        """The panels with more than one circuit."""
        return [panel for panel in self.panels if len(panel.rows) > 1]

    def frame(self) -> DataFrame:
        """All that tables and figures show: one line per circuit and metric.

        `value` is the mean over the test prompts, `low` and `high` its 95 % interval.
        """
        return DataFrame(
            [
                {
                    "task": panel.title,
                    "model": panel.model,
                    **{name: getattr(row, name) for name in _OF_ROW},
                    "metric": metric,
                    "value": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                }
                for panel in self.panels
                for row in panel.rows
                for metric, estimate in row.metrics.items()
            ],
            dtype=object,
        )
