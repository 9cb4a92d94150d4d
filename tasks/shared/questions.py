"""Prompts from whole texts: a question, its corrupted twin, and a right and a wrong answer.

A task writes its texts with words that are one token each. Here they are tokenised as a user would
type them, and every rule is checked: all words are known, both answers are one token that follows
the prompt, and a prompt is as long as its twin.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import dropwhile
from typing import TYPE_CHECKING, NamedTuple

import torch

from edgewise.prompts import PromptPairs
from tasks.shared.next_token import Example, stacked
from tasks.shared.text import encode, tokenizer_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 60
"""How many characters of a prompt's end an error shows."""


class Question(NamedTuple):
    """Two prompts, and the words that are right and wrong after the clean one and a space.

    `template` is the index of the text that both prompts are made from, in a task with several.
    """

    clean: str
    corrupted: str
    answer: str
    distractor: str
    template: int | None = None


def one_token(
    tokenizer: "PreTrainedTokenizerBase", words: Iterable[str], what: str, *, needed: int
) -> dict[str, int]:
    """The words that are one known token after a space, with their tokens.

    A tokenizer may have a token for the space itself, as Llama 2's has before a digit. Raises
    ValueError where there are fewer than `needed`; the error calls the words `what`.
    """
    candidates = list(dict.fromkeys(words))
    before, *rows = encode(tokenizer, ["a", *(f"a {word}" for word in candidates)])
    found: dict[int, str] = {}
    for word, row in zip(candidates, rows, strict=True):
        added = _without_space(tokenizer, row[len(before) :])
        known = added != [tokenizer.unk_token_id]
        if row[: len(before)] == before and len(added) == 1 and known:
            found.setdefault(added[0], word)
    if len(found) < needed:
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: found {len(found)} {what} that are one token; {needed} "
            "are needed"
        )
    return {word: token for token, word in found.items()}


def asked(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[Question]) -> PromptPairs:
    """The questions as prompt pairs, answered at their last position.

    Raises ValueError, which names the tokenizer and a prompt, where a word is not known, an answer
    is not one token, or a prompt and its twin differ in length.
    """
    texts = dict.fromkeys(text for question in questions for text in _texts(question))
    ids = dict(zip(texts, encode(tokenizer, list(texts)), strict=True))
    # BOS and the unknown token may be the same: then a BOS is not counted as an unknown word.
    unknown, (empty,) = tokenizer.unk_token_id, encode(tokenizer, [""])
    for text, row in ids.items():
        if row.count(unknown) > empty.count(unknown):  # pyright: ignore[reportArgumentType]
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: the tokenizer does not know every word of "
                f"{_end(text)}"
            )

    def answered(prompt: str, word: str) -> tuple[list[int], int]:
        """The prompt's ids and the answer's."""
        alone, row = ids[prompt], ids[f"{prompt} {word}"]
        added = _without_space(tokenizer, row[len(alone) :])
        if row[: len(alone)] != alone or len(added) != 1:
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: {word!r} is not one token after {_end(prompt)}"
            )
        return row[:-1], row[-1]

    def example(question: Question) -> Example:
        clean, answer = answered(question.clean, question.answer)
        same, distractor = answered(question.clean, question.distractor)
        corrupted, _ = answered(question.corrupted, question.answer)
        if len(clean) != len(corrupted):
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: {_end(question.clean)} has {len(clean)} tokens and "
                f"its corrupted twin {_end(question.corrupted)} {len(corrupted)}; expected equal "
                "numbers"
            )
        if same != clean:
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: {question.answer!r} and {question.distractor!r} do "
                f"not follow the same tokens after {_end(question.clean)}"
            )
        return Example(clean, corrupted, [len(clean) - 1], [answer], [distractor])

    pairs = stacked([example(question) for question in questions])
    templates = [question.template for question in questions if question.template is not None]
    return replace(pairs, templates=torch.tensor(templates)) if templates else pairs


def _texts(question: Question) -> Iterable[str]:
    """All that is tokenised of a question."""
    clean, corrupted, answer, distractor, _ = question
    return (
        *(clean, corrupted),
        *(f"{clean} {answer}", f"{clean} {distractor}", f"{corrupted} {answer}"),
    )


def _without_space(tokenizer: "PreTrainedTokenizerBase", tokens: list[int]) -> list[int]:
    """The tokens from the first that is not white space; a single token is kept as it is."""
    if len(tokens) < 2:
        return tokens
    return list(dropwhile(lambda token: not str(tokenizer.decode([token])).strip(), tokens))


def _end(text: str) -> str:
    """A prompt as an error shows it, on one line."""
    return repr(text if len(text) <= SHOWN else f"...{text[-SHOWN:]}")
