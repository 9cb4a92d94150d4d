"""The figures of a report. A new one is a function that draws it and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.report.figures import consistency, curves, methods, recovered
from benchmarks.report.results import Results


@dataclass(frozen=True)
class Plot:
    """Figures of one kind: `NAME`, or `NAME-SOMETHING` where there is one for each something.

    `draw` gives them by what follows the name: none where the kind does not apply.
    """

    name: str
    draw: Callable[[Results], Mapping[str, Figure]]


PLOTS: tuple[Plot, ...] = (
    Plot("faithfulness", curves.faithfulness),
    Plot("methods", methods.methods),
    Plot("task_metric", curves.task_metrics),
    Plot("agreement", curves.agreement),
    Plot("consistency", consistency.consistency),
    Plot("recovered", recovered.recovered),
)
