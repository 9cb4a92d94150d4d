"""Every found circuit beside what the rankings give at exactly its number of edges."""

from collections.abc import Sequence

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Estimate, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table, at_size, with_interval

_CAPTION = (
    "In brackets: 95 % bootstrap interval over the test prompts; of random circuits, the least and "
    "the greatest of all draws. Rankings are cut to exactly the circuit's number of edges and, of "
    "several variants, the one best on the validation prompts at that size is shown."
)


def faithfulness(results: Results) -> list[Line]:
    """One line per circuit; the other metrics as plain means."""
    lines: list[Line] = []
    for panel in results.panels:
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
                "circuit": row.metrics[panel.metric],
            }
            same = [
                other for other in rankings if (other.edges, other.seed) == (row.edges, row.seed)
            ]
            for method in methods:
                line |= at_size(panel, [other for other in same if other.method == method])
            others = {name: row.metrics[name].mean for name in row.metrics if name != panel.metric}
            lines.append(line | others)
    return lines


def _show(lines: Sequence[Line]) -> list[Line]:
    """Sparsities in percent; values with their intervals and variants."""
    return [
        {
            **_circuit(line),
            "sparsity, %": f"{100 * line['sparsity']:.2f}",
            "live, %": f"{100 * line['live_sparsity']:.2f}",
            "metric": line["metric"],
            **{
                name: f"{with_interval(value)} {line.get(f'{name} variant', '')}".rstrip()
                for name, value in _estimates(line).items()
            },
        }
        for line in lines
    ]


def _show_briefly(lines: Sequence[Line]) -> list[Line]:
    """Values alone."""
    return [
        {
            **_circuit(line),
            "sparsity, %": f"{100 * line['sparsity']:.2f}",
            "metric": line["metric"],
            **{name: f"{value.mean:.3g}" for name, value in _estimates(line).items()},
        }
        for line in lines
    ]


def _circuit(line: Line) -> Line:
    return {name: line[name] for name in ("task", "method", "setting", "seed", "edges")}


def _estimates(line: Line) -> dict[str, Estimate]:
    return {name: value for name, value in line.items() if isinstance(value, Estimate)}


TABLE = Table("faithfulness", _CAPTION, faithfulness, _show, _show_briefly)
