"""Tables for papers: methods by tasks and sparsities, in LaTeX, as wide as a column or a page."""

import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import LATEX_ESCAPE_RULES

from benchmarks.report.comparison import DEFAULT_SPARSITIES, Comparison, comparisons
from benchmarks.report.panels import Panel, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import write_text

COLUMN_CHARACTERS = 56
"""What a column of 3.25 inches holds at 8 pt."""
NAME = "pivot"
_ESCAPED = str.maketrans(LATEX_ESCAPE_RULES) | str.maketrans(
    {"‖": r"$\Vert$", "−": "$-$", "×": r"$\times$", "τ": r"$\tau$", "≥": r"$\ge$", "≤": r"$\le$"}
)


def write_pivots(
    results: Results, folder: Path, sparsities: Sequence[float] = DEFAULT_SPARSITIES
) -> list[Path]:
    """One table for each primary metric and model, `pivot-METRIC`; none where nothing compares."""
    found = comparisons(results.panels, results.store, sparsities)
    kinds = grouped(found, lambda one: (one.panel.metric, one.panel.model))
    written: list[Path] = []
    for (metric, model), group in kinds.items():
        same = sum(metric == other for other, _ in kinds)
        rest = f"-{re.sub('[^A-Za-z0-9.]+', '-', model)}" if same > 1 else ""
        name = f"{NAME}-{metric}{rest}"
        written.append(write_text(folder / f"{name}.tex", pivot(group, name)))
    return written


def pivot(found: Sequence[Comparison], label: str) -> str:
    """A float for \\input: best in bold, with all that are not significantly worse."""
    tasks = list(grouped(found, lambda one: one.panel.title).values())
    methods = list(dict.fromkeys(entry.label for one in found for entry in one.entries))
    mean = {method: sum(_place(one, method) for one in found) / len(found) for method in methods}
    methods.sort(key=lambda method: mean[method])
    lines = [
        " & ".join([latex_text(method), *(_cell(one, method) for one in found)]) + r" \\"
        for method in methods
    ]
    heads = [
        rf"\multicolumn{{{len(group)}}}{{c}}{{{latex_text(group[0].panel.heading)}}}"
        for group in tasks
    ]
    sizes = [rf"{100 * one.sparsity:g}\,\%" for one in found]
    environment = "table*" if _characters(methods, found) > COLUMN_CHARACTERS else "table"
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            rf"\begin{{{environment}}}[t]",
            r"\centering\fontsize{8}{9.6}\selectfont\setlength{\tabcolsep}{3.5pt}",
            rf"\caption{{{caption(found)}}}",
            rf"\label{{tab:{label}}}",
            r"\vspace{4pt}",
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(found)}@{{}}}}",
            r"\toprule",
            " & ".join(["", *heads]) + r" \\",
            _rules([len(group) for group in tasks]),
            " & ".join(["Method", *sizes]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def caption(found: Sequence[Comparison]) -> str:
    """About this table alone: the metric, the model, the prompts, what is bold."""
    panel = found[0].panel
    metric = panel.records[0].metrics[panel.metric]
    seeds = max(len(one.seeds) for one in found)
    words = (
        f"{metric.unit} ({metric.better} is better) of circuits of {_model(panel)} at each "
        f"sparsity, the mean over {_prompts(found)} test prompts of {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}. Bold: the best, and all not significantly worse "
        "(paired bootstrap over prompts, 95 %, Holm-corrected). Circuits found whole have "
        "75 to 100 % of the edges; --: no such circuit."
    )
    return latex_text(words)


def latex_text(words: str) -> str:
    """Plain words for LaTeX."""
    return words.translate(_ESCAPED)


def _model(panel: Panel) -> str:
    return f"{panel.model} ({panel.n_edges:,} edges)"


def _prompts(found: Sequence[Comparison]) -> str:
    counts = sorted({one.panel.records[0].n_prompts.test for one in found})
    return " or ".join(f"{count:,}" for count in counts)


def _rules(spans: Sequence[int]) -> str:
    rules, start = [], 2
    for span in spans:
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    return "".join(rules)


def _cell(one: Comparison, method: str) -> str:
    entry = next((entry for entry in one.entries if entry.label == method), None)
    if entry is None:
        return "--"
    text = number(entry.value.mean)
    return rf"\textbf{{{text}}}" if entry.is_level else text


def number(value: float) -> str:
    """Three significant digits, and no more than four after the point."""
    if abs(value) < 0.00005:
        return "$<$0.0001" if abs(value) > 1e-7 else "0"
    return f"{value:.4f}" if abs(value) < 0.01 else f"{value:#.3g}".rstrip(".")


def _place(one: Comparison, method: str) -> int:
    """The method's place, the last where it has none."""
    labels = [entry.label for entry in one.entries]
    return labels.index(method) if method in labels else len(labels)


def _characters(methods: Sequence[str], found: Sequence[Comparison]) -> int:
    return max(map(len, methods)) + 7 * len(found)
