"""A report: DIR/report.html, DIR/tables as Markdown and CSV, DIR/figures as PNG and SVG.

Only the pivots, the tables that papers print, are written as LaTeX.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.drawing.style import save
from benchmarks.report.captions import captions, settings_of_labels
from benchmarks.report.figures import PLOTS
from benchmarks.report.figures.paper import inches_of, paper_figure
from benchmarks.report.panels import grouped
from benchmarks.report.pivots import NAME, columns, write_pivots
from benchmarks.report.results import Results
from benchmarks.report.table import aligned, comma_separated, write_table, write_text
from benchmarks.report.tables import TABLES

FORMATS = ("pdf", "svg", "png")
ROWS = "rows.csv"
"""All that is shown, in `tables`: a line per circuit and metric."""


def report(folder: Path) -> tuple[list[str], list[Path]]:
    """Write all tables and figures; gives the main tables as text, and what was written.

    What an earlier report wrote and this one did not is removed. Raises ValueError if there are no
    results, or some are of a newer version.
    """
    from benchmarks.report.page.page import write_page  # plotting libraries take a second to load

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
            name = f"{plot.name}-{rest}".replace("/", "-") if rest else plot.name
            written += [save(figure, figures / f"{name}.{kind}") for kind in ("png", "svg")]
    written += write_pivots(columns(results.panels, results.store), results.failed, tables)
    written.append(write_page(results, folder))
    _remove_others(folder, written)
    return printed, written


def report_for_paper(
    folder: Path,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
    width: str = "text",
    formats: Sequence[str] = ("pdf",),
    sparsities: Sequence[float] | None = None,
) -> list[Path]:
    """Figures at the width at which they are printed, each with its caption as a text file.

    One for each metric: `metric`, or the primary ones of `tasks`; all tasks if none is named. For
    primary metrics, a LaTeX table of methods by tasks at the `sparsities` is written, too. Raises
    ValueError for anything that is not in the folder.
    """
    inches = inches_of(width)
    for sparsity in sparsities or ():
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity {sparsity:g}; expected a number above 0 and below 1")
    for kind in formats:
        if kind not in FORMATS:
            raise ValueError(f"format {kind!r}; expected some of {', '.join(FORMATS)}")
    results = Results(folder)
    panels = [panel for panel in results.curves if not tasks or panel.task in tasks]
    every = {panel.task for panel in results.panels}
    for task in tasks:
        if task not in {panel.task for panel in panels}:
            raise ValueError(f"no curves of task {task!r} in {folder}; known: {listed(every)}")
    measured = {name for panel in panels for name in panel.records[0].metrics}
    if metric is not None and metric not in measured:
        raise ValueError(f"metric {metric!r} is not in {folder}; known: {listed(measured)}")
    groups = grouped(panels, lambda panel: metric or panel.metric)
    written: list[Path] = []
    for name, having in groups.items():
        having = [panel for panel in having if name in panel.records[0].metrics]
        figure, caption = paper_figure(having, name, inches)
        stem = "-".join(["paper", name, *tasks, width])
        figures = folder / "figures"
        written += [save(figure, figures / f"{stem}.{kind}") for kind in formats]
        written.append(write_text(figures / f"{stem}.txt", f"{caption}\n"))
    compared = [one for one in panels if metric in (None, one.metric)]
    found = columns(compared, results.store, sparsities)
    if sparsities and not found:
        raise ValueError(
            f"sparsity {sparsities[0]:g}; tables compare methods by the primary metric of tasks "
            f"without known circuits, and {folder} has none{f' by {metric!r}' if metric else ''}"
        )
    return written + write_pivots(found, results.failed, folder / "tables", *tasks, stem="paper")


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _remove_others(folder: Path, written: Collection[Path]) -> None:
    """Remove tables and figures of ours that no longer apply; files of other names are left."""
    patterns = [*(f"tables/{table.name}.*" for table in TABLES), f"tables/{NAME}-*.tex"]
    for plot in PLOTS:
        for kind in ("png", "svg"):
            patterns += [f"figures/{plot.name}.{kind}", f"figures/{plot.name}-*.{kind}"]
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink()
