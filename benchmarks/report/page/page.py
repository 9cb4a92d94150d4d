"""The page is put together: the answer, charts, tables and what ran where, in one file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.drawing.style import method_style
from benchmarks.report.captions import captions
from benchmarks.report.comparison import RULE, Comparison, Contender, comparisons, labels_of
from benchmarks.report.page import charts
from benchmarks.report.page.answer import answer, interval
from benchmarks.report.page.circuits import STRONGEST, explored
from benchmarks.report.page.controls import Spec
from benchmarks.report.page.curves import curves_chart
from benchmarks.report.page.data import costs, curves, metric_units, overlaps, runtimes
from benchmarks.report.page.explorer import explorer_chart
from benchmarks.report.page.looks import DARK_GROUND, LIGHT_GROUND, Look, looks_of
from benchmarks.report.panels import grouped
from benchmarks.report.pivots import number
from benchmarks.report.results import Results
from benchmarks.report.table import Line, write_text
from benchmarks.report.tables import TABLES

PAGE = "report.html"
LEADERBOARD = "leaderboard.csv"
"""In `tables`, where there is one: the page has a section with it."""


@dataclass(frozen=True)
class Table:
    """A table as text, and which of its columns hold numbers."""

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool] = field(default_factory=list)


def write_page(results: Results, folder: Path) -> Path:
    """One file that needs no network."""
    return write_text(folder / PAGE, page(results, folder))


def page(results: Results, folder: Path) -> str:
    """The page's text."""
    found = comparisons(results.panels, results.store)
    looks = looks_of(record.definition.method for p in results.panels for record in p.records)
    graphs = explored(results, [one.best.cells[0] for one in found[:1]])
    drawn = _charts(results, found, looks)
    explorers = [explorer_chart(graph) for graph in graphs]
    template = Environment(
        loader=PackageLoader("benchmarks.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.j2")
    return template.render(
        name=folder.resolve().name,
        models=dict.fromkeys(panel.model for panel in results.panels),
        answer=answer(results, found),
        pivot=_pivot(found),
        rule=RULE,
        facts=captions(results.panels),
        looks=looks,
        tables=[_table(table, results) for table in TABLES if table.rows(results)],
        leaderboard=_leaderboard(folder),
        shown=list(drawn),
        graphs=graphs,
        strongest=STRONGEST,
        environments=_environments(results),
        light=LIGHT_GROUND,
        dark=DARK_GROUND,
        specs=_script({**drawn, "explorers": explorers}),
        library=Markup(_library()),
    )


def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    return vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]


def _charts(
    results: Results, found: Sequence[Comparison], looks: Sequence[Look]
) -> dict[str, Spec]:
    """By the id of its place; only those that there are data for."""
    panels = results.panels
    data = curves(panels)
    shown = {row.method for p in panels for row in p.rows if row.is_found or row.draw is not None}
    shown |= {method for panel in panels for method in panel.best_rankings()}
    ticked = [look.label for look in looks_of(sorted(shown))]
    drawn = {"curves": curves_chart(data, metric_units(panels), looks, ticked)}
    if found:
        drawn["costs"] = charts.costs_chart(costs(found), looks)
    spent = runtimes(panels)
    drawn["runtimes"] = charts.runtimes_chart(spent, looks)
    if len({datum["graph"] for datum in spent}) > 1:
        drawn["growth"] = charts.growth_chart(spent, looks)
    if results.repeats:
        drawn["overlaps"] = charts.overlaps_chart(overlaps(results.repeats), looks)
    return drawn


def _script(value: Any) -> Markup:
    """JSON that no part of a page can be mistaken for."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _pivot(found: Sequence[Comparison]) -> Mapping[str, Any] | None:
    """Contenders by tasks and sparsities, those that are level with the best most often first."""
    if not found:
        return None
    cells: dict[Contender, dict[int, Any]] = {}
    level: dict[Contender, int] = {}
    for place, one in enumerate(found):
        for entry in one.entries:
            cells.setdefault(entry.contender, {})[place] = {
                "text": number(entry.value.mean).replace("$", ""),
                "title": f"{interval(entry.value)}, {entry.edges:,.0f} edges"
                + (f", {entry.variant}" if entry.variant else ""),
                "level": entry.is_level,
                "value": entry.value.mean,
            }
            level[entry.contender] = level.get(entry.contender, 0) + entry.is_level
    labels = labels_of(sorted(cells, key=lambda one: -level[one]))
    tasks = grouped(found, lambda one: one.panel.heading)
    return {
        "tasks": [
            (task, len(group), group[0].panel.records[0].metrics[group[0].panel.metric].unit)
            for task, group in tasks.items()
        ],
        "sparsities": [f"{100 * one.sparsity:g} %" for one in found],
        "rows": [
            {
                "label": label,
                "method": method_style(one.method).label,
                "cells": [cells[one].get(place) for place in range(len(found))],
                "level": level[one],
            }
            for one, label in labels.items()
        ],
    }


def _table(table: Any, results: Results) -> Table:
    lines = table.rows(results)
    return shown_table(table.name, table.caption_of(lines), table.show(lines))


def shown_table(name: str, caption: str, lines: Sequence[Line]) -> Table:
    """Columns in which no line has a value are left out."""
    names = dict.fromkeys(column for line in lines for column in line)
    columns = [column for column in names if any(_text(line.get(column)) for line in lines)]
    rows = [[_text(line.get(column)) for column in columns] for line in lines]
    numeric = [all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    title = name.replace("_", " ").capitalize()
    return Table(name, title, caption, columns, rows, numeric)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if type(value) is int else str(value)


def _is_number(text: str) -> bool:
    start = text.partition(" ")[0].replace(",", "").replace("−", "-")
    try:
        float(start or 0)
    except ValueError:
        return False
    return True


def _leaderboard(folder: Path) -> Table | None:
    path = folder / "tables" / LEADERBOARD
    if not path.is_file():
        return None
    import pandas

    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    return shown_table("leaderboard", "", frame.to_dict("records"))


def _environments(results: Results) -> list[Mapping[str, Any]]:
    """Where cells were run, and how many."""
    records = [record for panel in results.panels for record in panel.records]
    groups = grouped(
        records,
        lambda record: json.dumps(
            {**record.environment.as_json(), "jobs": None, "processes": None}, sort_keys=True
        ),
    )
    return [
        {
            "cells": len(group),
            "device": group[0].environment.device_name,
            "platform": group[0].environment.platform,
            "python": group[0].environment.python,
            "packages": ", ".join(f"{k} {v}" for k, v in group[0].environment.packages.items()),
            "commit": (group[0].environment.commit or "unknown")[:12],
            "jobs": ", ".join(map(str, sorted({record.environment.jobs for record in group}))),
            "memory": ", ".join(sorted({record.peak_memory_source for record in group})),
        }
        for group in groups.values()
    ]
