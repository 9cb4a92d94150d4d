"""The report page, in a browser: it loads without a network, and its controls change it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drawing.style import method_style
from benchmarks.record import Finished
from benchmarks.report.page.looks import (
    DARK_GROUND,
    LEAST_CONTRAST,
    LIGHT_GROUND,
    contrast,
    looks_of,
)
from benchmarks.report.page.page import page, shown_table
from benchmarks.report.results import Results
from benchmarks.store import Store
from methods import METHODS
from tests.benchmarks.samples import GRAPH, write_cell

SIZES = tuple(round(GRAPH.n_edges * (1 - sparsity)) for sparsity in (0.0, 0.5, 0.9))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SYMBOLS = "#curves svg .mark-symbol path"
TASKS = "ioi", "greater-than"
RANKINGS = [name for name in METHODS if name not in ("acdc", "edge-pruning")]


def made_up(folder: Path) -> Results:
    """Twenty methods and more on two tasks."""
    store = Store(folder)
    store.prepare()
    for task in TASKS:
        for place, method in enumerate(RANKINGS):
            write_cell(store, method, {}, SIZES, [0.0, 0.1, 0.5 + 0.1 * place], task=task)
        for seed in range(3):
            settings = {"threshold": 0.1}
            write_cell(store, "acdc", settings, [8], [0.2], kind="circuit", task=task, seed=seed)
    return Results(folder)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    path = folder / "report.html"
    path.write_text(page(made_up(folder), folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Any]:
    """The page, narrow and dark; anything that goes wrong in it fails the test."""
    view = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme="dark")
    wrong: list[str] = []
    view.on("console", lambda message: wrong.append(message.text))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on(
        "request", lambda request: wrong.append(request.url) if _is_remote(request.url) else None
    )
    view.goto(file.as_uri())
    view.wait_for_selector("html[data-ready=true]", state="attached", timeout=30_000)
    yield view
    view.close()
    assert not wrong


def becomes_true(view: Any, condition: str) -> None:
    """Wait for it; a page that never comes to it fails the test."""
    view.wait_for_function(f"() => {condition}", timeout=60_000)


def _is_remote(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.mark.slow
def test_it_is_one_file_that_names_every_method_and_is_not_large(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) < 2 * 2**20
    assert all(method_style(method).label in text for method in RANKINGS)
    own = text.partition("<script>")[0]
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', own)


@pytest.mark.slow
def test_it_loads_without_a_network_and_fits_a_narrow_screen(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") == 400
    assert opened.evaluate("document.querySelectorAll('.chart svg').length") == 5
    assert "best, or level with the best" in opened.inner_text("h1")


@pytest.mark.slow
def test_controls_change_what_is_shown(opened: Any) -> None:
    def symbols() -> int:
        return opened.locator(SYMBOLS).count()

    before = symbols()
    opened.locator("#curve-methods input").first.click()
    becomes_true(opened, f"document.querySelectorAll('{SYMBOLS}').length != {before}")
    assert "KL(full" in opened.inner_text("#curves")
    opened.select_option("#curve-controls select >> nth=1", "accuracy")
    opened.select_option("#curve-controls select >> nth=2", "edges")
    for text in ("accuracy", "edges of the circuit"):
        becomes_true(opened, f"document.getElementById('curves').innerText.includes('{text}')")


@pytest.mark.slow
def test_the_explorer_cuts_searches_and_compares(opened: Any) -> None:
    def says(text: str) -> None:
        becomes_true(opened, f"document.getElementById('circuit').innerText.includes('{text}')")

    controls = "#explorer-controls "
    opened.evaluate(
        "const slider = document.querySelector('#explorer-controls input[type=range]');"
        " slider.value = 7; slider.dispatchEvent(new Event('input'))"
    )
    says("7 edges")
    opened.fill(controls + "input[type=search]", "->out")
    becomes_true(opened, "!document.getElementById('circuit').innerText.includes('7 edges')")
    opened.fill(controls + "input[type=search]", "")
    options = opened.locator(controls + "select >> nth=1").locator("option").all_inner_texts()
    found = next(one for one in options if "ACDC" in one and "ACDC ranking" not in one)
    opened.select_option(controls + "select >> nth=1", label=found)
    says("in both")
    says("only in the second")


@pytest.mark.slow
def test_tables_are_sorted_and_filtered_and_the_theme_is_switched(opened: Any) -> None:
    head = "#tables details[open] th button >> nth=1"
    cells = "document.querySelectorAll('#tables details[open] tbody td:nth-child(2)')"
    column = f"[...{cells}].map(cell => cell.innerText)"
    opened.locator(head).click()
    up = opened.evaluate(column)
    opened.locator(head).click()
    assert opened.evaluate(column) == sorted(up, reverse=True) and up == sorted(up)
    opened.fill("#filter", "no such row")
    assert opened.evaluate(
        "[...document.querySelectorAll('#tables tbody tr')].every(row => row.hidden)"
    )
    assert opened.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    opened.locator("#theme").click()
    assert opened.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


def test_every_method_stands_out_on_both_grounds() -> None:
    for look in looks_of(METHODS):
        assert contrast(look.light, LIGHT_GROUND) >= LEAST_CONTRAST[0], look.label
        assert contrast(look.dark, DARK_GROUND) >= LEAST_CONTRAST[1], look.label
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_a_tables_numbers_are_told_from_its_words() -> None:
    table = shown_table("some", "", [{"a": "1.5 [1, 2]", "b": "x", "c": None}, {"a": "", "b": "3"}])
    assert (list(table.columns), list(table.numeric)) == (["a", "b"], [True, False])


def test_text_of_results_cannot_leave_its_place(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], model="</script><b>a model")
    folder = tmp_path / "results"
    assert "<b>a model" not in page(Results(folder), folder)


def test_circuits_and_rankings_of_one_method_have_a_line_each(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("edge-pruning", {"steps": 3}, [SIZES[2]], [0.4], kind="circuit")
    add_cell("edge-pruning", {"cut": "ranking"}, SIZES, [0.0, 0.1, 0.2])
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5])
    text = page(Results(tmp_path / "results"), tmp_path / "results")
    for name, value in ("Edge Pruning", "0.400"), ("Edge Pruning&#39;s ranking", "0.200"):
        _, _, row = text.partition(f"</span> {name}</th>")
        assert f">{value}</td>" in row.partition("</tr>")[0]


def test_a_leaderboard_has_a_section_where_there_is_one(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5])
    folder = tmp_path / "results"
    assert 'id="leaderboard"' not in page(Results(folder), folder)
    (folder / "tables").mkdir()
    (folder / "tables" / "leaderboard.csv").write_text("method,score\nMine,1.5\n")
    text = page(Results(folder), folder)
    assert 'id="leaderboard"' in text and "<td>Mine</td>" in text
