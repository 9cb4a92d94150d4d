"""Methods and tasks of a user's own: from a file, in a suite, in workers, from a package."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.grid.suite import load_suite, single_cell
from benchmarks.record import Finished
from benchmarks.run.loading import Loader, identify
from benchmarks.store import Store
from edgewise import own_code
from edgewise.method import Method
from edgewise.wrapper import Wrapper
from methods import find_method
from methods.eap import EAP
from tasks import find_task
from tests.benchmarks.own_code import METHOD, TASK

SUITE = """
name = "own"
tasks = ["tracr-xproportion"]
[[method]]
name = "./mine.py:Mine"
slope = [1.0, -1.0]
"""
DISCOVER = ["discover", "--task", "tracr-xproportion", "--out", "here", "--method"]


@pytest.fixture(autouse=True)
def _user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()
    for folder in (Path(), Path("suites")):
        (folder / "mine.py").write_text(METHOD)
        (folder / "task.py").write_text(TASK)
    Path("suites/own.toml").write_text(SUITE)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def records(folder: str = "here") -> list[Finished]:
    return Store(Path(folder)).finished()


def test_a_method_in_a_file_is_run_and_its_content_tells_its_cells_apart(tmp_path: Path) -> None:
    for _ in range(2):
        result = invoke(*DISCOVER, "./mine.py:Mine", "--set", "slope=2.0")
        assert result.exit_code == 0, result.output
    (record,) = records()
    assert record.definition.method == "mine" and record.definition.settings == {"slope": 2.0}
    assert record.name.startswith("tracr-xproportion-mine-")
    source = find_method(f"{tmp_path}/mine.py:Mine")[1]
    assert source is not None and record.definition.code == source.digest
    Path("mine.py").write_text(f"{METHOD}\n# Edited.\n")
    assert invoke(*DISCOVER, f"{tmp_path}/mine.py:Mine", "--set", "slope=2.0").exit_code == 0
    assert len(records()) == 2


def test_a_file_counts_by_its_content_wherever_it_is() -> None:
    here, there = (
        single_cell(f"{folder}/mine.py:Mine", "ioi", model=None, seed=0, given={})
        for folder in (Path.cwd(), Path.cwd() / "suites")
    )
    assert here.source != there.source and here.method == there.method == "mine"
    assert here.source and there.source and here.source.digest == there.source.digest


def test_files_of_a_suite_are_found_beside_it_and_can_be_overridden() -> None:
    Path("suites/own.toml").write_text(SUITE.replace('"]', '", "./task.py:build"]'))
    suite = load_suite("suites/own.toml")
    assert {cell.bench.label for cell in suite.cells} == {"tracr-xproportion", "task:build"}
    assert {cell.bench.task for cell in suite.cells} >= {f"{Path.cwd()}/suites/task.py:build"}
    chosen = invoke(
        *["run", "suites/own.toml", "--task", "tracr-xproportion", "--dry-run"],
        *["--set", "suites/mine.py:Mine.slope=[1.0, 2.0, 3.0]", "--only", "suites/mine.py:Mine"],
    )
    assert chosen.exit_code == 0, chosen.output
    assert "3 cells" in chosen.stdout


WRAPPED = """
name = "wrapped"
tasks = ["tracr-xproportion"]
[[method]]
name = "ensemble"
methods = "./mine.py:Mine(slope=2.0), eap"
"""


def test_a_method_in_a_file_can_be_inside_a_wrapper() -> None:
    Path("suites/wrapped.toml").write_text(WRAPPED)
    (cell,) = load_suite("suites/wrapped.toml").cells
    built = cell.build()
    assert isinstance(built, Wrapper)
    assert [(one.name, getattr(one, "slope", None)) for one in built.inner] == [
        ("mine", 2.0),
        ("eap", None),
    ]
    Path("suites/mine.py").write_text(f"{METHOD}\n# Edited.\n")
    with pytest.raises(ValueError, match=r"the file of .*mine\.py:Mine has changed since"):
        cell.build()


def test_a_wrapped_file_counts_by_its_content_wherever_it_is() -> None:
    given = ({"methods": f"{folder}/mine.py:Mine, eap"} for folder in (Path.cwd(), "suites"))
    options: dict[str, Any] = {"model": None, "seed": 0}
    cells = [single_cell("ensemble", "tracr-sort", given=one, **options) for one in given]
    loader = Loader(torch.device("cpu"))
    known = identify([cell.bench for cell in cells], loader)
    here, there = (replace(cell, bench=known[cell.bench]).definition() for cell in cells)
    assert here == there and here["settings"]["methods"] == "mine:Mine, eap"
    mine, eap = here["inner"]
    assert mine["method"] == "mine" and mine["code"] == find_method("mine.py:Mine")[1].digest  # pyright: ignore[reportOptionalMemberAccess]
    assert "reference" not in mine and "code" not in eap


def test_the_command_line_takes_wrapped_files_too() -> None:
    inner = "methods=./mine.py:Mine, eap"
    result = invoke(*DISCOVER, "ensemble", "--set", inner)
    assert result.exit_code == 0, result.output
    (record,) = records()
    assert record.definition.inner and record.definition.inner[0].code
    command = ["compare", "--task", "tracr-xproportion", "--methods", "ensemble", "--dry-run"]
    result = invoke(*command, "--set", f"ensemble.{inner}", "--save", "kept.toml")
    assert result.exit_code == 0, result.output
    assert f"{Path.cwd()}/mine.py:Mine, eap" in Path("kept.toml").read_text()


def test_a_wrapped_file_may_have_any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own path, in quotes, and in that of the suite's folder, without the user's doing."""
    options: dict[str, Any] = {"model": None, "seed": 0}
    plain = {"methods": f"{Path.cwd()}/mine.py:Mine(slope=2.0), eap"}
    cells = [single_cell("ensemble", "tracr-xproportion", given=plain, **options)]
    folder = Path("it's (mine), a=b")
    folder.mkdir()
    (folder / "mine.py").write_text(METHOD)
    (folder / "wrapped.toml").write_text(WRAPPED)
    quoted = WRAPPED.replace('"./mine.py:Mine', '"""\\"../it\'s (mine), a=b/mine.py:Mine\\"')
    Path("suites/quoted.toml").write_text(quoted.replace('eap"', 'eap"""'))
    for suite in (folder / "wrapped.toml", Path("suites/quoted.toml")):
        cells += load_suite(str(suite)).cells
    known = identify([cell.bench for cell in cells], Loader(torch.device("cpu")))
    first, *others = (replace(cell, bench=known[cell.bench]) for cell in cells)
    assert [cell.definition() for cell in others] == [first.definition()] * 2
    for cell in others:
        built = cell.build()
        assert isinstance(built, Wrapper) and [one.name for one in built.inner] == ["mine", "eap"]
    monkeypatch.chdir(folder)
    for inner in ("./mine.py:Mine, eap", "'./mine.py:Mine', eap"):
        result = invoke("run", "wrapped.toml", "--dry-run", "--set", f"ensemble.methods={inner}")
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("inner", "error"),
    [
        ("./none.py:Mine, eap", "no file '"),
        ("./mine.py:Yours, eap", "has no 'Yours'; expected FILE.py:NAME"),
        ("./mine.py, eap", "expected names with commas between them"),
        ("./mine (2).py:Mine, eap", "; a path with commas or parentheses in quotes"),
        ("'./mine (2).py:Mine, eap", "; a path with commas or parentheses in quotes"),
        ("'./mine (2).py:Mine', eap", "no file '"),
        ("./mine.py:Mine(steps=2), eap", "unknown setting 'steps'"),
    ],
)
def test_what_is_wrong_with_a_wrapped_file_is_one_line(inner: str, error: str) -> None:
    result = invoke(*DISCOVER, "ensemble", "--set", f"methods={inner}")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and error in line


@pytest.mark.slow
def test_worker_processes_build_the_method_too() -> None:
    result = invoke("run", "suites/own.toml", "--jobs", "2", "--out", "here")
    assert result.exit_code == 0, result.output
    assert {record.definition.settings["slope"] for record in records()} == {-1.0, 1.0}


def test_a_file_that_changes_while_a_run_goes_on_fails_its_cells() -> None:
    cell = single_cell("mine.py:Mine", "ioi", model=None, seed=0, given={})
    assert isinstance(cell.build(), Method)
    Path("mine.py").write_text(f"{METHOD}\n# Edited.\n")
    with pytest.raises(ValueError, match=r"the file of mine\.py:Mine has changed since"):
        cell.build()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["build", "Builder"])
def test_a_task_in_a_file_is_a_function_or_a_builder(name: str) -> None:
    command = ["discover", "--method", "random", "--task", f"task.py:{name}", "--out", "here"]
    result = invoke(*command, "--set", "draws=1")
    assert result.exit_code == 0, result.output
    (record,) = records()
    assert record.definition.task == f"task:{name}"
    assert record.definition.data == find_task(f"task.py:{name}").digest
    assert record.definition.task_version == (3 if name == "Builder" else 1)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.py:Mine", None, "no file '"),
        ("mine.py", METHOD, "expected FILE.py:NAME"),
        ("mine.py:", METHOD, "expected FILE.py:NAME"),
        ("mine.py:Yours", METHOD, "has no 'Yours'; expected FILE.py:NAME"),
        ("mine.py:torch", METHOD, "is no method; expected a class derived from edgewise.Method"),
        ("mine.py:Mine", METHOD.replace("@dataclass(frozen=True)", ""), "is no dataclass"),
        ("mine.py:Mine", METHOD.replace("discover(", "find("), "the class lacks discover"),
        ("mine.py:Mine", METHOD.replace('"mine"', '"a/b"'), "the method's name is 'a/b'; expected"),
        ("mine.py:Mine", METHOD.replace('"mine"', '"eap"'), "'eap', which is taken"),
        ("mine.py:Mine", METHOD.replace('"baseline"', '"x"'), "family is 'x'; expected one of"),
        ("mine.py:Mine", METHOD.replace("float = 1.0", "tuple = ()"), "slope is no plain value"),
    ],
)
def test_what_is_no_method_is_one_line(name: str, content: str | None, error: str) -> None:
    if content is not None:
        Path("mine.py").write_text(content)
    result = invoke(*DISCOVER, f"./{name}")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and error in line


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (f"{METHOD}\nnot_there", ['mine.py", line', "NameError: name 'not_there'"]),
        ("def :", ['mine.py", line 1', "SyntaxError"]),
        ("import task", ["ModuleNotFoundError: No module named 'task'"]),
    ],
)
def test_an_error_in_the_file_shows_its_traceback(content: str, parts: list[str]) -> None:
    Path("mine.py").write_text(content)
    result = invoke(*DISCOVER, "./mine.py:Mine")
    assert result.exit_code == 2
    assert [part for part in parts if part not in result.stderr] == []
    assert "own_code.py" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_an_error_in_a_discovery_shows_its_traceback() -> None:
    Path("mine.py").write_text(METHOD.replace("values = ", "values = 1 / 0 + "))
    result = invoke(*DISCOVER, "./mine.py:Mine")
    assert result.exit_code == 1
    first, *_ = result.stderr.splitlines()
    assert first == "Traceback (most recent call last):" and 'mine.py", line ' in result.stderr
    assert "items.py" not in result.stderr and "failed: tracr-xproportion-mine" in result.stderr


def test_an_error_in_a_task_shows_its_traceback() -> None:
    Path("task.py").write_text("def build(model, tokenizer, *, seed, sizes):\n    return 1 / 0\n")
    result = invoke("discover", "--method", "random", "--task", "task.py:build", "--out", "here")
    assert result.exit_code == 2
    assert 'task.py", line 2, in build' in result.stderr and "own.py" not in result.stderr
    Path("task.py").write_text("def build(model, tokenizer, *, seed, sizes):\n    return 1\n")
    result = invoke("discover", "--method", "random", "--task", "task.py:build", "--out", "here")
    assert "1 is no task; expected an edgewise.Task" in result.stderr


def test_a_package_offers_a_method_and_counts_by_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("eap-too", "package:EAPToo", "edgewise.methods")
    kind = type(
        "EAPToo",
        (EAP,),
        {"name": "eap-too", "__dataclass_fields__": vars(EAP)["__dataclass_fields__"]},
    )
    monkeypatch.setattr(EntryPoint, "load", lambda _: kind)
    monkeypatch.setattr(
        EntryPoint, "dist", SimpleNamespace(name="a-package", version="1.2"), raising=False
    )
    monkeypatch.setattr(own_code, "_offered", lambda _: (point,))
    cell = single_cell("eap-too", "ioi", model=None, seed=0, given={})
    assert cell.source is not None and cell.source.digest == "a-package 1.2"
    inside = single_cell("bootstrap", "ioi", model=None, seed=0, given={"methods": "eap-too"})
    assert [one.code for one in inside.inner] == ["a-package 1.2"]
    result = invoke(*DISCOVER, "eap-two")
    assert "unknown method 'eap-two'; closest: eap-too" in result.stderr
