"""The pages of docs/ are current: what is generated, examples, tables of keys and fields, links."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from pydantic import BaseModel

from benchmarks.docs import descriptions, facts_of, pages
from benchmarks.grid.settings import allowed
from benchmarks.grid.suite import parse_suite, single_cell
from benchmarks.grid.tables import MethodEntry, SearchGoal, SuiteTable
from benchmarks.run.runner import Options, run
from benchmarks.store import Store
from edgewise import Graph
from methods import METHODS
from tasks import TASKS, find_task

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SUITES = (DOCS / "suites.md").read_text(encoding="utf-8")
RECORDS = (DOCS / "records.md").read_text(encoding="utf-8")
PROSE = (*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "results" / "README.md")


def examples(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", page, re.DOTALL)


def first_column(page: str, heading: str) -> set[str]:
    """The names in the table below a heading."""
    _, _, below = page.partition(f"\n## {heading}\n")
    table, _, _ = below.partition("\n## ")
    return set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE))


@pytest.mark.slow
def test_the_generated_pages_are_current() -> None:
    for path, text in pages(DOCS).items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `make docs`"


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_is_described(method: str) -> None:
    assert descriptions(METHODS[method]).keys() >= allowed(method).keys()


@pytest.mark.slow
def test_what_is_said_of_a_program_is_so_once_it_is_compiled() -> None:
    builder = TASKS["tracr-xproportion"]
    facts = facts_of(builder)
    task = builder.build(builder.load_model(), None, seed=0)
    assert facts.sizes == (len(task.train), len(task.validation), len(task.test))
    assert (facts.ablation, facts.primary) == (task.ablation, task.primary)
    assert facts.metrics == task.metrics


@pytest.mark.parametrize("text", examples(SUITES, "toml"))
def test_the_examples_of_suites_load(text: str) -> None:
    assert parse_suite(text, "docs/suites.md").cells


def test_the_tables_list_every_key_of_a_suite() -> None:
    assert first_column(SUITES, "Keys of the file") == set(SuiteTable.model_fields)
    assert first_column(SUITES, "Keys of a search") == set(SearchGoal.model_fields)
    assert first_column(SUITES, "Keys of a method") == MethodEntry.own_keys()


def test_the_examples_have_every_key_of_the_tables() -> None:
    suites = [tomllib.loads(text) for text in examples(SUITES, "toml")]
    entries = [entry for suite in suites for entry in suite["method"]]
    assert first_column(SUITES, "Keys of the file") == {key for suite in suites for key in suite}
    assert first_column(SUITES, "Keys of a method") <= {key for entry in entries for key in entry}


@pytest.mark.slow
def test_the_tables_list_every_field_of_a_record(tmp_path: Path) -> None:
    settings = {"random": {"draws": 2}, "eap": {}, "acdc": {}}
    cells = [
        single_cell(method, "tracr-xproportion", model=None, seed=0, given=given)
        for method, given in settings.items()
    ]
    run([replace(cell, label="a label") for cell in cells], tmp_path, Options(torch.device("cpu")))
    records = Store(tmp_path).finished()
    definitions = [record.definition for record in records]
    rows = [row for record in records for row in record.rows]
    # Of cells that failed, were warned of, whose training was another's, or that ran on a file.
    elsewhere = {"error", "trained_in", "warnings"}
    assert fields(records) | elsewhere | {"schema"} == first_column(RECORDS, "The record of a cell")
    assert fields(definitions) | {"code", "data", "inner"} == first_column(
        RECORDS, "Its definition"
    )
    assert fields(rows) == first_column(RECORDS, "A row")


def fields(records: Iterable[BaseModel]) -> set[str]:
    return {name for record in records for name in record.model_fields_set}


@pytest.mark.parametrize("page", ["graph.md", "records.md"])
def test_the_python_examples_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = examples((DOCS / page).read_text(encoding="utf-8"), "python")
    exec(compile(example, page, "exec"), {})


@pytest.mark.parametrize(
    ("model", "graph"),
    [
        ("GPT-2 small | `separate` | `query`", Graph(12, 12)),
        ("GPT-2 small | `joint` | `query`", Graph(12, 12, ("embed",))),
        ("the bundled model | `separate` | `query`", Graph(4, 8)),
        ("CodeLlama 13B | `separate` | `query`", Graph(40, 40, ("tok",))),
    ],
)
def test_the_numbers_of_edges_are_right(model: str, graph: Graph) -> None:
    page = re.sub(" +", " ", (DOCS / "graph.md").read_text(encoding="utf-8"))
    assert f"| {model} | {graph.n_edges:,} |" in page


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / unquote(target)).exists()] == []


def test_the_example_of_a_task_in_a_file_makes_one(tmp_path: Path) -> None:
    (example,) = examples(SUITES, "python")
    (tmp_path / "mine.py").write_text(example)
    assert find_task(f"{tmp_path}/mine.py:build").description.startswith("Any task for this model")
