"""What the page's charts are drawn from: one record per circuit size, its seeds taken together."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from benchmarks.drawing.style import method_style
from benchmarks.record import Finished
from benchmarks.report.comparison import Comparison
from benchmarks.report.panels import Estimate, Panel, Row, grouped
from benchmarks.report.repeats import Repeats

Datum = dict[str, Any]


def curves(panels: Iterable[Panel]) -> list[Datum]:
    """The rankings at each size on the grid, and the circuits of each setting.

    `value` of a metric is the mean over seeds with their range or, of one seed, the mean over
    prompts with its 95 % interval; of random circuits, the median of all draws with their range.
    """
    return [datum for panel in panels for datum in _of_panel(panel)]


def _of_panel(panel: Panel) -> list[Datum]:
    records = {record.name: record for record in panel.records}
    best = {rows[0].method: rows[0].variant for rows in panel.rankings().values()}
    shown = [row for row in panel.rows if row.edges > 0 and not row.is_matched]
    data: list[Datum] = []
    for (is_found, method, name), rows in grouped(
        shown, lambda row: (row.is_found, row.method, row.setting if row.is_found else row.variant)
    ).items():
        sizes = [rows] if is_found else grouped(rows, lambda row: row.edges).values()
        data += [
            {
                "task": panel.heading,
                "method": method_style(method).label,
                "variant": name,
                "found": is_found,
                "best": is_found or best.get(method, name) == name,
                "primary": panel.metric,
                **_size(group, panel),
                **_cost([records[row.cell] for row in group]),
                **_metrics(group),
            }
            for group in sizes
        ]
    return data


def _size(rows: Sequence[Row], panel: Panel) -> Datum:
    edges = fmean(row.edges for row in rows)
    sizes = [row.edges for row in rows]
    spread = {"edges_low": min(sizes), "edges_high": max(sizes)} if len(set(sizes)) > 1 else {}
    kept = edges / panel.n_edges
    return {"edges": round(edges, 1), "kept": _short(kept), "sparsity": _short(1 - kept), **spread}


def _cost(records: Sequence[Finished]) -> Datum:
    return {
        "seconds": _short(median(record.seconds for record in records)),
        "passes": _short(median(record.forward_equivalents for record in records)),
    }


def _metrics(rows: Sequence[Row]) -> Datum:
    data: Datum = {"of": _what_of(rows)}
    for name in rows[0].metrics:
        estimates = [row.metrics[name] for row in rows if name in row.metrics]
        mean, low, high = _together(estimates, is_draws=rows[0].draw is not None)
        data |= {name: _short(mean), f"{name}_low": _short(low), f"{name}_high": _short(high)}
    return data


def _together(estimates: Sequence[Estimate], *, is_draws: bool) -> Estimate:
    if len(estimates) == 1:
        return estimates[0]
    means = [estimate.mean for estimate in estimates]
    middle = median(means) if is_draws else fmean(means)
    return Estimate(middle, min(means), max(means))


def _what_of(rows: Sequence[Row]) -> str:
    """What the interval is."""
    seeds = sorted({row.seed for row in rows})
    if rows[0].draw is not None:
        return f"median and range of {len(rows)} draws"
    if len(seeds) > 1:
        return f"mean and range of {len(seeds)} seeds"
    if len(rows) > 1:
        return f"mean and range of {len(rows)} circuits"
    return f"95 % interval, seed {seeds[0]}"


def costs(found: Iterable[Comparison]) -> list[Datum]:
    """Every method at each sparsity at which methods are compared."""
    return [
        {
            "at": f"{one.panel.heading}, {100 * one.sparsity:g} %",
            "task": one.panel.heading,
            "sparsity": one.sparsity,
            "method": entry.label,
            "variant": entry.variant,
            "edges": round(entry.edges, 1),
            "value": _short(entry.value.mean),
            "low": _short(entry.value.low),
            "high": _short(entry.value.high),
            "unit": one.panel.records[0].metrics[one.panel.metric].unit,
            "seconds": _short(entry.seconds),
            "passes": _short(entry.forward_equivalents),
            "level": "not significantly worse than the best" if entry.is_level else "worse",
        }
        for one in found
        for entry in one.entries
    ]


def runtimes(panels: Iterable[Panel]) -> list[Datum]:
    """The cost of every discovery, and the size of its graph."""
    return [
        {
            "task": panel.heading,
            "model": panel.model,
            "graph": panel.n_edges,
            "prompts": panel.n_examples,
            "method": method_style(record.definition.method).label,
            "seconds": _short(record.seconds),
            "passes": _short(record.forward_equivalents),
            "megabytes": _short(record.peak_bytes / 2**20),
            "device": record.environment.device_name,
        }
        for panel in panels
        for record in panel.discoveries
    ]


def overlaps(found: Iterable[Repeats]) -> list[Datum]:
    """Of each setting with several seeds, every pair's overlap and what chance would give."""
    return [
        {
            "task": setting.panel.heading,
            "method": method_style(setting.method).label,
            "setting": setting.setting or "as declared",
            "overlap": _short(overlap),
            "chance": _short(chance),
        }
        for setting in found
        for overlap, chance in zip(setting.overlaps, setting.chances, strict=True)
    ]


def metric_units(panels: Iterable[Panel]) -> Mapping[str, str]:
    """Every metric's name in print, primary ones first, with which direction is good."""
    panels = list(panels)
    primary = [panel.metric for panel in panels]
    names = dict.fromkeys([*primary, *(m for panel in panels for m in panel.records[0].metrics)])
    found = {name: one for p in panels for name, one in p.records[0].metrics.items()}
    return {name: f"{found[name].unit} ({found[name].better} is better)" for name in names}


def _short(value: float) -> float:
    """Four significant digits: no chart shows more."""
    return float(f"{value:.4g}")
