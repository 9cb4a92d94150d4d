"""A table: numbers for CSV, what is shown of them to people, and how both are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pandas import DataFrame

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Estimate, Panel, Row
from benchmarks.report.results import Results
from edgewise.files import write_atomically

Line = dict[str, Any]
"""A row of a table, by column. An `Estimate` has its bounds in brackets, or in columns of CSV."""

Show = Callable[[Sequence[Line]], Sequence[Line]]

SUFFIXES = (".md", ".csv")


@dataclass(frozen=True)
class Table:
    """One table of a report.

    `rows` gives its numbers, none where the table does not apply. `show` gives what Markdown shows
    of them, and `printed` what the terminal shows; None shows nothing. Tables for papers are
    others, the pivots (benchmarks/report/pivots.py).
    """

    name: str
    caption: str
    rows: Callable[[Results], Sequence[Line]]
    show: Show
    printed: Show | None = None
    sources: bool = False
    """Whether the caption names where the published numbers come from."""

    def caption_of(self, lines: Sequence[Line]) -> str:
        if not self.sources:
            return self.caption
        sources = dict.fromkeys(line["published_source"] for line in lines)
        return self.caption + "".join(f" Published: {source}." for source in sources if source)


def write_table(
    folder: Path,
    name: str,
    lines: Sequence[Line],
    shown: Sequence[Line],
    caption: str,
    notes: Sequence[str],
) -> list[Path]:
    """A table as Markdown, as `shown` to people, and as CSV with all its numbers."""
    listed = "\n".join(f"- {line}" for line in notes)
    texts = (
        f"{caption}\n\n{listed}\n\n{aligned(shown, 'pipe')}\n",
        comma_separated(_frame(list(map(_flat, lines)))),
    )
    return [
        write_text(folder / f"{name}{suffix}", text)
        for suffix, text in zip(SUFFIXES, texts, strict=True)
    ]


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def aligned(lines: Sequence[Line], layout: str) -> str:
    """The table as text, in one of tabulate's layouts: `pipe` or `simple`.

    Columns in which no line has a value are left out.
    """
    frame = _frame(lines).dropna(axis="columns", how="all")
    numeric = [all(map(_is_number, frame[name])) for name in frame.columns]
    return frame.map(_or_blank).to_markdown(
        index=False,
        tablefmt=layout,
        disable_numparse=True,
        colalign=["right" if right else "left" for right in numeric],
    )


def comma_separated(frame: DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def with_interval(value: Estimate) -> str:
    return f"{value.mean:.3g} [{value.low:.3g}, {value.high:.3g}]"


def at_size(panel: Panel, rows: Sequence[Row]) -> Line:
    """A method's ranking at one size: the variant best on validation there, or all draws."""
    if not rows:
        return {}
    label = method_style(rows[0].method).label
    if rows[0].draw is not None:
        values = [row.metrics[panel.metric].mean for row in rows]
        return {label: spread(values)}
    best = panel.best(rows)
    chosen = next(row for row in rows if row.variant == best)
    return {label: chosen.metrics[panel.metric], f"{label} variant": best}


def spread(values: Sequence[float]) -> Estimate:
    """The mean, the least and the greatest."""
    return Estimate(fmean(values), min(values), max(values))


def _frame(lines: Sequence[Line]) -> DataFrame:
    """Columns in the order in which they come up; None where a row lacks one."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    cells = [[line.get(name) for name in columns] for line in lines]
    return DataFrame(cells, columns=columns, dtype=object)


def _flat(line: Line) -> Line:
    """Every estimate as three columns."""
    flat: Line = {}
    for name, value in line.items():
        if isinstance(value, Estimate):
            flat |= {name: value.mean, f"{name} low": value.low, f"{name} high": value.high}
        else:
            flat[name] = value
    return flat


def _is_number(value: Any) -> bool:
    try:
        float(str(value).replace(",", "") or 0)
    except ValueError:
        return value is None
    return True


def _or_blank(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if type(value) is int else str(value)
