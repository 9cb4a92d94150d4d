"""What a setting may be, and what is said about one that it may not be."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from benchmarks.checking import unknown
from benchmarks.grid.settings import (
    allowed,
    completed,
    defaults_of,
    defining,
    grid,
    parse_assignments,
    resolve,
    swept,
    task_defaults,
    typed,
)
from edgewise import Method
from methods import METHODS
from methods.edge_pruning import EdgePruning
from tasks import TASKS


@dataclass(frozen=True)
class Sample(Method):
    """A setting of every type."""

    number: float = 1.0
    whole: int = 1
    flag: bool = False
    text: str = ""
    choice: Literal["top", "greedy"] = "top"
    maybe: float | None = None
    choice_or_none: Literal["a"] | None = None
    either: int | str = 1
    name: ClassVar[str] = "sample"


@pytest.fixture(autouse=True)
def _sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "sample", Sample)


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("number", 1, 1.0),
        ("whole", 3, 3),
        ("flag", True, True),
        ("text", "3", "3"),
        ("choice", "top", "top"),
        ("maybe", "none", None),
        ("maybe", 1, 1.0),
        ("choice_or_none", "a", "a"),
        ("choice_or_none", "none", None),
        ("either", 3, 3),
        ("either", "3", "3"),
    ],
)
def test_a_value_of_the_right_type_is_taken(name: str, value: object, taken: object) -> None:
    for axes, given in ((False, value), (True, value), (True, [value])):
        result = typed("sample", {name: given}, axes=axes)[name]
        (result,) = result if axes else [result]
        assert result == taken and type(result) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("number", "1", "a valid number"),
        ("number", True, "a valid number"),
        ("number", float("nan"), "a finite number"),
        ("number", float("inf"), "a finite number"),
        ("number", [1.0], "a valid number"),
        ("whole", 1.0, "a valid integer"),
        ("whole", True, "a valid integer"),
        ("whole", "1", "a valid integer"),
        ("flag", 1, "a valid boolean"),
        ("text", 1, "a valid string"),
        ("choice", 1, "'top' or 'greedy'"),
        ("choice", "topp", "'top' or 'greedy'"),
        ("maybe", "x", "a valid number"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(ValueError) as error:
        resolve("sample", "ioi", {name: value})
    assert str(error.value) == f"method 'sample': {name} is {value!r}; expected {words}"


def test_a_value_that_is_none_of_several_types_is_named_with_each() -> None:
    with pytest.raises(ValueError) as error:
        resolve("sample", "ioi", {"either": [1.0]})
    assert str(error.value).splitlines() == [
        "method 'sample': either is [1.0]; expected a valid integer",
        "method 'sample': either is [1.0]; expected a valid string",
    ]


def test_settings_keep_the_order_in_which_they_are_given() -> None:
    given: dict[str, Any] = {"text": "a", "flag": True, "number": 2.0}
    assert list(typed("sample", given)) == list(given)


def test_a_wrong_name_is_answered_with_the_closest() -> None:
    assert unknown("method", "edge-prunning", METHODS) == (
        "unknown method 'edge-prunning'; closest: edge-pruning, node-pruning, edge-pruning-curve"
    )
    assert "known: a, b" in unknown("thing", "zzz", ["b", "a"])


def test_the_first_axis_of_a_grid_moves_last() -> None:
    assert list(grid({"a": [1, 2], "b": ["x", "y"]})) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_given_settings_stand_before_the_tasks_and_those_before_the_class() -> None:
    settings = resolve("edge-pruning", "ioi-t1", {"steps": 1000})
    assert settings["steps"] == 1000
    assert settings["learning_rate"] == 1.0
    assert settings["target_sparsity"] == EdgePruning().target_sparsity


def test_every_problem_with_the_settings_is_named() -> None:
    with pytest.raises(ValueError) as error:
        resolve("acdc", "ioi", {"treshold": 1.0, "reader_order": 3})
    wrong, unknown_name = str(error.value).splitlines()
    assert "unknown setting 'treshold'; closest: threshold" in unknown_name
    assert "reader_order is 3; expected 'reverse', 'forward' or 'random'" in wrong


def test_a_value_that_the_method_refuses_is_named() -> None:
    with pytest.raises(ValueError, match="method 'acdc': threshold is -1; expected a number"):
        resolve("acdc", "ioi", {"threshold": -1})


def test_assignments_are_read_as_toml_or_text() -> None:
    assert parse_assignments(["a=1e-3", "b = true", "c=top-signed", 'd="x"']) == {
        "a": 1e-3,
        "b": True,
        "c": "top-signed",
        "d": "x",
    }
    with pytest.raises(ValueError, match="expected key=value"):
        parse_assignments(["novalue"])


def test_every_default_of_a_task_is_a_setting_of_a_method() -> None:
    for method, tables in task_defaults().items():
        for pattern, settings in tables.items():
            tasks = [task for task in TASKS if defaults_of(method, task) == settings]
            assert tasks, f"no task takes [{method}.{pattern}]"
            for task in tasks:
                assert resolve(method, task, {}).items() >= settings.items()


def test_a_tasks_own_table_stands_before_a_pattern_that_fits() -> None:
    programs = [task for task in TASKS if task.startswith("tracr-")]
    steps = {task: resolve("edge-pruning", task, {})["steps"] for task in programs}
    assert steps.pop("tracr-reverse") == 6000
    assert [steps.pop(f"tracr-xproportion{loss}") for loss in ("", "-softmax")] == [720, 720]
    assert len(steps) == 10 and set(steps.values()) == {4000}
    assert resolve("edge-pruning", "boolean-few-shot", {})["target_sparsity"] == 1.2
    assert defaults_of("edge-pruning", "other") == defaults_of("eap", "tracr-sort") == {}


def test_the_setting_that_sweeps_sparsity_is_one_of_the_methods_own() -> None:
    assert {name: swept(name) for name in ("acdc", "edge-pruning", "eap", "gone")} == {
        "acdc": "threshold",
        "edge-pruning": "target_sparsity",
        "eap": None,
        "gone": None,
    }
    for name, method in METHODS.items():
        own = {*allowed(name), None}
        assert {method.sweeps, *method.after_training} <= own


def test_a_setting_that_came_later_defines_a_cell_only_where_it_is_not_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"number": 2.0, "flag": False}
    assert defining("sample", settings) == settings
    monkeypatch.setattr(Sample, "added", ("flag",))
    assert defining("sample", settings) == {"number": 2.0}
    assert defining("sample", {**settings, "flag": True}) == {**settings, "flag": True}
    assert completed("sample", {"number": 2.0}) == settings
    assert completed("a method that is gone", {"number": 2.0}) == {"number": 2.0}


def test_settings_that_methods_have_got_are_no_part_of_their_reference_cells_names() -> None:
    for method in METHODS.values():
        assert set(method.added) <= set(allowed(method.name))
    defaults = resolve("acdc", "ioi", {})
    assert "abs_value_threshold" in defaults and "abs_value_threshold" not in defining(
        "acdc", defaults
    )
