"""How near the scores of attribution methods are to exact patching of every edge."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from scipy.stats import rankdata

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Panel, family_of, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table
from benchmarks.store import Store, first_of
from edgewise import Circuit
from methods.exact import Exact

_CAPTION = (
    "Scores of all edges against the exact effect of removing each edge alone, on the same "
    "prompts: Pearson's and Spearman's correlation, and the share of edges on whose sign both "
    "agree. Scores without a sign are compared with the absolute effect. Means over seeds."
)


def attribution(results: Results) -> list[Line]:
    """One line per task, method and settings; how circuits are cut does not matter here."""
    return [line for panel in results.panels for line in _of(panel, results.store)]


def _of(panel: Panel, store: Store) -> list[Line]:
    rows = [row for row in panel.rows if family_of(row.method) != "masks"]
    cells = {row.cell: row for row in rows}
    exact = {
        row.seed: scores
        for row in cells.values()
        if row.method == Exact.name and (scores := _signed(store, row.cell)) is not None
    }
    found: dict[tuple[str, str, int], tuple[float, float, float | None]] = {}
    for row in cells.values():
        scores = _signed(store, row.cell)
        if scores is not None and row.seed in exact and row.method != Exact.name:
            key = row.method, _without_selection(row.setting), row.seed
            found.setdefault(key, _agreement(scores, exact[row.seed]))
    by_setting = grouped(list(found.items()), lambda item: item[0][:2])
    return [
        {
            "task": panel.title,
            "model": panel.model,
            "method": method_style(method).label,
            "setting": setting,
            "seeds": len(group),
            "pearson": fmean(pearson for _, (pearson, _, _) in group),
            "spearman": fmean(spearman for _, (_, spearman, _) in group),
            "signs": _mean([signs for _, (_, _, signs) in group if signs is not None]),
        }
        for (method, setting), group in by_setting.items()
    ]


def _signed(store: Store, cell: str) -> np.ndarray | None:
    """The signed scores of all edges, if the cell found some."""
    found = first_of(store.discovery(cell))
    if isinstance(found, Circuit) or "signed" not in found.extra:
        return None
    return found.extra["signed"][found.graph.legal].double().numpy()


def _without_selection(setting: str) -> str:
    parts = [part for part in setting.split(", ") if not part.startswith("selection=")]
    return ", ".join(parts)


def _agreement(scores: np.ndarray, exact: np.ndarray) -> tuple[float, float, float | None]:
    """Pearson's and Spearman's correlation and, of scores with a sign, the share of equal ones."""
    has_sign = bool((scores < 0).any())
    exact = exact if has_sign else np.abs(exact)
    told = (scores != 0) & (exact != 0)
    signs = float((np.sign(scores) == np.sign(exact))[told].mean()) if has_sign else None
    return _correlation(scores, exact), _correlation(rankdata(scores), rankdata(exact)), signs


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _show(lines: Sequence[Line]) -> list[Line]:
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "seeds")},
            **{name: f"{line[name]:.2f}" for name in ("pearson", "spearman")},
            "same sign": "" if line["signs"] is None else f"{line['signs']:.2f}",
        }
        for line in lines
    ]


TABLE = Table("attribution", _CAPTION, attribution, _show)
