"""A report: DIR/tables as Markdown, LaTeX and CSV, and DIR/figures as PNG and SVG."""

from collections.abc import Collection
from pathlib import Path

from benchmarks.drawing.style import save
from benchmarks.report.captions import captions, settings_of_labels
from benchmarks.report.figures import PLOTS
from benchmarks.report.results import Results
from benchmarks.report.table import SUFFIXES, aligned, comma_separated, write_table, write_text
from benchmarks.report.tables import TABLES

ROWS = "rows.csv"
"""All that is shown, in `tables`: a line per circuit and metric."""


def report(folder: Path) -> tuple[list[str], list[Path]]:
    """Write all tables and figures; gives the main tables as text, and what was written.

    What an earlier report wrote and this one did not is removed. Raises ValueError if there are no
    results, or some are of a newer version.
    """
    results = Results(folder)
    notes = [*captions(results.panels), *settings_of_labels(results.panels)]
    tables, figures = folder / "tables", folder / "figures"
    printed: list[str] = []
    written: list[Path] = []
    for table in TABLES:
        lines = table.rows(results)
        if lines:
            caption = table.caption_of(lines)
            written += write_table(tables, table.name, lines, table.show(lines), caption, notes)
            if table.printed is not None:
                printed.append(aligned(table.printed(lines), "simple"))
    if results.panels:
        written.append(write_text(tables / ROWS, comma_separated(results.frame())))
    for plot in PLOTS:
        for rest, figure in plot.draw(results).items():
            name = f"{plot.name}-{rest}" if rest else plot.name
            written += [save(figure, figures / f"{name}.{kind}") for kind in ("png", "svg")]
    _remove_others(folder, written)
    return printed, written


def _remove_others(folder: Path, written: Collection[Path]) -> None:
    """Remove tables and figures of ours that no longer apply; files of other names are left."""
    patterns = [f"tables/{table.name}{suffix}" for table in TABLES for suffix in SUFFIXES]
    for plot in PLOTS:
        for kind in ("png", "svg"):
            patterns += [f"figures/{plot.name}.{kind}", f"figures/{plot.name}-*.{kind}"]
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink()
