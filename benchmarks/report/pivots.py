"""Tables for papers: methods by tasks and sparsities, in LaTeX, as wide as a column or a page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from string import ascii_lowercase

from tabulate import LATEX_ESCAPE_RULES

from benchmarks.record import FAILED, UNSUPPORTED, Damaged, Definition, Unfinished
from benchmarks.report.comparison import (
    DEFAULT_SPARSITIES,
    Comparison,
    Contender,
    Entry,
    compare,
    labels_of,
    nearest_measured,
)
from benchmarks.report.panels import Panel, grouped
from benchmarks.report.table import write_text
from benchmarks.store import Store

COLUMN_CHARACTERS = 56
"""What a column of 3.25 inches holds at 8 pt."""
NAME = "pivot"
_ESCAPED = str.maketrans(LATEX_ESCAPE_RULES) | str.maketrans(
    {"‖": r"$\Vert$", "−": "$-$", "×": r"$\times$", "τ": r"$\tau$", "≥": r"$\ge$", "≤": r"$\le$"}
)


@dataclass(frozen=True, eq=False)
class Column:
    """A task at the measured sparsity nearest to those that were asked for.

    `comparison` is None where fewer than two methods can be compared.
    """

    panel: Panel
    asked: list[float]
    sparsity: float
    comparison: Comparison | None

    @property
    def entries(self) -> Sequence[Entry]:
        return self.comparison.entries if self.comparison else ()

    @property
    def left_out(self) -> Mapping[Contender, str]:
        """What was run and has no entry, and why."""
        if self.comparison:
            return self.comparison.left_out
        every = (Contender(row.method, row.is_found) for row in self.panel.rows)
        return dict.fromkeys(every, "fewer than two methods to compare on the same prompts")


def columns(
    panels: Iterable[Panel], store: Store, sparsities: Sequence[float] | None = None
) -> list[Column]:
    """For each panel, the measured sparsities nearest to those asked for.

    If `sparsities` is None, these are those of `DEFAULT_SPARSITIES` at which methods can be
    compared. Compiled programs are left out: their true circuits say more than any metric does.
    """
    found: dict[tuple[Panel, float], Column] = {}
    for panel in panels:
        if panel.records[0].true_circuits:
            continue
        for asked in DEFAULT_SPARSITIES if sparsities is None else sparsities:
            at = asked if sparsities is None else nearest_measured(panel, asked)
            if (panel, at) not in found:
                found[panel, at] = Column(panel, [], at, compare(panel, store, at))
            found[panel, at].asked.append(asked)
    return [one for one in found.values() if sparsities or one.comparison]


def write_pivots(
    columns: Sequence[Column],
    failed: Sequence[Unfinished | Damaged],
    folder: Path,
    *parts: str,
    stem: str = NAME,
) -> list[Path]:
    """One table for each primary metric and model, named `STEM-METRIC`, then `parts`."""
    kinds = grouped(columns, lambda one: (one.panel.metric, one.panel.model))
    written: list[Path] = []
    for (metric, model), group in kinds.items():
        same = sum(metric == other for other, _ in kinds)
        of_model = [re.sub("[^A-Za-z0-9.]+", "-", model)] if same > 1 else []
        name = "-".join([stem, metric, *of_model, *parts])
        written.append(write_text(folder / f"{name}.tex", pivot(group, name, failed)))
    return written


def pivot(
    columns: Sequence[Column], label: str, failed: Sequence[Unfinished | Damaged] = ()
) -> str:
    """A float for \\input; the best value and all not significantly worse are bold.

    Where a method has no value, a letter stands for the reason, which the caption gives.
    """
    tasks = list(grouped(columns, lambda one: one.panel.title).values())
    labels = labels_of(_contenders(columns))
    reasons: dict[str, str] = {}
    lines = [
        " & ".join(
            [
                latex_text(name),
                *(_cell(one, contender, failed, reasons) for one in columns),
            ]
        )
        + r" \\"
        for contender, name in labels.items()
    ]
    heads = [
        rf"\multicolumn{{{len(group)}}}{{c}}{{{latex_text(group[0].panel.heading)}}}"
        for group in tasks
    ]
    sizes = [rf"{100 * one.sparsity:g}\,\%" for one in columns]
    environment = "table*" if _characters(labels, columns) > COLUMN_CHARACTERS else "table"
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            rf"\begin{{{environment}}}[t]",
            r"\centering\fontsize{8}{9.6}\selectfont\setlength{\tabcolsep}{3.5pt}",
            rf"\caption{{{caption(columns, reasons)}}}",
            rf"\label{{tab:{label}}}",
            r"\vspace{4pt}",
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
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


def caption(columns: Sequence[Column], reasons: Mapping[str, str]) -> str:
    """About this table alone: metric, model, prompts, what is bold, and why cells are empty."""
    panel = columns[0].panel
    metric = panel.records[0].metrics[panel.metric]
    words = (
        f"{metric.unit} ({metric.better} is better) of circuits of {_model(columns)} at each "
        f"sparsity, the mean over {_prompts(columns)} test prompts{_seeds(columns)}. Bold: the "
        "best, and all not significantly worse (paired bootstrap over prompts, 95 %, "
        "Holm-corrected)."
    )
    if any(entry.is_found for one in columns for entry in one.entries):
        words += " Circuits found whole have 75 to 100 % of the edges."
    asked_for = [(one, asked) for one in columns for asked in one.asked if asked != one.sparsity]
    for (asked, at), group in grouped(asked_for, lambda pair: (pair[1], pair[0].sparsity)).items():
        tasks = "; ".join(one.panel.heading for one, _ in group)
        words += f" {100 * at:g} % is the measured sparsity nearest to {100 * asked:g} % ({tasks})."
    noted = "; ".join(
        rf"\textsuperscript{{{letter}}}\,{latex_text(reason)}" for reason, letter in reasons.items()
    )
    return latex_text(words) + (f" Empty: {noted}." if noted else "")


def latex_text(words: str) -> str:
    """Plain words for LaTeX."""
    return words.translate(_ESCAPED)


def _model(columns: Sequence[Column]) -> str:
    counts = sorted({one.panel.n_edges for one in columns})
    return f"{columns[0].panel.model} ({' or '.join(f'{n:,}' for n in counts)} edges)"


def _prompts(columns: Sequence[Column]) -> str:
    counts = sorted({one.panel.records[0].n_prompts.test for one in columns})
    return " or ".join(f"{count:,}" for count in counts)


def _seeds(columns: Sequence[Column]) -> str:
    """How many seeds the values are of; nothing where there is no value."""
    counts = sorted({len(one.comparison.seeds) for one in columns if one.comparison})
    if not counts:
        return ""
    return f" of {' or '.join(map(str, counts))} {'seed' if counts == [1] else 'seeds'}"


def _rules(spans: Sequence[int]) -> str:
    rules, start = [], 2
    for span in spans:
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    return "".join(rules)


def _contenders(columns: Sequence[Column]) -> list[Contender]:
    """All compared or left out, by their mean place; a missing one counts as last."""
    places = [[entry.contender for entry in one.entries] for one in columns]
    every = dict.fromkeys(
        [named for own in (*places, *(one.left_out for one in columns)) for named in own]
    )

    def mean_place(one: Contender) -> float:
        return fmean(own.index(one) if one in own else len(own) for own in places)

    return sorted(every, key=mean_place)


def _cell(
    one: Column,
    contender: Contender,
    failed: Sequence[Unfinished | Damaged],
    reasons: dict[str, str],
) -> str:
    """The value, or a letter for why there is none; new reasons get the next letter."""
    entry = next((entry for entry in one.entries if entry.contender == contender), None)
    if entry is None:
        reason = _why_empty(one, contender, failed)
        letter = reasons.setdefault(reason, ascii_lowercase[len(reasons)])
        return rf"\textsuperscript{{{letter}}}"
    text = number(entry.value.mean)
    return rf"\textbf{{{text}}}" if entry.is_level else text


def _why_empty(one: Column, contender: Contender, failed: Sequence[Unfinished | Damaged]) -> str:
    if contender in one.left_out:
        return one.left_out[contender]
    kinds = {
        cell.status
        for cell in failed
        if isinstance(cell, Unfinished)
        and cell.definition.method == contender.method
        and _is_of(cell.definition, one.panel)
    }
    if FAILED in kinds:
        return "failed"
    return "not supported on this task" if UNSUPPORTED in kinds else "not run on this task"


def _is_of(definition: Definition, panel: Panel) -> bool:
    """Whether a cell's bench is the panel's, whatever the seed.

    One without an ablation has the task's own, which is the panel's if others of it have none.
    """
    ablations = {panel.records[0].ablation, *(one.definition.ablation for one in panel.records)}
    own, of_panel = (
        {**one.bench(), "seed": None, "ablation": None}
        for one in (definition, panel.records[0].definition)
    )
    return own == of_panel and definition.ablation in ablations


def number(value: float) -> str:
    """Three significant digits, and no more than four after the point."""
    if abs(value) < 0.00005:
        return "$<$0.0001" if abs(value) > 1e-7 else "0"
    return f"{value:.4f}" if abs(value) < 0.01 else f"{value:#.3g}".rstrip(".")


def _characters(labels: Mapping[Contender, str], columns: Sequence[Column]) -> int:
    return max(map(len, labels.values())) + 7 * len(columns)
