"""Stored cells run again: what is chosen, what is compared, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.check import again
from benchmarks.check.again import check_again
from benchmarks.cli import main
from benchmarks.grid.suite import parse_suite
from benchmarks.store import Store, draws_of
from tests.benchmarks.run.small_runs import run_small

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("unchecked"),  # as `edgewise check` runs
]

SUITE = """
name = "small"
tasks = ["ioi-t1"]
sparsities = [0.5, 0.9]

[task.ioi-t1]
train = 4
validation = 2
test = 4

[[method]]
name = "eap"
selection = ["top-absolute", "greedy-signed"]

[[method]]
name = "ensemble"
methods = "eap, eap-ig"

[[method]]
name = "edge-pruning"
steps = 5
warmup_steps = 1
target_warmup_steps = 4
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    cells = parse_suite(SUITE, "small.toml").cells
    assert set(run_small(cells, folder).values()) == {"finished"}
    return folder


@pytest.fixture
def changed(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """The folder, but for a change of every cell's record."""

    def change(edit: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(finished, folder)
        for path in (folder / "cells").glob("*.json"):
            fields = json.loads(path.read_text())
            edit(fields)
            path.write_text(json.dumps(fields))
        return folder

    return change


def test_stored_cells_give_the_same_when_they_are_run_again(finished: Path) -> None:
    assert check_again(finished, 100) == (4, [])


def test_each_method_has_its_turn_and_the_cheapest_comes_first(
    changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[tuple[str, str | None]] = []
    compare = again.compare_evaluation

    def note(record: Any, *given: Any) -> Any:
        definition = record.definition
        run.append((definition.method, definition.settings.get("selection")))
        return compare(record, *given)

    def cost(fields: dict[str, Any]) -> None:
        settings = fields["definition"]["settings"]
        fields["seconds"] = {"eap": 1.0, "ensemble": 4.0}.get(fields["definition"]["method"], 3.0)
        fields["seconds"] += settings.get("selection") == "greedy-signed"

    monkeypatch.setattr(again, "compare_evaluation", note)
    assert check_again(changed(cost), 4) == (4, [])
    assert run == [
        ("eap", "top-absolute"),
        ("edge-pruning", None),
        ("ensemble", "top"),
        ("eap", "greedy-signed"),
    ]


def test_a_changed_number_is_a_difference(changed: Callable[..., Path]) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["rows"][0]["metrics"]["accuracy"] += 0.01

    _, differences = check_again(changed(change), 4)
    assert len(differences) == 4
    assert all(one.metric.startswith("accuracy") for one in differences)


def test_other_scores_are_a_difference(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    store = Store(folder)
    for record in store.finished():
        if record.definition.method == "ensemble":
            (scores,) = draws_of(store.discovery(record.name))
            scores.values[-1, 0] += 1e-3
            store.write(record, scores, store.prompts(record.name))
    assert {one.metric for one in check_again(folder, 4)[1]} == {"score of tok->out"}


def test_a_cell_of_another_model_is_refused(changed: Callable[..., Path]) -> None:
    folder = changed(lambda fields: fields.update(model="tiny-llama"))
    with pytest.raises(
        ValueError, match=r"cell ioi-t1-.*: model tiny-llama or its tokenizer is no"
    ):
        check_again(folder, 1)


@pytest.mark.parametrize(
    "other", [{"method_version": 0}, {"task_version": 0}, {"dtype": "bfloat16"}], ids=str
)
def test_cells_of_earlier_versions_and_of_low_precision_are_left_out(
    changed: Callable[..., Path], other: dict[str, Any]
) -> None:
    folder = changed(lambda fields: fields["definition"].update(other))
    with pytest.raises(ValueError, match=r"no cell in .* that the methods and tasks of today"):
        check_again(folder, 1)


def test_the_commands_say_what_was_compared(finished: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["check", str(finished), "--again", "2"])
    assert (said.exit_code, said.stdout) == (0, "Compared 2 cells, run again; differences: 0\n")
    said = CliRunner().invoke(main, ["check", "--again", "2"])
    assert said.exit_code == 2 and "--again 2 without DIR" in said.stderr
    said = CliRunner().invoke(main, ["migrate", str(finished)])
    assert said.exit_code == 0 and "Compared 3 cells, run again; differences: 0" in said.stdout
