"""A task from a user's own file, on the command line and in a suite."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.grid.cell import Bench, ModelOptions
from benchmarks.grid.suite import parse_suite, single_cell
from benchmarks.record import Finished
from benchmarks.run.loading import Loader
from benchmarks.store import Store
from edgewise.task import Sizes
from tests.models import gpt2
from tests.tasks.own_prompts import ENTRIES, entry, word_tokenizer, write_lines

TASK = "custom:data/mine.jsonl"
SUITE = f"""
name = "mine"
model = "./model"
tasks = ["{TASK}", "ioi"]

[task."{TASK}"]
train = 3

[[method]]
name = "acdc"
[method.task."{TASK}"]
threshold = 0.5
"""


@pytest.fixture(autouse=True)
def _user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gpt2(n_layer=1).save_pretrained("model")
    word_tokenizer().save_pretrained("model")
    Path("data").mkdir()
    write_lines(Path("data/mine.jsonl"), ENTRIES)


def discover(task: str = TASK) -> Result:
    command = ["discover", "--method", "eap", "--task", task, "--model", "./model", "--out", "here"]
    return CliRunner().invoke(main, command)


def records() -> list[Finished]:
    return Store(Path("here")).finished()


def own_bench() -> Bench:
    return single_cell("eap", TASK, model="./model", seed=0, given={}).bench


@pytest.mark.slow
def test_a_file_is_discovered_on_and_reported_under_its_short_name() -> None:
    result = discover()
    assert result.exit_code == 0, result.output
    (record,) = records()
    assert record.name.startswith("custom-mine-eap-")
    assert record.definition.task == "custom:mine"
    assert record.n_prompts.as_json() == {"train": 8, "validation": 4, "test": 4}
    assert f"here/cells/{record.name}.safetensors" in result.stdout
    report = CliRunner().invoke(main, ["report", "here"])
    assert report.exit_code == 0, report.output
    assert "custom:mine" in Path("here/tables/runtime.md").read_text()


def test_a_cell_is_known_by_what_is_in_the_file_and_not_by_where_it_is() -> None:
    assert discover().exit_code == 0
    shutil.copy("data/mine.jsonl", "mine.jsonl")
    assert discover("custom:mine.jsonl").exit_code == 0
    assert len(records()) == 1
    write_lines(Path("mine.jsonl"), [*ENTRIES, entry("Tom", "Ben", "Sue")])
    assert discover("custom:mine.jsonl").exit_code == 0
    assert len(records()) == 2
    assert {record.definition.task for record in records()} == {"custom:mine"}


def test_a_task_of_the_suite_has_no_hash_of_a_file() -> None:
    bench = replace(own_bench(), task="ioi", data=None, weights="abc", architecture="{}")
    assert "data" not in bench.definition()


@pytest.mark.parametrize("task", ["custom:data/none.jsonl", "custom:data", "custom:"])
def test_a_path_without_a_file_is_one_line_and_exit_code_2(task: str) -> None:
    result = discover(task)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: no file '")


@pytest.mark.parametrize(
    "bad", ['{"clean": "Tom"}', '{"clean": "<predict>Tom</predict>", "corrupted": "no tag"}']
)
def test_every_bad_line_is_a_line_and_nothing_is_run(bad: str) -> None:
    with Path("data/mine.jsonl").open("a") as file:
        file.write(f"{bad}\n{bad}\n")
    result = discover()
    assert result.exit_code == 2
    for number, line in enumerate(result.stderr.splitlines(), len(ENTRIES) + 1):
        assert line.startswith(f"Error: mine.jsonl: line {number}: ")
    assert len(result.stderr.splitlines()) == 2
    assert not records()


def test_lines_that_do_not_suit_the_model_s_tokenizer_end_the_run_before_it_begins() -> None:
    uneven = {"clean": "Tom met <predict>Amy</predict>", "corrupted": "<predict>Ann</predict>"}
    write_lines(Path("data/mine.jsonl"), [*ENTRIES, uneven])
    result = discover()
    assert result.exit_code == 2
    assert f"mine.jsonl: line {len(ENTRIES) + 1}: no token before" in result.stderr
    assert not records()


def test_in_a_suite_sizes_and_settings_are_given_by_the_full_name() -> None:
    own, other = parse_suite(SUITE, "mine.toml").cells
    assert (own.bench.task, other.bench.task) == (TASK, "ioi")
    assert own.bench.sizes == Sizes(train=3) and other.bench.sizes == Sizes()
    assert own.settings["threshold"] == 0.5 != other.settings["threshold"]
    assert own.bench.model == ModelOptions("./model")


def test_in_a_suite_a_missing_file_is_one_problem_among_others() -> None:
    with pytest.raises(ValueError) as error:
        parse_suite(
            SUITE.replace("mine.jsonl", "none.jsonl").replace('"ioi"', '"iou"'), "mine.toml"
        )
    first, *others = str(error.value).splitlines()
    assert first.startswith("mine.toml: tasks.0: no file 'data/none.jsonl'")
    assert any("unknown task 'iou'; closest: ioi" in line for line in others)


def test_a_file_that_changes_during_a_run_is_an_error() -> None:
    bench = own_bench()
    write_lines(Path("data/mine.jsonl"), ENTRIES[1:])
    with pytest.raises(ValueError, match=r"the file of custom:.* has changed"):
        Loader(torch.device("cpu")).task(bench)
