"""The command line: what it prints, and one line for each of the user's mistakes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.files import SCHEMA
from benchmarks.store import Store
from methods import METHODS
from tasks import TASKS

DISCOVER = ["discover", "--method", "eap", "--task", "tracr-xproportion"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_one_line_error(result: Result, *parts: str) -> None:
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and result.stdout == ""
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "tracer"], ["unknown suite 'tracer'; closest: tracr"]),
        (["run", "no/such.toml"], ["no suite file 'no/such.toml'"]),
        (["run", "tracr", "--only", "edge-prunning"], ["unknown method", "edge-pruning"]),
        (["discover", "--method", "eep", "--task", "ioi"], ["unknown method 'eep'; closest: eap"]),
        (["discover", "--method", "eap", "--task", "iou"], ["unknown task 'iou'; closest: ioi"]),
        ([*DISCOVER, "--set", "selektion=x"], ["unknown setting 'selektion'; closest: selection"]),
        ([*DISCOVER, "--set", "selection=3"], ["selection is 3; expected 'top-absolute'"]),
        ([*DISCOVER, "--set", "selection"], ["'selection'; expected key=value"]),
        ([*DISCOVER, "--model", "a/b"], ["task 'tracr-xproportion' has its own model"]),
        ([*DISCOVER, "--device", "abacus"], ["device 'abacus' cannot be used"]),
        ([*DISCOVER, "--memory", "much"], ["memory 'much'; expected a size", "such as 4GB"]),
        (["run", "quick", "--memory", "4"], ["memory '4'; expected a size", "such as 4GB"]),
        (
            ["discover", "--method", "eap", "--task", "ioi", "--model", "./no/such"],
            ["no model folder './no/such'"],
        ),
        (
            ["discover", "--method", "eap", "--task", "ioi", "--model", "no-such/model"],
            ["model 'no-such/model' is not on disk nor to be downloaded"],
        ),
        (["run", "tracr", "--set", "eap.selektion=x"], ["unknown setting 'selektion'"]),
        (["run", "tracr", "--set", "eep.selection=x"], ["unknown method of the suite 'eep'"]),
        (["run", "tracr", "--set", "selection"], ["'selection'; expected method.key=value"]),
        (["run", "tracr", "--task", "tracr-sorting"], ["unknown task", "closest: tracr-sort"]),
        (["run", "tracr", "--model", "a/b"], ["all tasks have their own model"]),
        (["report", "no/such"], ["no results in no/such"]),
        (["migrate", "no/such"], ["no results in no/such"]),
        (["check", "no/such"], ["no reference cell in no/such"]),
        (["check", "--only", "edge-prunning"], ["unknown method", "edge-pruning"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], parts: list[str]) -> None:
    assert_one_line_error(invoke(*arguments), *parts)
    assert not list(Path("runs").rglob("*.json"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["run", "quick"], DISCOVER])
def test_a_stopped_verb_says_in_one_line_how_to_go_on(
    sent: signal.Signals, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("benchmarks.run.runner.run", lambda *_, **__: signal.raise_signal(sent))
    result = invoke(*arguments)
    assert result.exit_code == 130 and result.stdout == ""
    assert result.stderr == "stopped; run the same command to go on\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_recomputing_costs_operations_and_changes_no_circuit() -> None:
    records = []
    for place, options in {"plain": [], "less": ["--recompute"]}.items():
        result = invoke(*DISCOVER, "--out", place, *options)
        assert result.exit_code == 0, result.stderr
        store = Store(Path(place))
        (record,) = store.finished()
        records.append((record.forward_equivalents, record.rows))
    (plain, rows), (more, same_rows) = records
    assert plain < more and rows == same_rows


def test_a_suite_with_a_syntax_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = 'x'\ntasks = ioi")
    assert_one_line_error(invoke("run", "bad.toml"), "bad.toml: not valid TOML", "line 2")


def test_every_problem_of_a_suite_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'name = "x"\ntasks = ["iou"]\n[[method]]\nname = "eep"\n[[method]]\nname = "random"\n'
    )
    result = invoke("run", "bad.toml")
    assert result.exit_code == 2
    assert [line.split(": ", 2)[:2] for line in result.stderr.splitlines()] == [
        ["Error", "bad.toml"],
        ["Error", "bad.toml"],
    ]


def test_of_many_problems_the_first_twenty_are_lines_and_the_others_are_counted(
    tmp_path: Path,
) -> None:
    entries = 30 * '[[method]]\nname = "eep"\n'
    (tmp_path / "bad.toml").write_text(f'name = "x"\ntasks = ["ioi"]\n{entries}')
    result = invoke("run", "bad.toml")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 21 and lines[-1] == "Error: and 10 more"


def test_an_unsupported_architecture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    result = invoke("discover", "--method", "eap", "--task", "ioi", "--model", "./model")
    assert_one_line_error(result, "bloom", "gpt2", "llama")


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    result = invoke("discover", "--method", "eap", "--task", "ioi", "--model", "./model")
    assert_one_line_error(result, "model")


@pytest.mark.parametrize("verb", [["run", "tracr"], DISCOVER])
def test_an_output_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, verb: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert_one_line_error(invoke(*verb, "--out", "file/results"), "cannot write to file/results")


@pytest.mark.parametrize("verb", [["run", "tracr", "--out"], [*DISCOVER, "--out"], ["report"]])
def test_results_of_a_newer_version_are_one_line(tmp_path: Path, verb: list[str]) -> None:
    store = Store(tmp_path / "results")
    store.prepare()
    (store.cells / "one.json").write_text(json.dumps({"schema": SCHEMA + 1, "name": "one"}))
    assert_one_line_error(invoke(*verb, "results"), f"has schema {SCHEMA + 1}")


@pytest.mark.parametrize(
    "verb",
    [
        *("compare", "run", "discover", "report", "draw", "check", "solve", "migrate", "init"),
        "list",
    ],
)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    edgewise {verb}" in result.stdout


def test_list_names_every_method_task_and_suite() -> None:
    result = invoke("list")
    assert result.exit_code == 0
    first_words = {line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")}
    assert first_words >= {*METHODS, *TASKS, "tracr", "stories"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("acdc", ["threshold = 0.001", "a number, above 0", "An edge is removed if"]),
        ("edge-pruning", ["Other defaults on some tasks", "tracr-reverse"]),
        ("ioi", ["200 / 200 / 1,000", "logit_difference"]),
        ("tracr", ["Twelve compiled programs", "tracr-sort", "edgewise run tracr --dry-run"]),
        ("custom:FILE.jsonl", ["JSON lines"]),
    ],
)
def test_list_says_all_about_one_name(name: str, parts: list[str]) -> None:
    result = invoke("list", name)
    assert result.exit_code == 0
    assert [part for part in parts if part not in result.stdout] == []


def test_list_answers_a_wrong_name_with_the_closest() -> None:
    result = invoke("list", "edge-prunning")
    assert result.exit_code == 2
    assert "unknown method, task or suite 'edge-prunning'; closest: edge-pruning" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "eap"]])
def test_help_and_lists_import_neither_torch_nor_pandas(arguments: list[str]) -> None:
    """So that they are there in a fraction of a second."""
    code = (
        "import sys; from benchmarks.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "assert not {'torch', 'pandas', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_discover_then_report_say_what_was_found_and_where_it_is(tmp_path: Path) -> None:
    command = ["discover", "--method", "acdc", "--task", "tracr-xproportion", "--out", "here"]
    for _ in range(2):
        result = invoke(*command, "--set", "threshold=0.01", "--seed", "3")
        assert result.exit_code == 0, result.output
        assert "forward-equivalents of 256 prompts" in result.stdout
        assert "graph of 32 edges" in result.stdout
    (record,) = Store(tmp_path / "here").finished()
    assert f"here/cells/{record.name}.safetensors" in result.stdout
    assert record.definition.seed == 3
    assert record.definition.settings["threshold"] == 0.01
    result = invoke("report", "here")
    assert result.exit_code == 0
    assert "ACDC" in result.stdout and "1/1" in result.stdout
    for line in result.stdout.splitlines():
        if line.startswith("wrote "):
            assert Path(line.removeprefix("wrote ")).stat().st_size > 0


def test_a_run_with_a_failed_cell_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ArithmeticError("no result")

    monkeypatch.setattr("methods.random.Random.discover", fail)
    (tmp_path / "failing.toml").write_text(
        'name = "failing"\ntasks = "tracr-xproportion"\n[[method]]\nname = "random"\n'
    )
    result = invoke("run", "failing.toml")
    assert result.exit_code == 1
    assert "runs/failing" in result.stdout
    assert "failed: tracr-xproportion-random-" in result.stderr
    assert "no result" in result.stderr
    *_, last = result.stderr.splitlines()
    file = Path(last.removeprefix("  traceback: "))
    assert "in fail" in file.read_text() and file.parent == Path("runs/failing/errors")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert invoke("run", "failing.toml").exit_code == 0
    assert not file.exists()


def test_a_suite_is_run_with_other_tasks_sizes_and_settings(tmp_path: Path) -> None:
    result = invoke(
        *["run", "tracr", "--method", "acdc", "--task", "tracr-xproportion", "--train", "6"],
        *["--test", "5", "--set", "acdc.threshold=[0.1, 0.2]", "--out", "here"],
    )
    assert result.exit_code == 0, result.output
    found = Store(tmp_path / "here").finished()
    assert {record.definition.settings["threshold"] for record in found} == {0.1, 0.2}
    for record in found:
        assert record.definition.task == "tracr-xproportion" and record.definition.method == "acdc"
        assert (record.n_prompts.train, record.n_prompts.test) == (6, 5)
