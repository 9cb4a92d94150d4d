"""The report's tables: lists of plain numbers for CSV, and what is shown of them to people."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Any

from tabulate import LATEX_ESCAPE_RULES, tabulate

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Estimate, Panel, Row, grouped
from benchmarks.report.published import published
from benchmarks.store import Record

Line = dict[str, Any]

_LATEX_SYMBOLS = str.maketrans(
    {"‖": r"$\Vert$", "−": "$-$", "×": r"$\times$", "τ": r"$\tau$", "≥": r"$\ge$", "≤": r"$\le$"}
)
_LATEX = str.maketrans(LATEX_ESCAPE_RULES) | _LATEX_SYMBOLS


def faithfulness(panels: Iterable[Panel]) -> list[Line]:
    """Every found circuit beside what the rankings give at exactly its number of edges."""
    lines: list[Line] = []
    for panel in panels:
        rankings = [row for row in panel.rows if not row.is_found]
        methods = list(grouped(rankings, lambda row: row.method))
        for row in panel.rows:
            if not row.is_found:
                continue
            line = {
                "task": panel.title,
                "model": panel.model,
                "method": method_style(row.method).label,
                "setting": row.setting,
                "seed": row.seed,
                "edges": row.edges,
                "sparsity": row.sparsity,
                "live_sparsity": row.live_sparsity,
                "metric": panel.metric,
                **estimate("circuit", row.metrics[panel.metric]),
            }
            same = [
                other for other in rankings if (other.edges, other.seed) == (row.edges, row.seed)
            ]
            for method in methods:
                line |= at_size(panel, [other for other in same if other.method == method])
            others = {name: row.metrics[name].mean for name in row.metrics if name != panel.metric}
            lines.append(line | others)
    return lines


def show_faithfulness(lines: Iterable[Line], *, brief: bool = False) -> list[Line]:
    """Sparsities in percent; values with their intervals and variants, or in brief alone."""
    shown = []
    for line in lines:
        cells = {name: line[name] for name in ("task", "method", "setting", "seed", "edges")}
        cells["sparsity, %"] = f"{100 * line['sparsity']:.2f}"
        if not brief:
            cells["live, %"] = f"{100 * line['live_sparsity']:.2f}"
        cells["metric"] = line["metric"]
        for name in (name.removesuffix(" low") for name in line if name.endswith(" low")):
            cells[name] = f"{line[name]:.3g}"
            if not brief:
                cells[name] = f"{with_interval(line, name)} {line.get(f'{name} variant', '')}"
                cells[name] = cells[name].rstrip()
        shown.append(cells)
    return shown


def with_interval(line: Line, name: str) -> str:
    """An estimate's three columns as one."""
    return f"{line[name]:.3g} [{line[f'{name} low']:.3g}, {line[f'{name} high']:.3g}]"


def runtime(panels: Iterable[Panel]) -> list[Line]:
    """What each setting cost, the median over its runs, beside the papers' published seconds."""
    lines: list[Line] = []
    for panel in panels:
        by_name = {record["name"]: record for record in panel.records}
        one_row_each = {row.cell: row for row in panel.rows}.values()
        groups = grouped(one_row_each, lambda row: (row.method, row.setting))
        for (method, setting), rows in groups.items():
            records = [by_name[row.cell] for row in rows]
            printed = published(panel.task, method, panel.n_examples)
            lines.append(
                {
                    "task": panel.title,
                    "model": panel.model,
                    "method": method_style(method).label,
                    "setting": setting,
                    "runs": len(records),
                    "seconds": median(record["seconds"] for record in records),
                    "peak_mb": median(record["peak_bytes"] for record in records) / 2**20,
                    "forward_equivalents": median(
                        record["forward_equivalents"] for record in records
                    ),
                    "prompts": panel.n_examples,
                    "published_seconds": printed.get("seconds"),
                    "published_source": printed.get("source") if "seconds" in printed else None,
                }
            )
    return lines


def show_runtime(lines: Iterable[Line]) -> list[Line]:
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "runs")},
            "seconds": f"{line['seconds']:,.2f}",
            "peak MB": f"{line['peak_mb']:,.0f}",
            "forward-equivalents": f"{line['forward_equivalents']:,.1f}",
            "prompts": f"{line['prompts']:,}",
            "published seconds": _or_blank(line["published_seconds"]),
        }
        for line in lines
    ]


def recovery(panels: Iterable[Panel]) -> list[Line]:
    """How often a true circuit was found; rankings are cut to a true circuit's size."""
    lines: list[Line] = []
    for panel in panels:
        sizes = sorted(set(panel.records[0]["true_circuits"]))
        rows = [row for row in panel.rows if sizes and (row.is_found or row.edges in sizes)]
        for (method, setting), group in grouped(
            rows, lambda row: (row.method, row.setting)
        ).items():
            truths = [row.truth for row in group if row.truth is not None]
            lines.append(
                {
                    "task": panel.title,
                    "true_edges": " or ".join(map(str, sizes)),
                    "method": method_style(method).label,
                    "setting": setting,
                    "runs": len(truths),
                    "exact": sum(truth["exact"] for truth in truths),
                    "edges": fmean(row.edges for row in group),
                    **{
                        name: fmean(truth[name] for truth in truths)
                        for name in ("missing", "extra", "precision", "recall")
                    },
                }
            )
    return lines


def show_recovery(lines: Iterable[Line]) -> list[Line]:
    return [
        {
            "task": line["task"],
            "true edges": line["true_edges"],
            "method": line["method"],
            "setting": line["setting"],
            "exact": f"{line['exact']}/{line['runs']}",
            **{name: f"{line[name]:.4g}" for name in ("edges", "missing", "extra")},
            **{name: f"{line[name]:.2f}" for name in ("precision", "recall")},
        }
        for line in lines
    ]


def without_results(records: Iterable[Record]) -> list[Line]:
    """Cells that failed or that a method does not support, and why."""
    return [
        {
            "task": record["definition"]["task"],
            "method": method_style(record["definition"]["method"]).label,
            "seed": record["definition"]["seed"],
            "status": record["status"],
            "reason": record["error"]["message"],
        }
        for record in records
    ]


def show_record(record: Record) -> str:
    """One cell's circuits and what they cost."""
    lines = [
        {
            **({"draw": row["draw"]} if "draw" in row else {}),
            "edges": row["edges"],
            "sparsity, %": f"{100 * row['sparsity']:.2f}",
            "live, %": f"{100 * row['live_sparsity']:.2f}",
            **{name: f"{value:.4g}" for name, value in row["metrics"].items()},
            **row.get("truth", {}),
        }
        for row in record["rows"]
    ]
    return (
        f"{aligned(lines, 'simple')}\n\n"
        f"{record['seconds']:.1f} s, {record['peak_bytes'] / 2**20:,.0f} MB, "
        f"{record['forward_equivalents']:,.1f} forward-equivalents of "
        f"{record['n_prompts']['train']:,} prompts; graph of {record['graph']}, "
        f"{record['ablation']} ablation, {record['n_prompts']['test']:,} test prompts"
    )


def aligned(lines: Sequence[Line], layout: str) -> str:
    """The table as text, in one of tabulate's layouts."""
    columns = _columns(lines)
    cells = [[_or_blank(line.get(name)) for name in columns] for line in lines]
    numeric = [all(_is_number(line.get(name)) for line in lines) for name in columns]
    return tabulate(
        cells,
        columns,
        tablefmt=layout,
        disable_numparse=True,
        colalign=["right" if right else "left" for right in numeric],
    )


def latex(lines: Sequence[Line], caption: str, label: str) -> str:
    """The table as a float for \\input, no wider than the text; `words` in typewriter type."""
    words = re.sub(r"`(.*?)`", r"\\texttt{\1}", caption.translate(_LATEX))
    return (
        "% \\usepackage{booktabs,graphicx}\n"
        "\\begin{table}[htbp]\n\\centering\\footnotesize\n"
        f"\\caption{{{words}}}\n\\label{{tab:{label}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"{aligned(lines, 'latex_booktabs').translate(_LATEX_SYMBOLS)}%\n}}\n\\end{{table}}\n"
    )


def comma_separated(lines: Sequence[Line]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(lines), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _columns(lines: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line))


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


def at_size(panel: Panel, rows: Sequence[Row]) -> Line:
    """A method's ranking at one size: the variant best on validation there, or all draws."""
    if not rows:
        return {}
    label = method_style(rows[0].method).label
    if rows[0].draw is not None:
        values = [row.metrics[panel.metric].mean for row in rows]
        return estimate(label, Estimate(fmean(values), min(values), max(values)))
    best = panel.best(rows)
    chosen = next(row for row in rows if row.variant == best)
    return estimate(label, chosen.metrics[panel.metric]) | {f"{label} variant": best}


def estimate(name: str, value: Estimate) -> Line:
    """A mean and its interval as three columns."""
    return {name: value.mean, f"{name} low": value.low, f"{name} high": value.high}
