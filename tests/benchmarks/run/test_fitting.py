"""The numbers of prompts of a comparison, lowered where a tokenizer allows fewer."""

from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.grid.comparison import Comparison
from benchmarks.run import fitting
from benchmarks.run.fitting import fitted
from tests.tasks.tokenizers import piece_tokenizer

TASKS = ["arithmetic-addition", "tracr-reverse", "ioi-t1"]


@pytest.fixture(scope="module")
def by_digit() -> Any:
    return piece_tokenizer()


def fit(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, budget: str, asked: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The table before and after, and the lines on it."""
    monkeypatch.setattr(fitting, "tokenizer_of", lambda _: tokenizer)
    table = Comparison(TASKS, ["random"], "a/b", asked, seeds=(0, 1)).table(budget)
    return table, *fitted(table, asked)


@pytest.mark.parametrize(
    ("budget", "asked", "sizes"),
    [
        ("medium", {}, (96, 48, 144)),
        ("medium", {"test": 200}, (58, 29, 200)),
        ("large", {"train": 180}, (180, 36, 72)),
    ],
)
def test_numbers_that_were_not_asked_for_are_lowered_and_a_line_says_so(
    budget: str,
    asked: dict[str, int],
    sizes: tuple[int, ...],
    by_digit: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, changed, (line,) = fit(by_digit, monkeypatch, budget, asked)
    own = dict(zip(("train", "validation", "test"), sizes, strict=True))
    assert changed == {**table, "task": {**table["task"], "arithmetic-addition": own}}
    assert line.startswith(
        f"arithmetic-addition: {sizes[0]} train / {sizes[1]} validation / {sizes[2]} test prompts "
        "instead of "
    )
    assert line.endswith("; the tokenizer of a/b allows no more")


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        ("small", {}),
        ("large", {}),
        ("small", {"train": 287}),
        ("large", {"train": 200, "test": 89}),
    ],
)
def test_numbers_that_fit_and_those_that_cannot_be_made_are_left_as_they_are(
    budget: str, asked: dict[str, int], by_digit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, changed, lines = fit(by_digit, monkeypatch, budget, asked)
    assert changed == table and not lines


def test_a_model_without_a_tokenizer_is_left_to_the_check_of_the_run() -> None:
    table = Comparison(TASKS, ["random"], "./no").table("medium")
    assert fitted(table, ()) == (table, [])
