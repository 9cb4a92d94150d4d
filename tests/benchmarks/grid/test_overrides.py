"""What the command line changes of a suite, and what it says of changes that have no use there."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grid.overrides import Overrides, parse_overrides
from benchmarks.grid.suite import Suite, load_suite, suite_of

SUITE = """
name = "mine"
tasks = ["ioi", "greater-than"]
model = "bundled"
cross = ["ioi", "greater-than"]
[task.ioi]
train = 50
test = 60
[search]
sparsity = 0.9
[[method]]
name = "eap"
tasks = "ioi"
train = [10, 20]
model = "other/model"
[[method]]
name = "acdc"
threshold = [0.1, 0.2]
[method.task.ioi]
threshold = 0.3
[[method]]
name = "acdc"
tasks = "greater-than"
search = { threshold = [0.01, 1.0] }
"""


def changed(**given: Any) -> Suite:
    return suite_of(Overrides(**given).applied(tomllib.loads(SUITE)), "mine.toml")


def test_nothing_given_changes_nothing() -> None:
    table = tomllib.loads(SUITE)
    assert Overrides().applied(table) == table


def test_a_model_replaces_those_of_the_suite_and_of_its_entries() -> None:
    suite = changed(models=["a/b", "c/d"])
    models = [cell.bench.model.id for cell in suite.cells if cell.bench.model]
    assert set(models) == {"a/b", "c/d"} and len(models) == len(suite.cells) == 10


def test_numbers_of_prompts_hold_for_every_task_and_entry() -> None:
    suite = changed(sizes={"train": 7, "test": 9})
    sizes = {cell.bench.task: cell.bench.sizes for cell in suite.cells}
    assert {(size.train, size.validation, size.test) for size in sizes.values()} == {(7, None, 9)}
    assert sizes.keys() == {"ioi", "greater-than"}


def test_a_task_leaves_the_entries_that_run_on_it() -> None:
    suite = changed(tasks=["ioi"])
    assert [cell.method for cell in suite.cells] == ["eap", "eap", "acdc"]
    assert suite.searches == suite.crossings == ()
    new = changed(tasks=["gendered-pronoun"])
    assert [cell.settings["threshold"] for cell in new.cells] == [0.1, 0.2]


def test_a_setting_holds_on_every_task_and_is_not_searched_for_any_more() -> None:
    suite = changed(settings=parse_overrides(["acdc.threshold=[0.5, 0.6]", "eap.seeds = 3"]))
    found = {cell.settings["threshold"] for cell in suite.cells if cell.method == "acdc"}
    assert found == {0.5, 0.6} and suite.searches == ()
    assert {cell.bench.seed for cell in suite.cells if cell.method == "eap"} == {3}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"tasks": ["iou"]}, "tasks.0: unknown task 'iou'; closest: ioi"),
        ({"settings": {"eep": {"x": 1}}}, "unknown method of the suite 'eep'; closest: eap"),
        ({"settings": {"eap": {"x": 1}}}, "method.0.x: unknown setting 'x'"),
        ({"settings": {"acdc": {"threshold": -1}}}, "threshold is -1; expected a number greater"),
    ],
)
def test_what_the_suite_cannot_use_is_named(given: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError) as caught:
        changed(**given)
    assert error in str(caught.value)


def test_a_task_that_no_method_runs_on_is_an_error() -> None:
    table = tomllib.loads('name = "x"\ntasks = "ioi"\n[[method]]\nname = "eap"\ntasks = "ioi"\n')
    with pytest.raises(ValueError, match="no method of the suite runs on greater-than"):
        Overrides(tasks=["greater-than"]).applied(table)


def test_a_model_for_compiled_programs_alone_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "x"\ntasks = "tracr-reverse"\n[[method]]\nname = "eap"\n')
    with pytest.raises(ValueError, match="all tasks have their own model; leave a/b out"):
        load_suite(str(file), overrides=Overrides(models=["a/b"]))


@pytest.mark.parametrize("text", ["threshold=1", "acdc.threshold", ".x=1", "acdc.=1", "=1", ""])
def test_what_is_no_setting_of_a_method_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected method\.key=value"):
        parse_overrides([text])


def test_a_method_is_not_renamed() -> None:
    with pytest.raises(ValueError, match="a method's name cannot be set"):
        parse_overrides(["eap.name=acdc"])


@pytest.mark.parametrize("table", [{}, {"method": 3}, {"method": [3], "task": 4, "tasks": 5}])
def test_tables_of_any_shape_are_left_to_the_check(table: dict[str, Any]) -> None:
    overrides = Overrides(["m"], ["ioi"], {"train": 3})
    assert overrides.applied(table)["model"] == ["m"]
