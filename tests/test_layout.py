"""The rules of the layout: imports go one way, a file stays short, shapes are checked in tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

from edgewise.prompts import PromptPairs

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "edgewise": {"edgewise"},
    "methods": {"edgewise", "methods"},
    "tasks": {"edgewise", "tasks"},
    "benchmarks": {"edgewise", "methods", "tasks", "benchmarks"},
    "tests": {"edgewise", "methods", "tasks", "benchmarks", "tests"},
}
ROOMS = {
    "names": {"names"},
    "checking": {"checking", "names"},
    "record": {"checking", "record"},
    "files": {"checking", "files", "record"},
    "store": {"files", "record", "store"},
    "warnings": {"record", "warnings"},
    "grid": {"checking", "grid", "names", "record"},
    "run": {"files", "grid", "record", "run", "store", "warnings"},
    "drawing": {"drawing", "files", "record"},
    "report": {"drawing", "files", "grid", "record", "report", "store", "warnings"},
    "check": {"check", "files", "grid", "record", "run", "store"},
    "speed": {"drawing", "files", "grid", "record", "report", "run", "speed", "store"},
}
"""The rooms of benchmarks/, and which of them each may import from; the command line from all."""
FILES = sorted(
    file.relative_to(ROOT) for package in MAY_IMPORT for file in ROOT.glob(f"{package}/**/*.py")
)


def imported_modules(file: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in it, by their full names."""
    package = ".".join(file.parent.parts)
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{file}: imports from above are written in full"
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_one_way(file: Path) -> None:
    allowed = MAY_IMPORT[file.parts[0]]
    assert {name.partition(".")[0] for name in imported_modules(file)} <= allowed


@pytest.mark.parametrize(
    "file",
    [
        file
        for file in FILES
        if file.parts[0] == "benchmarks" and len(file.parts) > 2 and file.parts[1] != "cli"
    ],
    ids=str,
)
def test_imports_between_the_rooms_go_one_way(file: Path) -> None:
    names = [name.split(".") for name in imported_modules(file)]
    rooms = {parts[1] for parts in names if parts[0] == "benchmarks" and len(parts) > 1}
    assert rooms <= ROOMS[file.parts[1]]


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.parts[0] == "methods" and file.stem != "__init__"],
    ids=str,
)
def test_a_method_knows_no_other_method(file: Path) -> None:
    assert not [name for name in imported_modules(file) if name.startswith("methods")]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_function_is_longer_than_60_lines(file: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60}
    assert not long


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] == "methods"], ids=str)
def test_no_method_is_longer_than_150_lines(file: Path) -> None:
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= 150


def test_a_wrong_shape_is_an_error_in_tests() -> None:
    prompts = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(BeartypeCallHintViolation):
        PromptPairs(prompts, prompts, lengths=prompts[0], targets=prompts, answers=prompts)
