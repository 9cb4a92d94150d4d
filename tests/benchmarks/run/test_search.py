"""Searches for one sparsity: their trials, what a kill leaves, and the table that they are for."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from benchmarks.grid.search import Search, Trial
from benchmarks.grid.suite import Suite, SuiteError, parse_suite
from benchmarks.record import FAILED, FINISHED, Finished, SearchDefinition, SearchGoal, SearchRecord
from benchmarks.report.published import published
from benchmarks.report.report import report
from benchmarks.run.environment import default_device
from benchmarks.run.runner import Options, run
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores, MaskedTransformer, Method
from edgewise.task import Sizes
from methods import METHODS
from tests.benchmarks.samples import GRAPH, edited

GOAL = """[search]
sparsity = 0.5
tolerance = 0.0
trials = 9
"""
SUITE = f"""
name = "mine"
tasks = ["tracr-xproportion"]
sparsities = [0.0, 0.5]
{GOAL}
[[method]]
name = "power"
search = {{ rate = [0.01, 100] }}
[[method]]
name = "eap"
"""


@dataclass(frozen=True)
class Power(Method):
    """Removes the more edges, the higher its rate, but never `skipped` of them."""

    rate: float = 1.0
    skipped: int = -1
    name: ClassVar[str] = "power"
    sweeps: ClassVar[str | None] = "rate"
    discovered: ClassVar[list[float]] = []

    def discover(self, model: MaskedTransformer, *_: Any, **__: Any) -> Circuit:
        self.discovered.append(self.rate)
        removed = round(model.graph.n_edges * self.rate / (self.rate + 3))
        removed += removed == self.skipped
        scores = EdgeScores(torch.zeros(model.graph.legal.shape), model.graph)
        return scores.circuit(model.graph.n_edges - removed)


@pytest.fixture(autouse=True)
def _power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "power", Power)
    monkeypatch.setattr(Power, "discovered", [])


def suite(text: str = SUITE) -> Suite:
    return parse_suite(text, "mine.toml")


def run_suite(folder: Path, text: str = SUITE) -> dict[str, str]:
    mine = suite(text)
    outcomes = run(mine.cells, folder, Options(default_device()), searches=mine.searches)
    return {outcome.name: outcome.status for outcome in outcomes}


def values(search: Search, sparsity_of: Callable[[float], float]) -> list[float]:
    """The settings that a search tries."""
    trials: list[Trial] = []
    while (value := search.next_value(trials)) is not None:
        trials.append(Trial(value=value, sparsity=sparsity_of(value), cell=str(value)))
    return [trial.value for trial in trials]


def sought(**changes: Any) -> Search:
    (search,) = suite().searches
    return Search(**{**vars(search), **changes})


def test_the_interval_is_halved_on_a_log_scale_until_a_trial_is_close_enough() -> None:
    tried = values(sought(tolerance=0.01), lambda value: value / (value + 3))
    assert tried[:3] == [1.0, 10.0, 3.1623]
    assert abs(tried[-1] / (tried[-1] + 3) - 0.5) <= 0.01
    assert all(abs(value / (value + 3) - 0.5) > 0.01 for value in tried[:-1])


def test_a_search_goes_on_where_sparsity_does_not_only_rise() -> None:
    sparsities = iter([0.6, 0.4, 0.45, 0.55, 0.3, 0.5])
    tried = values(sought(), lambda _: next(sparsities))
    assert tried == pytest.approx([1, 0.1, 0.31623, 0.56234, 0.4217, 0.48697], rel=1e-4)


def test_a_search_ends_after_its_last_trial_and_where_no_setting_is_left() -> None:
    assert len(values(sought(), lambda _: 0.4)) == 9
    short = sought(low=1.0, high=1.00002, trials=99)
    assert len(values(short, lambda _: 0.4)) <= 3


@pytest.mark.slow
def test_the_nearest_trial_is_kept_with_all_that_were_tried(tmp_path: Path) -> None:
    assert set(run_suite(tmp_path).values()) == {FINISHED}
    store = Store(tmp_path)
    (found,) = store.search_records()
    assert found.within_tolerance
    assert [trial.value for trial in found.trials] == Power.discovered
    record = store.record(found.found)
    assert isinstance(record, Finished) and record.rows[0].sparsity == 0.5
    assert found.definition.search.interval == [0.01, 100.0]
    assert "rate" not in found.definition.settings


@pytest.mark.slow
def test_a_killed_search_goes_on_without_repeating_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    discover = Power.discover
    monkeypatch.setattr(
        *(Power, "discover"),
        lambda self, *a, **k: discover(self, *a, **k) if self.rate != 3.1623 else die(),
    )
    with pytest.raises(KeyboardInterrupt):
        run_suite(tmp_path)
    assert Power.discovered == [1.0, 10.0] and not Store(tmp_path).search_records()
    monkeypatch.setattr(Power, "discover", discover)
    run_suite(tmp_path)
    assert Power.discovered[:3] == [1.0, 10.0, 3.1623]
    n_trials = len(Power.discovered)
    run_suite(tmp_path)
    assert len(Power.discovered) == n_trials == len(set(Power.discovered))


def test_a_trial_that_fails_fails_its_search_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Power, "discover", lambda *_, **__: 1 / 0)
    statuses = run_suite(tmp_path)
    (failed,) = (name for name, status in statuses.items() if status == FAILED)
    assert failed == "tracr-xproportion, seed 0: power at 50 %"
    assert list(statuses.values()).count(FINISHED) == 2


def test_a_ranking_is_not_searched(tmp_path: Path) -> None:
    text = SUITE.replace('"power"', '"random"').replace("rate", "draws")
    with pytest.raises(SuiteError, match=r"search\.draws\.0 is 0\.5; expected a valid integer"):
        suite(text.replace("0.01", "0.5"))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("[0.01, 100]", "[1, 0.5]", "expected { SETTING = [low, high] }"),
        ("{ rate = [0.01, 100] }", "3", "method.0.search is 3; expected a table"),
        ("rate =", "rat =", "method.0.search.rat: unknown setting 'rat'; closest: rate"),
        ("{ rate = [0.01, 100] }", "{}", "expected { SETTING = [low, high] }"),
        ("[0.01, 100]", "[0.01]", "expected { SETTING = [low, high] }"),
        ("[0.01, 100]", "[0, 100]", "with 0 < low < high"),
        ("0.01, 100", '0.01, "x"', "method.0.search.rate.1 is 'x'; expected a valid number"),
        ("sparsity = 0.5\n", "", "search.sparsity is missing"),
        (GOAL, "", "method.0.search: expected a [search] with a sparsity"),
        ("sparsity = 0.5\n", "sparsity = 0.6\n", "search: sparsity is 0.6; expected one of"),
        ("sparsity = 0.5\n", "sparsity = 2\n", "search.sparsity is 2; expected a number less"),
        ("trials = 9", "trials = 0", "search.trials is 0; expected a number greater"),
        ("trials = 9", "trials = 9.0", "search.trials is 9.0; expected a valid integer"),
        ("trials = 9", "tries = 9", "search.tries: unknown key 'tries'; closest: trials"),
        ("tolerance = 0.0", "tolerance = -1", "search.tolerance is -1; expected a number greater"),
        ("tolerance = 0.0", 'tolerance = "no"', "search.tolerance is 'no'"),
    ],
)
def test_a_search_that_cannot_be_is_named(old: str, new: str, part: str) -> None:
    with pytest.raises(SuiteError) as error:
        suite(SUITE.replace(old, new))
    assert part in str(error.value)


def test_a_list_of_sizes_is_an_axis_and_a_method_can_have_its_own() -> None:
    cells = suite(
        'name = "mine"\ntasks = ["ioi"]\n[task.ioi]\ntrain = [20, 40]\ntest = 9\n'
        '[[method]]\nname = "eap"\n[[method]]\nname = "acdc"\ntrain = 10\n'
    ).cells
    assert [(cell.method, cell.bench.sizes) for cell in cells] == [
        ("eap", Sizes(train=20, test=9)),
        ("eap", Sizes(train=40, test=9)),
        ("acdc", Sizes(train=10, test=9)),
    ]


@pytest.fixture
def folder(tmp_path: Path, add_cell: Callable[..., Finished]) -> Path:
    """Two numbers of examples; at 400 the search found nothing within its tolerance."""
    store = Store(tmp_path / "results")
    for train, kl in ((400, 0.8), (200, 0.9)):
        numbers: dict[str, Any] = {
            "n_prompts": {"train": train, "validation": 8, "test": 12},
            "model": "gpt2",
        }
        for method, settings, sizes, values in (
            ("random", {"draws": 2}, [40, 10], [0.0, 3.0]),
            ("eap", {"selection": "top-absolute"}, [40, 10], [0.0, kl + 1]),
        ):
            draws = settings.get("draws", 1)
            _move(add_cell(method, settings, sizes, values, draws=draws, **numbers), store, train)
        trials = []
        for threshold, size in ((0.1, 5), (0.05, 10 if train == 200 else 12)):
            settings = {"threshold": threshold}
            record = add_cell("acdc", settings, [size], [kl], kind="circuit", **numbers)
            name = _move(record, store, train)
            trials.append(Trial(value=threshold, sparsity=1 - size / GRAPH.n_edges, cell=name))
            definition = record.definition.as_json()
        goal = SearchGoal(
            setting="threshold",
            interval=[0.01, 1.0],
            sparsity=1 - 10 / GRAPH.n_edges,
            tolerance=0.001,
            trials=2,
        )
        store.write_search(
            SearchRecord(
                name=f"ioi-acdc-{train}",
                definition=SearchDefinition.model_validate({**definition, "search": goal}),
                trials=trials,
                found=trials[-1].cell,
                within_tolerance=train == 200,
            )
        )
    return tmp_path / "results"


def _move(record: Finished, store: Store, train: int) -> str:
    """The made-up cell under a name with its number of examples."""
    old, new = record.name, f"{record.name}-{train}"

    def edit(fields: dict[str, Any]) -> None:
        fields["name"] = new
        fields["definition"]["sizes"]["train"] = train

    store.write(edited(record, edit), store.discovery(old), store.prompts(old))
    for path in store.cells.glob(f"{old}.*"):
        path.unlink()
    return new


def table(folder: Path) -> Sequence[dict[str, str]]:
    with (folder / "tables" / "examples.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_method_stands_at_one_sparsity_for_each_number_of_examples(folder: Path) -> None:
    report(folder)
    found = [(line["examples"], line["method"], line["edges"]) for line in table(folder)]
    assert found == [
        *(("200", "Random", "10"), ("200", "EAP", "10"), ("200", "ACDC", "10")),
        *(("400", "Random", "10"), ("400", "EAP", "10"), ("400", "ACDC", "12")),
    ]
    kl = [float(line["circuit"]) for line in table(folder)]
    assert kl == pytest.approx([3.0, 1.9, 0.9, 3.0, 1.8, 0.8])


@pytest.mark.slow
def test_the_table_says_what_was_tried_and_where_nothing_was_close_enough(folder: Path) -> None:
    report(folder)
    acdc = [line for line in table(folder) if line["method"] == "ACDC"]
    assert [line["within_tolerance"] for line in acdc] == ["True", "False"]
    assert acdc[0]["tried"].startswith("threshold: sparsity; 0.1: 0.9")
    text = (folder / "tables" / "examples.md").read_text()
    assert "2, none within 0.1 points" in text
    assert "7 training" not in text and "200 training prompts" in text
    assert "12 test prompts" in text


@pytest.mark.slow
def test_searches_that_end_in_the_same_cell_have_a_line_each(folder: Path) -> None:
    store = Store(folder)
    first, _ = store.search_records()
    for name, changes in (
        ("wide", {"interval": [0.001, 1.0], "tolerance": 0.5}),
        ("denser", {"sparsity": 0.5}),
    ):
        goal = first.definition.search.model_copy(update=changes)
        definition = first.definition.model_copy(update={"search": goal})
        store.write_search(first.model_copy(update={"name": name, "definition": definition}))
    report(folder)
    acdc = [line for line in table(folder) if (line["method"], line["edges"]) == ("ACDC", "10")]
    assert sorted(line["tolerance"] for line in acdc) == ["0.001", "0.001", "0.5"]


@pytest.mark.slow
def test_only_the_primary_metric_of_a_search_is_drawn(folder: Path) -> None:
    _, written = report(folder)
    figures = {path.stem for path in written if path.parent.name == "figures"}
    assert figures == {"faithfulness"}


@pytest.mark.slow
def test_published_values_stand_beside_as_many_examples(folder: Path) -> None:
    report(folder)
    first, second = (line for line in table(folder) if line["method"] == "ACDC")
    assert (first["published_kl"], first["published_seconds"]) == ("0.92", "18783")
    assert (second["published_kl"], second["published_seconds"]) == ("0.88", "")
    assert "Table 1" in (folder / "tables" / "examples.md").read_text()
    assert published("ioi", "gpt2", "acdc", 200)
    assert published("ioi", "gpt2", "acdc", 300) == published("other", "gpt2", "acdc", 200) == {}
    assert published("ioi", "another", "acdc", 200) == {}


def test_panels_of_one_task_are_told_apart_by_their_examples(folder: Path) -> None:
    report(folder)
    with (folder / "tables" / "faithfulness.csv").open() as file:
        tasks = {line["task"] for line in csv.DictReader(file)}
    assert tasks == {"ioi, 200 examples", "ioi, 400 examples"}
