"""The scaling table: every method at one sparsity, for each number of training examples.

A searched method has the circuit of its nearest trial, and the cost of that discovery alone;
rankings are cut at exactly the sparsity.
"""

from collections.abc import Sequence

from benchmarks.drawing.style import method_style
from benchmarks.record import SearchRecord
from benchmarks.report.panels import Estimate, Panel, Row, grouped
from benchmarks.report.published import published
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table, at_size, with_interval

_CAPTION = (
    "Every method at one sparsity, for each number of training examples. Rankings are cut at it: "
    "the variant best on the validation prompts. Other methods' settings were searched for: "
    "`trials` says how many were tried, and the circuit is the nearest. Seconds and "
    "forward-equivalents are those of its discovery alone. In brackets: 95 % bootstrap interval "
    "over the test prompts; of random circuits, the least and the greatest of all draws."
)


def examples(results: Results) -> list[Line]:
    """One line per panel, sought sparsity, method and seed, from few examples to many."""
    by_cell = grouped(results.searches, lambda search: search.found)
    sought = sorted({search.definition.search.sparsity for search in results.searches})
    lines: list[Line] = []
    for sparsity in sought:
        for panel in sorted(results.panels, key=lambda panel: (panel.task, panel.n_examples)):
            size = panel.edges_at(sparsity)
            rankings = [row for row in panel.rows if not row.is_found and row.edges == size]
            for same in grouped(rankings, lambda row: (row.method, row.seed)).values():
                lines.append(_cut(panel, same))
            for row in panel.rows:
                for search in by_cell.get(row.cell, []):
                    if search.definition.search.sparsity == sparsity:
                        lines.append(_searched(panel, row, search))
    return lines


def _show(lines: Sequence[Line]) -> list[Line]:
    return [
        {
            **{name: line[name] for name in ("task", "examples", "method", "setting", "seed")},
            "edges": line["edges"],
            "sparsity, %": f"{100 * line['sparsity']:.2f}",
            "metric": line["metric"],
            "circuit": with_interval(line["circuit"]),
            "seconds": f"{line['seconds']:,.2f}",
            "forward-equivalents": f"{line['forward_equivalents']:,.1f}",
            "trials": _trials(line),
            "published KL": line["published_kl"],
            "published seconds": line["published_seconds"],
        }
        for line in lines
    ]


def _cut(panel: Panel, rows: Sequence[Row]) -> Line:
    """A method's ranking of one seed: the variant best on validation, or all its draws."""
    column = method_style(rows[0].method).label
    found = at_size(panel, rows)
    setting = found.get(f"{column} variant", "")
    row = next(row for row in rows if not setting or row.variant == setting)
    return _line(panel, row, setting, found[column])


def _searched(panel: Panel, row: Row, search: SearchRecord) -> Line:
    goal = search.definition.search
    tried = [f"{trial.value:g}: {trial.sparsity:.5f}" for trial in search.trials]
    return _line(panel, row, row.setting, row.metrics[panel.metric]) | {
        "trials": len(tried),
        "tolerance": goal.tolerance,
        "within_tolerance": search.within_tolerance,
        "tried": f"{goal.setting}: sparsity; {', '.join(tried)}",
    }


def _line(panel: Panel, row: Row, setting: str, value: Estimate) -> Line:
    record = next(record for record in panel.records if record.name == row.cell)
    printed = published(panel.task, panel.model, row.method, panel.n_examples)
    return {
        "task": panel.task,
        "model": panel.model,
        "examples": panel.n_examples,
        "method": method_style(row.method).label,
        "setting": setting,
        "seed": row.seed,
        "edges": row.edges,
        "sparsity": row.sparsity,
        "metric": panel.metric,
        "circuit": value,
        "seconds": record.seconds,
        "forward_equivalents": record.forward_equivalents,
        "trials": None,
        "tolerance": None,
        "within_tolerance": None,
        "tried": None,
        "published_kl": printed.get("kl"),
        "published_seconds": printed.get("seconds"),
        "published_source": printed.get("source"),
    }


def _trials(line: Line) -> str | None:
    if line["trials"] is None or line["within_tolerance"]:
        return line["trials"] and str(line["trials"])
    return f"{line['trials']}, none within {100 * line['tolerance']:g} points"


TABLE = Table("examples", _CAPTION, examples, _show, _show, sources=True)
