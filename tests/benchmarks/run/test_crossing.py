"""Circuits of two tasks on the prompts of both, on a tiny Llama of random weights."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.grid.suite import SuiteError, parse_suite
from benchmarks.record import FINISHED, CrossedRecord, CrossedRow, Finished
from benchmarks.report.report import report
from benchmarks.report.results import Results
from benchmarks.report.tables.crossed import TABLE
from benchmarks.run.environment import default_device
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.run.loading import Loader
from benchmarks.run.runner import Options, run
from benchmarks.store import Store
from edgewise import Circuit
from edgewise.evaluate import evaluate
from tests.benchmarks.samples import estimated
from tests.tasks.own_prompts import ENTRIES

TASKS = ("boolean-instruction", "boolean-few-shot")
SUITE = f"""
name = "mine"
model = "tiny-llama"
tasks = ["{TASKS[0]}", "{TASKS[1]}"]
cross = ["{TASKS[0]}", "{TASKS[1]}"]
sparsities = [0.0, 0.5]
[task.{TASKS[0]}]
train = 4
validation = 2
test = 6
[task.{TASKS[1]}]
train = 4
validation = 2
test = 5
[[method]]
name = "acdc"
threshold = [0.02, 0.2]
[[method]]
name = "eap"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite, folder = parse_suite(SUITE, "mine.toml"), tmp_path_factory.mktemp("crossed")
    for _ in range(2):
        outcomes = run(suite.cells, folder, Options(default_device()), crossings=suite.crossings)
        assert {outcome.status for outcome in outcomes} <= {FINISHED, "skipped"}
    return folder


def test_the_settings_of_two_tasks_pair_up() -> None:
    pairs = parse_suite(SUITE, "mine.toml").crossings
    found = [(pair.first.method, pair.first.settings.get("threshold")) for pair in pairs]
    assert found == [("acdc", 0.02), ("acdc", 0.2), ("eap", None)]
    for pair in pairs:
        assert (pair.first.bench.task, pair.second.bench.task) == TASKS
        assert pair.first.settings == pair.second.settings


def pairs_of(text: str) -> list[tuple[Any, ...]]:
    """The thresholds, and the numbers of examples, of each pair."""
    pairs = parse_suite(text, "mine.toml").crossings
    cells = [(pair.first, pair.second) for pair in pairs if pair.first.method == "acdc"]
    return [
        tuple((cell.settings["threshold"], cell.bench.sizes.train) for cell in pair)
        for pair in cells
    ]


def test_cells_that_pair_up_have_the_settings_that_were_given_to_both_tasks() -> None:
    several = SUITE.replace("train = 4", "train = [4, 8]", 1)
    assert pairs_of(several) == [
        ((threshold, train), (threshold, 4)) for threshold in (0.02, 0.2) for train in (4, 8)
    ]
    given_to_both = SUITE.replace("threshold = [0.02, 0.2]", "threshold = 0.02\ntrain = [3, 5]")
    assert pairs_of(given_to_both) == [((0.02, train), (0.02, train)) for train in (3, 5)]


def test_what_each_task_has_of_its_own_is_crossed_with_all_of_the_other() -> None:
    own = f"threshold = 1\n[method.task.{TASKS[0]}]\nthreshold = [0.5, 0.2]\n"
    text = SUITE.replace("threshold = [0.02, 0.2]\n", own)
    assert pairs_of(text) == [((threshold, 4), (1.0, 4)) for threshold in (0.5, 0.2)]


def test_entries_of_one_method_are_crossed_apart_and_equal_pairs_once() -> None:
    other = f'[[method]]\nname = "acdc"\nthreshold = 0.5\ntasks = "{TASKS[0]}"\n'
    again = '[[method]]\nname = "acdc"\nthreshold = [0.2, 0.7]\n'
    text = SUITE.replace("[[method]]\n", f"{other}[[method]]\n", 1) + again
    found = [(first[0], second[0]) for first, second in pairs_of(text)]
    assert found == [(0.02, 0.02), (0.2, 0.2), (0.7, 0.7)]


def test_prompts_of_two_files_are_crossed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        lines = "\n".join(json.dumps(entry) for entry in ENTRIES[: 8 if name == "one" else 9])
        (tmp_path / f"{name}.jsonl").write_text(lines)
    tasks = json.dumps([f"custom:{tmp_path / name}.jsonl" for name in ("one", "two")])
    text = f'name = "mine"\ntasks = {tasks}\ncross = {tasks}\n[[method]]\nname = "acdc"\n'
    assert len(parse_suite(text, "mine.toml").crossings) == 1


def test_the_table_has_the_settings_and_examples_of_both_tasks_where_they_differ(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    names: list[str] = []
    for task, train, threshold in (("ioi", 7, 0.1), ("ioi-t1", 9, 0.2), ("ioi-t1", 7, 0.1)):
        prompts = {"train": train, "validation": 8, "test": 12}
        settings = {"threshold": threshold}
        record = add_cell(
            "acdc", settings, [8], [0.2], kind="circuit", task=task, n_prompts=prompts
        )
        names.append(record.name)
    row = {"edges": 8, "sparsity": 0.5, "live_sparsity": 0.5, **estimated({"kl": 0.1})}
    rows = [
        CrossedRow.model_validate({**row, "circuit": circuit, "prompts": prompts})
        for prompts in ("ioi", "ioi-t1")
        for circuit in ("full model", "ioi", "ioi-t1", "intersection")
    ]
    store = Store(tmp_path / "results")
    for second in names[1:]:
        store.write_crossed(CrossedRecord(name=second, cells=[names[0], second], rows=rows))
    results = Results(tmp_path / "results")
    for lines in (TABLE.rows(results), TABLE.show(TABLE.rows(results))):
        found = [(line["setting"], line["examples"]) for line in lines[::4]]
        assert found == [
            ("threshold=0.1", "7"),
            ("ioi: threshold=0.1; ioi-t1: threshold=0.2", "ioi: 7; ioi-t1: 9"),
        ]


@pytest.mark.parametrize("names", ['"ioi"', '["ioi", "ioi-t1", "ioi"]', "3"])
def test_two_tasks_are_crossed_and_no_other_number(names: str) -> None:
    text = f'cross = {names}\nname = "x"\ntasks = "ioi"\n[[method]]\nname = "eap"'
    with pytest.raises(SuiteError, match="cross"):
        parse_suite(text, "mine.toml")


@pytest.mark.slow
def test_every_circuit_is_evaluated_on_the_prompts_of_both_tasks(folder: Path) -> None:
    store, loader = Store(folder), Loader(default_device())
    crossed = store.crossed_records()
    assert len(crossed) == 2, "rankings are no circuits"
    record = crossed[0]
    masks = []
    for name in record.cells:
        found = store.discovery(name)
        assert isinstance(found, Circuit)
        masks.append(found.mask)
    graph = found.graph
    circuits = [Circuit(mask, graph) for mask in (graph.legal, *masks, masks[0] & masks[1])]
    for cell in parse_suite(SUITE, "mine.toml").cells[:4:2]:
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        values = evaluate(model, task.test, circuits, metrics=task.metrics, ablation=task.ablation)
        rows = [row for row in record.rows if row.prompts == cell.bench.task]
        for metric, expected in values.items():
            means = [row.metrics[metric] for row in rows]
            assert means == pytest.approx(expected.double().mean(1).tolist())
            ends = torch.tensor([row.intervals[metric] for row in rows])
            torch.testing.assert_close(ends, torch.tensor(bootstrap_intervals(expected)))
        assert values["kl"][0].abs().max() < 1e-5


@pytest.mark.slow
def test_the_table_has_the_full_model_both_circuits_and_what_they_share(folder: Path) -> None:
    _, written = report(folder)
    assert {f"crossed.{kind}" for kind in ("md", "csv")} <= {path.name for path in written}
    with (folder / "tables" / "crossed.csv").open() as file:
        lines = list(csv.DictReader(file))[:4]
    assert [line["circuit"] for line in lines] == [
        *("full model", f"{TASKS[0]} circuit", f"{TASKS[1]} circuit", "intersection"),
    ]
    full, first, second, shared = (int(line["edges"]) for line in lines)
    assert full > first + second - shared and shared <= min(first, second)
    assert float(lines[3]["of_first"]) == pytest.approx(shared / first)
    assert float(lines[3]["overlap"]) == pytest.approx(shared / (first + second - shared))
    for task in TASKS:
        assert float(lines[0][f"exact_match, {task}"]) == 1
        assert float(lines[0][f"kl, {task}"]) == pytest.approx(0, abs=1e-5)
        assert 0 <= float(lines[0][f"accuracy, {task}"]) <= 1
    text = (folder / "tables" / "crossed.md").read_text()
    assert "kl, boolean-few-shot" in text and "5 test prompts" in text
