"""Tables and figures of a folder: DIR/tables as Markdown, LaTeX and CSV, DIR/figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.drawing.style import save
from benchmarks.report import tables
from benchmarks.report.captions import captions, settings_of_labels
from benchmarks.report.consistency import consistency, consistency_figure, repeats, show_consistency
from benchmarks.report.crossed import cross_table, show_cross_table
from benchmarks.report.curves import faithfulness_figure, metrics_figure
from benchmarks.report.dtypes import dtypes, show_dtypes
from benchmarks.report.examples import examples, show_examples
from benchmarks.report.panels import Panel, load_panels
from benchmarks.report.recovered import recovered
from benchmarks.report.recovery_figure import recoveries, recovery_figure
from benchmarks.store import Store, write_atomically

_AGREEMENT = ("accuracy", "exact_match", "kendall_tau")
"""Metrics that say how often, or how far, a circuit decides as it should."""

_FAITHFULNESS = (
    "In brackets: 95 % bootstrap interval over the test prompts; of random circuits, the least and "
    "the greatest of all draws. Rankings are cut to exactly the circuit's number of edges and, of "
    "several variants, the one best on the validation prompts at that size is shown."
)
_RUNTIME = (
    "Seconds, peak memory and forward-equivalents are those of the discovery alone, the median "
    "over seeds. Forward-equivalents: matrix-product operations over those of one plain forward "
    "pass of the training prompts, whose number stands beside them."
)
_RECOVERY = (
    "Found circuits against the nearest true one; `exact` counts runs and, of random circuits, "
    "draws; other columns are means over them. Rankings are cut to a true circuit's size."
)
_RECOVERED = (
    "Each method's circuit nearest to a true one, of all its settings, seeds and draws: chosen by "
    "the truth. Rankings are cut to a true circuit's size."
)
_EXAMPLES = (
    "Every method at one sparsity, for each number of training examples. Rankings are cut at it: "
    "the variant best on the validation prompts. Other methods' settings were searched for: "
    "`trials` says how many were tried, and the circuit is the nearest. Seconds and "
    "forward-equivalents are those of its discovery alone. In brackets: 95 % bootstrap interval "
    "over the test prompts; of random circuits, the least and the greatest of all draws."
)
_CROSSED = (
    "The circuits of two tasks on the test prompts of both. `of the first`: the share of the first "
    "circuit's edges; `overlap`: edges in both circuits over edges in either. In brackets: 95 % "
    "bootstrap interval over the test prompts."
)
_CONSISTENCY = (
    "Circuits that one setting found with different seeds: means, in brackets the least and the "
    "greatest. Overlap of two circuits: edges in both over edges in either; `chance` is that "
    "expected of random circuits of the same sizes."
)
_DTYPES = (
    "The same cells in another dtype and in float32. `overlap`: edges in both circuits over edges "
    "in either; of a ranking, the mean over the numbers of edges that it was cut to, as are the "
    "means of the metric over the test prompts. `rank correlation`: Spearman's, over all edges."
)
_WITHOUT_RESULTS = "Cells without results, and why."


def report(folder: Path) -> tuple[list[str], list[Path]]:
    """Write all tables and figures; gives the main tables as text, and what was written.

    Raises ValueError if there are no results, or some are of a newer version.
    """
    panels, failed = load_panels(folder)
    depend = [*captions(panels), *settings_of_labels(panels)]
    costs = tables.runtime(panels)
    found, recovery = tables.faithfulness(panels), tables.recovery(panels)
    missing = tables.without_results(failed)
    best = recovered(panels)
    searches = Store(folder).search_records()
    scaling = examples(panels, searches)
    crossed = cross_table(panels, Store(folder).crossed_records())
    repeated = repeats(panels, folder)
    alike = consistency(repeated)
    agreement = dtypes(panels, folder)
    written: list[Path] = []
    for name, numbers, shown, caption in (
        ("faithfulness", found, tables.show_faithfulness(found), _FAITHFULNESS),
        ("recovery", recovery, tables.show_recovery(recovery), _RECOVERY),
        ("crossed", crossed, show_cross_table(crossed), _CROSSED),
        ("consistency", alike, show_consistency(alike), _CONSISTENCY),
        ("dtypes", agreement, show_dtypes(agreement), _DTYPES),
        ("recovered", best, best, _RECOVERED),
        ("examples", scaling, show_examples(scaling), _EXAMPLES + _sources(scaling)),
        ("runtime", costs, tables.show_runtime(costs), _RUNTIME + _sources(costs)),
        ("without_results", missing, missing, _WITHOUT_RESULTS),
    ):
        if numbers:
            written += write_table(folder / "tables", name, numbers, shown, caption, depend)
    curves = [panel for panel in panels if len(panel.rows) > 1]
    # A search ends at one sparsity: its table says it all, and the primary metric is enough.
    others = [] if searches else curves
    figures = {
        "faithfulness": faithfulness_figure(curves) if curves else None,
        "task_metric": metrics_figure(others, _task_metrics(others)),
        "agreement": metrics_figure(others, _AGREEMENT),
        "consistency": consistency_figure(repeated) if repeated else None,
    }
    for one in recoveries(panels, Store(folder)):
        figures[f"recovered-{one.panel.task}"] = recovery_figure(one)
    for name, figure in figures.items():
        if figure is not None:
            written += [save(figure, folder / "figures" / f"{name}.{k}") for k in ("png", "svg")]
    brief = tables.show_faithfulness(found, brief=True)
    main = [
        *(brief, tables.show_recovery(recovery), best, show_examples(scaling)),
        *(show_cross_table(crossed), show_dtypes(agreement), missing),
    ]
    return [tables.aligned(lines, "simple") for lines in main if lines], written


def write_table(
    folder: Path,
    name: str,
    numbers: Sequence[tables.Line],
    shown: Sequence[tables.Line],
    caption: str,
    notes: Sequence[str],
) -> list[Path]:
    """A table as Markdown and LaTeX, as `shown` to people, and as CSV with all its numbers."""
    listed = "\n".join(f"- {line}" for line in notes)
    text = f"{caption}\n\n{listed}\n\n{tables.aligned(shown, 'pipe')}\n"
    in_latex = tables.latex(shown, " ".join([caption, *notes]), name)
    return [
        _write_text(folder / f"{name}.md", text),
        _write_text(folder / f"{name}.tex", in_latex),
        _write_text(folder / f"{name}.csv", tables.comma_separated(numbers)),
    ]


def _sources(lines: Iterable[dict[str, Any]]) -> str:
    """Where the published numbers in a table come from, for its caption."""
    sources = dict.fromkeys(line["published_source"] for line in lines if line["published_source"])
    return "".join(f" Published: {source}." for source in sources)


def _task_metrics(panels: Iterable[Panel]) -> list[str]:
    """What tasks measure besides their primary metric and the agreement of choices."""
    names = [name for panel in panels for name in panel.records[0]["metrics"]]
    primary = {panel.metric for panel in panels}
    return [name for name in dict.fromkeys(names) if name not in {*primary, *_AGREEMENT}]


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path
