"""Whatever is read from outside is read, or refused in a line each within two seconds.

Every test makes as many inputs as the hypothesis profile says (tests/conftest.py).
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.grid.settings import allowed, parse_assignments, resolve
from benchmarks.grid.suite import Suite, load_suite, single_cell
from edgewise import Task
from methods import METHODS
from tasks import TASKS, CustomTask
from tests.benchmarks.contract import accepted
from tests.benchmarks.mutations import TEXTS, VALUES, as_bytes, changed, damaged, toml
from tests.shapes import unchecked_shapes
from tests.tasks.own_prompts import ENTRIES, word_tokenizer, write_lines

SUITE: dict[str, Any] = {
    "name": "mine",
    "description": "what for",
    "model": ["bundled", "folder"],
    "tasks": ["ioi", "tracr-reverse", "custom:MINE"],
    "seeds": [0, 1],
    "ablation": ["zero"],
    "dtype": ["float32", "bfloat16"],
    "embeddings": "joint",
    "kv_heads": "query",
    "sparsities": [0.5, 0.9],
    "max_cells": 500,
    "task": {"ioi": {"train": [8, 16], "test": 8}},
    "cross": ["ioi", "tracr-reverse"],
    "search": {"sparsity": 0.9, "tolerance": 0.01, "trials": 3},
    "method": [
        {"name": "random", "draws": 3, "label": "some"},
        {"name": "eap", "selection": ["top-absolute", "greedy-signed"], "train": [4]},
        {"name": "acdc", "search": {"threshold": [0.001, 1.0]}, "tasks": "ioi"},
        {"name": "edge-pruning", "task": {"ioi": {"target_sparsity": [0.9, 0.95]}}},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def as_outside_the_tests() -> Iterator[None]:
    with unchecked_shapes():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good file of prompts."""
    folder = tmp_path_factory.mktemp("inputs")
    write_lines(folder / "mine.jsonl", ENTRIES)
    return folder


def read_suite(folder: Path, content: bytes) -> Suite | None:
    path = folder / "mine.toml"
    content = content.replace(b"custom:MINE", f"custom:{folder}/mine.jsonl".encode())
    path.write_bytes(content)
    suite = accepted(lambda: load_suite(str(path)))
    for cell in suite.cells if suite else ():
        METHODS[cell.method](**cell.settings)
    return suite


def test_the_suite_that_is_changed_is_right(folder: Path) -> None:
    assert read_suite(folder, toml(SUITE).encode())


@given(changed(SUITE))
def test_a_suite_with_changed_keys_and_values(folder: Path, suite: Any) -> None:
    text = toml(suite) if isinstance(suite, dict) else str(suite)
    read_suite(folder, as_bytes(text))


@given(damaged(toml(SUITE).encode()))
def test_a_suite_with_changed_text(folder: Path, content: bytes) -> None:
    read_suite(folder, content)


def build(folder: Path, content: bytes) -> Task | None:
    path = folder / "changed.jsonl"
    path.write_bytes(content)
    task = accepted(lambda: CustomTask.read(path))
    if task is None:
        return None
    assert task.digest == hashlib.sha256(content).hexdigest()
    return accepted(lambda: task.build(None, word_tokenizer(), seed=0))


def lines_of(entries: Any) -> bytes:
    listed = entries if isinstance(entries, list) else [entries]
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in listed)


def test_the_prompts_that_are_changed_are_right(folder: Path) -> None:
    assert build(folder, lines_of(ENTRIES))


@given(changed([{**entry, "split": "train"} for entry in ENTRIES[:6]]) | changed(ENTRIES))
def test_prompts_with_changed_keys_and_values(folder: Path, entries: Any) -> None:
    build(folder, lines_of(entries))


@given(damaged(lines_of(ENTRIES)))
def test_prompts_with_changed_text(folder: Path, content: bytes) -> None:
    build(folder, content)


@given(st.data(), st.sampled_from(sorted(METHODS)), st.sampled_from(sorted(TASKS)) | TEXTS)
def test_changed_settings_of_every_method(data: st.DataObject, method: str, task: str) -> None:
    settings = data.draw(changed(resolve(method, "ioi", {}), most=3))
    if isinstance(settings, dict):
        resolved = accepted(lambda: resolve(method, task, settings))
        if resolved is not None:
            assert resolve(method, task, resolved) == resolved
            json.dumps(resolved, allow_nan=False)


@given(st.data(), st.sampled_from(sorted(METHODS)))
def test_assignments_of_a_command_line(data: st.DataObject, method: str) -> None:
    names = st.sampled_from(sorted(allowed(method))) | TEXTS
    assignment = st.builds("{}={}".format, names, VALUES) | TEXTS
    assignments = data.draw(st.lists(assignment, max_size=3))
    settings = accepted(lambda: parse_assignments(assignments))
    if settings is not None:
        options = {"model": None, "seed": 0, "given": settings}
        accepted(lambda: single_cell(method, "tracr-reverse", **options))
