"""Tables and figures of a folder of results: DIR/tables as Markdown and CSV, DIR/figures."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import tables
from benchmarks.figures import faithfulness_figure
from benchmarks.results import load_panels
from benchmarks.store import write_atomically
from benchmarks.style import style

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
_WITHOUT_RESULTS = "Cells without results, and why."


def report(folder: Path) -> tuple[list[str], list[Path]]:
    """Write all tables and figures; gives the main tables as text, and what was written.

    Raises ValueError if there are no results, or some are of a newer version.
    """
    panels, failed = load_panels(folder)
    captions = [panel.caption for panel in panels]
    costs = tables.runtime(panels)
    sources = dict.fromkeys(line["published_source"] for line in costs if line["published_source"])
    published = "".join(f" Published seconds: {source}." for source in sources)
    found, recovered = tables.faithfulness(panels), tables.recovery(panels)
    missing = tables.without_results(failed)
    target = folder / "tables"
    written: list[Path] = []
    for name, numbers, shown, caption in (
        ("faithfulness", found, tables.show_faithfulness(found), _FAITHFULNESS),
        ("recovery", recovered, tables.show_recovery(recovered), _RECOVERY),
        ("runtime", costs, tables.show_runtime(costs), _RUNTIME + published),
        ("without_results", missing, missing, _WITHOUT_RESULTS),
    ):
        if numbers:
            notes = "\n".join(f"- {line}" for line in captions)
            text = f"{caption}\n\n{notes}\n\n{tables.aligned(shown, 'pipe')}\n"
            written += [
                _write_text(target / f"{name}.md", text),
                _write_text(target / f"{name}.csv", tables.comma_separated(numbers)),
            ]
    if panels:
        figure = faithfulness_figure(panels)
        written += [_save(figure, folder / "figures" / f"faithfulness.{k}") for k in ("png", "svg")]
    brief = tables.show_faithfulness(found, brief=True)
    main = [brief, tables.show_recovery(recovered), missing]
    return [tables.aligned(lines, "simple") for lines in main if lines], written


def _save(figure: Figure, path: Path) -> Path:
    """Equal results give equal files: no date goes in."""
    path.parent.mkdir(exist_ok=True)
    kind = path.suffix.removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {}
    with style():
        write_atomically(
            path, lambda temporary: figure.savefig(temporary, format=kind, metadata=metadata)
        )
    return path


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path
