"""Which prompts a model solves, overall and for each template, and what `edgewise solve` says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from benchmarks.cli import main
from benchmarks.solving import accuracies, table
from benchmarks.warnings import warnings_about
from edgewise.metrics import KL, Metric
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tests.methods import toys

RIGHT = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
"""The metric's values for six prompts; a prompt is right where it is above a half."""
TEMPLATES = torch.tensor([2, 0, 2, 0, 0, 2])


def known(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    """`RIGHT` for the prompts whose answers are their numbers."""
    return RIGHT[pairs.answers[:, 0]].expand(logits.shape[:-2])


def a_task(**changes: Any) -> Task:
    pairs = toys.random_pairs(len(RIGHT))
    numbers = torch.arange(len(RIGHT))[:, None].expand(-1, pairs.targets.shape[1])
    pairs = replace(pairs, answers=numbers, templates=TEMPLATES)
    metrics = {"kl": KL, "known": Metric("known", known, "higher", "known", right_above=0.5)}
    return replace(toys.task(pairs), metrics=metrics, templates=("a", "b", "c"), **changes)


def test_accuracy_is_the_share_of_right_prompts_of_each_template() -> None:
    found = accuracies(toys.gpt2(), a_task())
    assert [(part.template, part.n_prompts, part.share) for part in found] == [
        ("", 6, pytest.approx(4 / 6)),
        ("a", 3, pytest.approx(1 / 3)),
        ("c", 3, 1.0),
    ]


def test_a_task_and_a_template_that_are_not_solved_are_marked_and_warned_of() -> None:
    model, task = toys.gpt2(), a_task()
    head, *_, first, second = table(task, accuracies(model, task)).splitlines()
    assert head.endswith("right on 66.7 % of 6 test prompts: NOT SOLVED, less than 75 %")
    assert first.split() == ["a", "3", "33.3", "not", "solved"]
    assert second.split() == ["c", "3", "100"]
    assert warnings_about(model, task) == [
        "the full model is right on only 67 % of the test prompts"
    ]


def test_a_task_that_does_not_say_what_is_right_has_no_accuracy() -> None:
    task = a_task(primary="kl")
    task = replace(task, metrics={"kl": KL})
    assert accuracies(toys.gpt2(), task) == []
    assert table(task, []) == "random prompts: no metric says whether the full model is right"


def test_solve_prints_each_task() -> None:
    command = ["solve", "--task", "gendered-pronoun,ioi-t1", "--test", "24"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "gendered-pronoun: the full model is right on" in result.stdout
    assert "So {name} is a {quality} swimmer, isn't {pronoun}" in result.stdout
    assert "One day, {name} and {name} met at the {place}." in result.stdout


def test_solve_says_in_one_line_what_it_cannot_do() -> None:
    for arguments, error in (
        (["--task", "iou"], "Error: unknown task 'iou'; closest: ioi"),
        (["--task", "tracr-reverse", "--model", "bundled"], "has its own model; leave the model"),
        (["--task", "ioi-t1", "--test", "10000000"], "prompts asked for"),
    ):
        result = CliRunner().invoke(main, ["solve", *arguments])
        assert result.exit_code == 2
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error"))
        assert error in line
