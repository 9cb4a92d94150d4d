"""What each setting cost, the median over its runs, beside the papers' published seconds."""

from collections.abc import Sequence
from statistics import median

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import grouped
from benchmarks.report.published import published
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table

_CAPTION = (
    "Seconds, peak memory and forward-equivalents are those of the discovery alone, the median "
    "over seeds. Forward-equivalents: matrix-product operations over those of one plain forward "
    "pass of the training prompts, whose number stands beside them."
)


def runtime(results: Results) -> list[Line]:
    """One line per panel and setting."""
    lines: list[Line] = []
    for panel in results.panels:
        by_name = {record.name: record for record in panel.discoveries}
        one_row_each = {row.cell: row for row in panel.rows if row.cell in by_name}.values()
        groups = grouped(one_row_each, lambda row: (row.method, row.setting))
        for (method, setting), rows in groups.items():
            records = [by_name[row.cell] for row in rows]
            printed = published(panel.task, panel.model, method, panel.n_examples)
            lines.append(
                {
                    "task": panel.title,
                    "model": panel.model,
                    "method": method_style(method).label,
                    "setting": setting,
                    "runs": len(records),
                    "seconds": median(record.seconds for record in records),
                    "peak_mb": median(record.peak_bytes for record in records) / 2**20,
                    "forward_equivalents": median(record.forward_equivalents for record in records),
                    "prompts": panel.n_examples,
                    "published_seconds": printed.get("seconds"),
                    "published_source": printed.get("source") if "seconds" in printed else None,
                }
            )
    return lines


def _show(lines: Sequence[Line]) -> list[Line]:
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "runs")},
            "seconds": f"{line['seconds']:,.2f}",
            "peak MB": f"{line['peak_mb']:,.0f}",
            "forward-equivalents": f"{line['forward_equivalents']:,.1f}",
            "prompts": line["prompts"],
            "published seconds": line["published_seconds"],
        }
        for line in lines
    ]


TABLE = Table("runtime", _CAPTION, runtime, _show, sources=True)
