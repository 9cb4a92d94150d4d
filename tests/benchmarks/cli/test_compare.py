"""Comparing methods in one command: the suite that is made, what is said, and what is run."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.grid.comparison import BUDGETS, Comparison, budgets
from benchmarks.grid.suite import load_suite, suite_of
from benchmarks.grid.written import to_toml
from benchmarks.names import split_names
from benchmarks.run import estimate
from benchmarks.store import Store
from edgewise.task import Sizes
from methods import METHODS
from tasks import TASKS
from tests.benchmarks.own_code import METHOD
from tests.models import gpt2
from tests.tasks.tokenizers import piece_tokenizer

COMPARE = ["compare", "--task", "tracr-xproportion", "--methods", "random,acdc,./mine.py:Mine"]
SMALL = ["--train", "6", "--validation", "5", "--test", "5", "--sparsity", "0.5,0.8"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_method_and_task_has_a_suite_that_is_written_and_read(budget: str) -> None:
    table = Comparison(list(TASKS), list(METHODS), "a/b", {"test": 7}, [0.9]).table(budget)
    assert tomllib.loads(to_toml(table)) == table
    suite = suite_of(table, "compare")
    assert {cell.method for cell in suite.cells} == set(METHODS)
    assert {cell.bench.task for cell in suite.cells} == set(TASKS)
    assert {cell.sparsities for cell in suite.cells} == {(0.0, 0.9)}
    assert {cell.bench.sizes.test for cell in suite.cells} == {7}


def test_budgets_give_known_methods_more_and_more() -> None:
    assert budgets().keys() == set(BUDGETS)
    assert {name for given in budgets().values() for name in given} <= {*METHODS, "prompts"}
    trainings = [
        sum(cell.settings.get("steps", 0) for cell in suite_of(table, "").cells)
        for table in map(Comparison(["ioi"], ["edge-pruning"]).table, BUDGETS)
    ]
    assert trainings == sorted(trainings)


def test_programs_are_searched_with_their_own_settings() -> None:
    suite = suite_of(Comparison(["ioi", "tracr-reverse"], ["edge-pruning"]).table("small"), "")
    steps = {cell.bench.task: cell.settings["steps"] for cell in suite.cells}
    assert steps == {"ioi": 600, "tracr-reverse": 6000}


@pytest.mark.slow
def test_a_comparison_says_its_cost_runs_and_answers(tmp_path: Path) -> None:
    result = invoke(*COMPARE, *SMALL, "--save", "kept.toml")
    assert result.exit_code == 0, result.output
    assert "compare-programs: tracr-xproportion\n" in result.stdout
    assert "3 cells: at most about " in result.stdout and "memory at least " in result.stdout
    lines = {line.split()[0] for line in result.stdout.splitlines() if line}
    assert lines >= {"random", "acdc", "mine"}
    assert "Look at: " in result.stdout and "runs/compare-programs/figures/" in result.stdout
    folder = Path("runs/compare-programs")
    assert len(Store(folder).finished()) == 3
    assert Path("kept.toml").read_text() == (folder / "suite.toml").read_text()
    again = invoke("run", "kept.toml")
    assert again.exit_code == 0 and "3 cells in runs/compare-programs/cells, 3 of them from" in (
        again.stdout
    )


@pytest.mark.slow
def test_the_largest_budget_that_fits_is_taken_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 100.0])
    monkeypatch.setattr(estimate, "probe", lambda *_: estimate.Speed(next(seconds), 1e-3))
    command = [*COMPARE[:-1], "eap", *SMALL, "--hours", "1", "--out", "here"]
    assert "Budget large, for 1 h; the others at most: small " in invoke(*command).stdout
    # The machine is slower now, but what was begun goes on.
    assert "Budget large, for 1 h" in invoke(*command, "--dry-run").stdout


def test_a_dry_run_leaves_no_folder() -> None:
    result = invoke(*COMPARE, *SMALL, "--dry-run")
    assert result.exit_code == 0 and "at most about" in result.stdout
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--task", "iou"], "unknown task 'iou'; closest: ioi"),
        (["--task", "ioi,,"], "'ioi,,' has an empty name"),
        (["--task", "ioi", "--methods", "eep"], "unknown method 'eep'; closest: eap"),
        (["--task", "ioi", "--methods", "no.py:Mine"], "expected FILE.py:NAME"),
        (["--task", "ioi", "--model", "./no"], "no model folder './no'"),
        (["--task", "tracr-sort", "--model", "a/b"], "all tasks have their own model: tracr-sort"),
        (["--task", "ioi", "--sparsity", "x"], "sparsity 'x'; expected a number from 0 to 1"),
        (["--task", "ioi", "--sparsity", "95"], "sparsities.1 is 95.0; expected a number less"),
        (["--task", "ioi", "--budget", "small", "--hours", "1"], "expected one of them"),
        (["--task", "ioi", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["--task", "tracr-xproportion", "--hours", "1e-9"], "the small budget takes at most"),
        (["--task", "custom:no.jsonl"], "no file "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_run(arguments: list[str], error: str) -> None:
    result = invoke("compare", *arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and error in line
    assert not Path("runs").exists()


@pytest.mark.slow
def test_numbers_of_prompts_fit_the_tokenizer_unless_they_were_asked_for() -> None:
    tokenizer = piece_tokenizer()
    tokenizer.save_pretrained("by-digit")
    gpt2(n_layer=1, n_positions=64, vocab_size=len(tokenizer)).save_pretrained("by-digit")
    command = ["compare", "--model", "by-digit", "--task", "arithmetic-addition", "--dry-run"]
    command += ["--methods", "random", "--budget", "medium", "--save", "kept.toml"]
    result = invoke(*command, "--train", "201", "--test", "89")
    assert result.exit_code == 2 and not Path("kept.toml").exists()
    assert "390 prompts asked for (test 89, validation 100, train 201), but" in result.stderr
    assert "make only 288 (8 × 36)" in result.stderr.splitlines()[-1]
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "compare-by-digit: arithmetic-addition on by-digit\n"
        "arithmetic-addition: 96 train / 48 validation / 144 test prompts instead of 200 train / "
        "100 validation / 300 test; the tokenizer of by-digit allows no more\n\n"
    )
    (cell,) = load_suite("kept.toml").cells
    assert cell.bench.sizes == Sizes(96, 48, 144)


def test_a_kept_suite_is_not_overwritten() -> None:
    Path("kept.toml").write_text("mine")
    command = ["compare", "--task", "tracr-xproportion", "--methods", "random", "--dry-run"]
    result = invoke(*command, "--save", "kept.toml")
    assert result.exit_code == 2 and "kept.toml exists" in result.stderr
    assert Path("kept.toml").read_text() == "mine"
    assert "no folder 'none'" in invoke(*command, "--save", "none/kept.toml").stderr


@pytest.mark.slow
def test_init_writes_a_suite_that_runs_as_it_is() -> None:
    assert invoke("init", "mine.toml").exit_code == 0
    assert len(load_suite("mine.toml").cells) == 4
    result = invoke("run", "mine.toml", "--dry-run")
    assert result.exit_code == 0 and "4 cells and searches, 4 of them to run" in result.stdout
    Path("mine.toml").write_text("mine")
    assert "mine.toml exists" in invoke("init", "mine.toml").stderr
    assert Path("mine.toml").read_text() == "mine"


@pytest.mark.parametrize(
    "table",
    [
        {
            "a": 1,
            "b": [1.5, 1e-7],
            "c": {"d": {"e": "x"}},
            "m": [{"n": 'q"\\'}, {"n": {"k": True}}],
        },
        {"task": {}, "odd key": "Ä\n\t", "task.x": {"./a.py:b": {"n": 1}}},
    ],
)
def test_a_table_reads_back_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_text_that_no_file_can_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        to_toml({"name": "a\x7fb"})


def test_names_are_separated_by_commas_and_count_once() -> None:
    assert split_names(["a, b", "b,c"]) == ["a", "b", "c"]
