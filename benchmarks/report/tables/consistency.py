"""How alike the circuits are that one setting finds with different seeds."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Estimate
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table, spread

_CAPTION = (
    "Circuits that one setting found with different seeds: means, in brackets the least and the "
    "greatest. Overlap of two circuits: edges in both over edges in either; `chance` is that "
    "expected of random circuits of the same sizes."
)


def consistency(results: Results) -> list[Line]:
    """One line per setting: its seeds, and means and ranges of sparsity and overlap."""
    return [
        {
            "task": setting.panel.title,
            "model": setting.panel.model,
            "method": method_style(setting.method).label,
            "setting": setting.setting,
            "seeds": len(setting.sparsities),
            "sparsity": spread(setting.sparsities),
            "overlap": spread(setting.overlaps),
            "chance": fmean(setting.chances),
        }
        for setting in results.repeats
    ]


def _show(lines: Sequence[Line]) -> list[Line]:
    """Sparsities in percent, ranges in brackets."""
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "seeds")},
            "sparsity, %": _range(line["sparsity"], 100),
            "overlap": _range(line["overlap"]),
            "chance": f"{line['chance']:.3f}",
        }
        for line in lines
    ]


def _range(value: Estimate, factor: float = 1) -> str:
    mean, low, high = (f"{factor * number:.2f}" for number in value)
    return f"{mean} [{low}, {high}]"


TABLE = Table("consistency", _CAPTION, consistency, _show)
