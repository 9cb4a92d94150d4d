"""Circuits of two tasks on the prompts of both, on a tiny Llama of random weights."""

import csv
from pathlib import Path

import pytest
import torch

from benchmarks.grid.suite import SuiteError, parse_suite
from benchmarks.record import FINISHED
from benchmarks.report.report import report
from benchmarks.run.environment import default_device
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.run.loading import Loader
from benchmarks.run.runner import Options, run
from benchmarks.store import Store
from edgewise import Circuit
from edgewise.evaluate import evaluate

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
