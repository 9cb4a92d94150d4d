"""What a setting may be, and what is said about one that it may not be."""

from typing import Literal

import pytest

from benchmarks.grid.settings import (
    allowed,
    convert,
    defaults_of,
    grid,
    parse_assignments,
    resolve,
    swept,
    task_defaults,
    unknown,
)
from methods import METHODS
from methods.edge_pruning import EdgePruning
from tasks import TASKS


@pytest.mark.parametrize(
    ("value", "hint", "converted"),
    [
        (1, float, 1.0),
        (3, int, 3),
        (True, bool, True),
        ("top", Literal["top", "greedy"], "top"),
        ("none", float | None, None),
        (1, float | None, 1.0),
        ("a", Literal["a"] | None, "a"),
        ("none", Literal["a"] | None, None),
    ],
)
def test_a_value_of_the_right_type_is_taken(value: object, hint: object, converted: object) -> None:
    result = convert(value, hint)
    assert result == converted and type(result) is type(converted)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("1", float, "a number"),
        (True, float, "a number"),
        (float("nan"), float, "a number"),
        (1.0, int, "a whole number"),
        (True, int, "a whole number"),
        (1, bool, "true or false"),
        (1, str, "text"),
        (1, Literal["top", "greedy"], "one of top, greedy"),
        ("x", float | None, 'a number or "none"'),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_in_words(
    value: object, hint: object, words: str
) -> None:
    with pytest.raises(ValueError, match=f"expected {words}"):
        convert(value, hint)


def test_a_wrong_name_is_answered_with_the_closest() -> None:
    assert unknown("method", "edge-prunning", METHODS) == (
        "unknown method 'edge-prunning'; closest: edge-pruning"
    )
    assert "known: a, b" in unknown("thing", "zzz", ["b", "a"])


def test_a_list_is_an_axis_of_the_grid() -> None:
    assert list(grid({"a": [1, 2], "b": "x", "c": [3.0]})) == [
        {"a": 1, "b": "x", "c": 3.0},
        {"a": 2, "b": "x", "c": 3.0},
    ]


def test_given_settings_stand_before_the_tasks_and_those_before_the_class() -> None:
    settings = resolve("edge-pruning", "ioi-t1", {"steps": 1000})
    assert settings["steps"] == 1000
    assert settings["learning_rate"] == 1.0
    assert settings["target_sparsity"] == EdgePruning().target_sparsity


def test_every_problem_with_the_settings_is_named() -> None:
    with pytest.raises(ValueError) as error:
        resolve("acdc", "ioi", {"treshold": 1.0, "reader_order": 3})
    first, second = str(error.value).splitlines()
    assert "unknown setting 'treshold'; closest: threshold" in first
    assert "'reader_order' is 3; expected one of reverse, forward, random" in second


def test_a_value_that_the_method_refuses_is_named() -> None:
    with pytest.raises(ValueError, match=r"method 'acdc': threshold=-1\.0"):
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
