"""Rows of MIB's published data (Mueller et al., 2025), as lines of a user's own prompt file.

A row is recognised by the counterfactual that MIB's circuit track uses: `symbol_counterfactual` in
multiple choice (copycolors_mcqa, arc_easy, arc_challenge), `s2_io_flip_counterfactual` in ioi, and
`random_counterfactual` in arithmetic_addition and arithmetic_subtraction.
"""

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Any]
Answers = Callable[[Fields, Any], tuple[str, str]]
"""(a row, its counterfactual) -> the right answer and the wrong one."""


def is_published(fields: Fields) -> bool:
    """Whether a line of JSON is such a row."""
    return "clean" not in fields and "prompt" in fields


def with_tags(fields: Fields) -> Fields:
    """The row with its two prompts as `clean` and `corrupted`, followed by tagged answers.

    Raises ValueError where a part of the row is missing.
    """
    for column, answers in _ANSWERS.items():
        if column in fields:
            twin = fields[column]
            try:
                right, wrong = answers(fields, twin)
                clean, corrupted = _tagged(fields["prompt"], right), _tagged(twin["prompt"], wrong)
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{column} with {type(error).__name__} {error}; expected a row of MIB, with a "
                    "prompt and its answer on both sides"
                ) from None
            return {**fields, "clean": clean, "corrupted": corrupted}
    raise ValueError(f"a prompt without clean, corrupted or one of {', '.join(_ANSWERS)}")


def _tagged(prompt: str, answer: str) -> str:
    return f"{prompt.removesuffix(' ')} <predict>{answer.strip()}</predict>"


def _letters(row: Fields, twin: Any) -> tuple[str, str]:
    right, wrong = (side["choices"]["label"][side["answerKey"]] for side in (row, twin))
    return right, wrong


def _names(row: Fields, _: Any) -> tuple[str, str]:
    names = row["metadata"]
    return names["indirect_object"], names["subject"]


def _results(row: Fields, twin: Any) -> tuple[str, str]:
    return str(row["label"]), str(twin["label"])


_ANSWERS: Mapping[str, Answers] = {
    "symbol_counterfactual": _letters,
    "s2_io_flip_counterfactual": _names,
    "random_counterfactual": _results,
}
