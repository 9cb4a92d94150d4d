"""The verbs that read results or list what there is: report, draw, check, migrate, list."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.cli.shared import EXAMPLE, sparsities_of, verb

if TYPE_CHECKING:
    from benchmarks.check.check import Difference

_PROOF = 3
"""The cells that are run again after a migration."""


@click.command(epilog=EXAMPLE + "edgewise report runs/tracr")
@click.argument("results", type=Path, metavar="DIR|FILE.json")
@click.option("--task", "tasks", multiple=True, metavar="T", help="A paper figure of this task.")
@click.option(
    "--metric", metavar="M", help="The metric of paper figures; default: the primary metrics."
)
@click.option(
    "--width", metavar="column|text|INCHES", help="The width of paper figures; default: text."
)
@click.option("--format", "formats", metavar="LIST", help="pdf,svg,png; default: pdf.")
@click.option(
    "--sparsity",
    "sparsities",
    multiple=True,
    metavar="S,...",
    help="Sparsities of the paper's table, taken at the nearest measured; default: 0.9,0.95,0.98.",
)
@verb
def report(
    results: Path,
    tasks: tuple[str, ...],
    metric: str | None,
    width: str | None,
    formats: str | None,
    sparsities: tuple[str, ...],
) -> None:
    """Write a report of the results in DIR: a page, DIR/report.html, tables and figures.

    With any of the options, it writes figures for a paper to DIR/figures instead: at their printed
    width, with the caption in a text file beside each. A LaTeX table of methods by tasks goes to
    DIR/tables. For timings, give the file that `pytest --benchmark --benchmark-json FILE.json`
    wrote; tables and figures are written beside it.
    """
    from benchmarks.report.report import report, report_for_paper
    from benchmarks.speed.timings import report_timings

    main_tables: list[str] = []
    if tasks or metric or width or formats or sparsities:
        written = report_for_paper(
            results,
            tasks=tasks,
            metric=metric,
            width=width or "text",
            formats=(formats or "pdf").split(","),
            sparsities=sparsities_of(sparsities) or None,
        )
    elif results.suffix == ".json":
        main_tables, written = report_timings(results)
    else:
        main_tables, written = report(results)
    for table in main_tables:
        click.echo(table + "\n")
    for path in written:
        click.echo(f"wrote {path}")


@click.command(epilog=EXAMPLE + "edgewise draw runs/discover/cells/NAME.safetensors --out me.svg")
@click.argument("circuit", type=Path, metavar="CIRCUIT")
@click.option(
    "--out", type=Path, metavar="FILE", help="An .svg, .png or .pdf file; default: two files here."
)
@click.option("--edges", type=int, metavar="N", help="Cut scores to this number of edges.")
@click.option("--truth", type=Path, metavar="FILE", help="A circuit to compare with.")
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=250,
    metavar="N",
    help="Draw at most this many edges, the strongest ones; default: 250.",
)
@verb
def draw(circuit: Path, out: Path | None, edges: int | None, truth: Path | None, most: int) -> None:
    """Draw the circuit in the file CIRCUIT, layer by layer.

    Wider edges have larger scores, and dashed edges have negative scores. Circuits of compiled
    programs are compared with the true circuit; --truth names another one.
    """
    from benchmarks.drawing.draw import draw

    for path in draw(circuit, out=out, n_edges=edges, truth=truth, most=most):
        click.echo(f"wrote {path}")


@click.command(epilog=EXAMPLE + "edgewise check")
@click.argument("folder", type=Path, metavar="[DIR]", required=False)
@click.option("--only", metavar="METHOD", help="Check the cells of one method.")
@click.option("--again", type=click.IntRange(min=1), metavar="N", help="Run N cells of DIR again.")
@click.option("--record", is_flag=True, help="Write new reference values; takes minutes.")
@verb
def check(folder: Path | None, only: str | None, again: int | None, record: bool) -> None:
    """Run the reference cells again and compare them with their stored values.

    With DIR, compare the reference cells of that results folder instead. With DIR and --again, run
    the cheapest cells of each method in DIR again. Every difference is printed on its own line, and
    the exit code is then 1.
    """
    from benchmarks.check import check
    from benchmarks.check.recording import record_reference
    from benchmarks.grid.suite import load_suite

    if again is not None:
        if folder is None or only is not None or record:
            raise ValueError(f"--again {again} without DIR, or with --only or --record")
        _check_again(folder, again)
        return
    cells = load_suite(check.SUITE, only=only).cells
    if record:
        if folder is not None or only is not None:
            raise ValueError("--record writes all reference values; leave DIR and --only out")
        record_reference(cells)
        click.echo(f"Reference values of {len(cells)} cells: {check.REFERENCE}")
        return
    if folder is None:
        n_cells, differences = len(cells), check.check(cells)
    else:
        n_cells, differences = check.check_folder(folder, only=only)
    _show_differences(f"{n_cells} reference cells", differences)


def _check_again(folder: Path, n_cells: int) -> None:
    from benchmarks.check.again import check_again

    n_run, differences = check_again(folder, n_cells)
    _show_differences(f"{n_run} cells, run again", differences)


def _show_differences(compared: str, differences: "Sequence[Difference]") -> None:
    """A line for each; exit with 1 if there are any."""
    for difference in differences:
        click.echo(difference)
    click.echo(f"Compared {compared}; differences: {len(differences)}")
    if differences:
        raise SystemExit(1)


@click.command(epilog=EXAMPLE + "edgewise migrate runs/quick")
@click.argument("folder", type=Path, metavar="DIR")
@verb
def migrate(folder: Path) -> None:
    """Bring results of an earlier version in DIR up to date.

    No cell is made anew. To check that the records still hold, three are run again and compared.
    """
    from benchmarks.run.migration import migrate

    click.echo(f"{folder}: {migrate(folder)} cells brought up to date")
    _check_again(folder, _PROOF)


@click.command(name="list", epilog=EXAMPLE + "edgewise list edge-pruning")
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print the README's table of methods instead.")
@verb
def list_(name: str | None, markdown: bool) -> None:
    """List methods, tasks and suites, one line each.

    With NAME, describe one of them: a method's settings with their defaults, ranges and meanings,
    a task's prompts and metrics, or what is in a suite.
    """
    from benchmarks.catalogue import catalogue, describe, method_table

    if markdown:
        if name is not None:
            raise ValueError("--markdown prints the table of all methods; leave NAME out")
        click.echo(method_table())
    else:
        click.echo(catalogue() if name is None else describe(name))
