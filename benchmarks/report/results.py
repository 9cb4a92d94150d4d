"""What a report is made from: a folder's panels, and what its tables and figures read besides."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pandas import DataFrame

from benchmarks.report.panels import Panel, load_panels
from benchmarks.report.repeats import Repeats, repeats
from benchmarks.store import Record, Store


class Results:
    """A folder of results, read once.

    Raises ValueError if it holds none, or some of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.panels, self.failed = load_panels(folder)

    @cached_property
    def searches(self) -> list[Record]:
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
                    "method": row.method,
                    "setting": row.setting,
                    "variant": row.variant,
                    "seed": row.seed,
                    "draw": row.draw,
                    "found": row.is_found,
                    "matched": row.is_matched,
                    "edges": row.edges,
                    "sparsity": row.sparsity,
                    "live_sparsity": row.live_sparsity,
                    "metric": metric,
                    "value": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                    "cell": row.cell,
                }
                for panel in self.panels
                for row in panel.rows
                for metric, estimate in row.metrics.items()
            ],
            dtype=object,
        )
