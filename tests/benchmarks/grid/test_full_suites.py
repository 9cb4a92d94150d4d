"""The suites on real models: their twins, and one line that says what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.grid.cell import BUNDLED
from benchmarks.grid.suite import Suite, load_suite
from benchmarks.names import suite_names
from tasks.models.tiny import TINY_MODELS

TWINS = {
    "paper": "small",
    "examples": "examples-small",
    "consistency": "consistency-small",
    "codellama": "codellama-tiny",
}
CODE = """
import json, sys
from click.testing import CliRunner
from benchmarks.cli import main

for suite in sys.argv[1:]:
    result = CliRunner().invoke(main, ["run", suite])
    print(json.dumps([result.exit_code, result.stdout, result.stderr]))
"""


def models(suite: Suite) -> set[str]:
    """The ids of the models that a suite needs, but for those of compiled programs."""
    cells = [*suite.cells, *(search.cell for search in suite.searches)]
    return {cell.bench.model.id for cell in cells if cell.bench.model is not None}


FULL = [name for name in suite_names() if models(load_suite(name)) - {BUNDLED, *TINY_MODELS}]


@pytest.mark.slow
def test_without_network_and_weights_every_full_suite_says_in_one_line_what_is_missing(
    tmp_path: Path,
) -> None:
    assert set(TWINS) < set(FULL)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *FULL],
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        | {"HF_HUB_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for name, answer in zip(FULL, done.stdout.splitlines(), strict=True):
        exit_code, stdout, stderr = json.loads(answer)
        (model,) = models(load_suite(name))
        (line,) = stderr.splitlines()
        assert (exit_code, stdout) == (2, "")
        assert line.startswith(f"Error: model {model!r} is not on disk nor to be downloaded")
    assert not list(tmp_path.glob("runs/*/cells/*.json"))


@pytest.mark.parametrize("full", TWINS)
def test_a_full_suite_has_a_twin_of_the_same_tasks_and_methods_without_downloads(
    full: str,
) -> None:
    large, small = load_suite(full), load_suite(TWINS[full])
    assert models(small) <= {BUNDLED, *TINY_MODELS}
    for suite in (large, small):
        assert suite.name in (full, TWINS[full])
    for of in (
        lambda suite: {cell.bench.task for cell in suite.cells},
        lambda suite: {cell.method for cell in suite.cells},
        lambda suite: [(search.cell.method, search.setting) for search in suite.searches],
        lambda suite: {search.sparsity for search in suite.searches},
        lambda suite: {search.cell.bench.sizes.train for search in suite.searches},
        lambda suite: len(suite.crossings),
    ):
        assert of(large) == of(small)


def test_the_suite_examples_compares_acdc_on_few_examples_and_the_others_on_many() -> None:
    trains: dict[str, list[int | None]] = {}
    suite = load_suite("examples")
    for cell in (*suite.cells, *(search.cell for search in suite.searches)):
        of_method = trains.setdefault(cell.method, [])
        if cell.bench.sizes.train not in of_method:
            of_method.append(cell.bench.sizes.train)
    assert trains.pop("acdc") == [200, 400]
    assert set(map(tuple, trains.values())) == {(200, 400, 100_000)}
