"""The table of a cross-evaluation: circuits of two tasks on the prompts of both."""

from collections.abc import Sequence

from benchmarks.drawing.style import method_style
from benchmarks.grid.crossing import FULL, SHARED
from benchmarks.report.panels import Estimate, estimates_of, grouped
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table, with_interval

_CAPTION = (
    "The circuits of two tasks on the test prompts of both. `of the first`: the share of the first "
    "circuit's edges; `overlap`: edges in both circuits over edges in either. Settings and numbers "
    "of training examples that differ are given for each task. In brackets: 95 % bootstrap "
    "interval over the test prompts."
)
SHOWN = ("accuracy", "exact_match", "kl")
_NAMING = ("method", "setting", "examples", "seed", "circuit", "edges")


def crossed(results: Results) -> list[Line]:
    """One line per circuit; every metric on the prompts of each task."""
    by_cell = {row.cell: (panel, row) for panel in results.panels for row in panel.rows}
    examples = {
        record.name: f"{record.n_prompts.train:,}"
        for panel in results.panels
        for record in panel.records
    }
    lines: list[Line] = []
    for record in results.store.crossed_records():
        if not by_cell.keys() >= set(record.cells):
            continue
        panel, found = by_cell[record.cells[0]]
        both = [(by_cell[cell][0].task, cell) for cell in record.cells]
        setting = _of_both([(task, by_cell[cell][1].setting) for task, cell in both])
        trained = _of_both([(task, examples[cell]) for task, cell in both])
        circuits = grouped(record.rows, lambda row: row.circuit)
        sizes = {name: rows[0].edges for name, rows in circuits.items()}
        _, first, second, shared = sizes.values()
        for name, rows in circuits.items():
            line: Line = {
                "model": panel.model,
                "method": method_style(found.method).label,
                "setting": setting,
                "examples": trained,
                "seed": found.seed,
                "circuit": name if name in (FULL, SHARED) else f"{name} circuit",
                "edges": rows[0].edges,
                "sparsity": rows[0].sparsity,
                "of_first": shared / first if name == SHARED and first else None,
                "overlap": shared / max(1, first + second - shared) if name == SHARED else None,
            }
            for row in rows:
                for metric, estimate in estimates_of(row).items():
                    line[f"{metric}, {row.prompts}"] = estimate
            lines.append(line)
    return lines


def _of_both(values: Sequence[tuple[str, str]]) -> str:
    """What is said of the circuits of both tasks: once, where it is the same."""
    if len({value for _, value in values}) == 1:
        return values[0][1]
    return "; ".join(f"{task}: {value}" for task, value in values)


def _show(lines: Sequence[Line]) -> list[Line]:
    """Shares in percent, and the metrics that the paper prints, task by task."""
    shown: list[Line] = []
    for line in lines:
        estimates = {name: value for name, value in line.items() if isinstance(value, Estimate)}
        shown.append(
            {
                **{name: line[name] for name in _NAMING},
                "of the first, %": _percent(line["of_first"]),
                "overlap, %": _percent(line["overlap"]),
                **{
                    column: with_interval(value)
                    for metric in SHOWN
                    for column, value in estimates.items()
                    if column.startswith(f"{metric}, ")
                },
            }
        )
    return shown


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}"


TABLE = Table("crossed", _CAPTION, crossed, _show, _show)
