"""Multiple choice: "The cup is red. What color is the cup?\\nA. blue\\nB. red ... Answer:" -> " B".

The task "copy colors" of MIB (Mueller et al., 2025), with our own question, things and order of
options. The four options are different colours, and one of them is the colour of the thing. The
model answers with a letter; each of the four is right equally often, in turn. Training, validation
and test prompts differ in the thing, in the four colours or their order, or in the right letter.

In `mcqa` the corrupted prompt has four other letters of the alphabet in place of A to D, in any
order, and is otherwise the same. This is MIB's counterfactual for circuits, except that MIB also
uses symbols other than letters. The distractor is the letter that is right in the corrupted prompt.
In `mcqa-position` the right colour is swapped with that of another option, whose letter is the
distractor.

The distractor of `mcqa` is not in the clean prompt, so the logit difference does not say whether a
model finds the right option. The margin over the best of the three wrong letters does. MIB uses the
token of a letter at the beginning of a text; here it is the token of a letter after a space. With
GPT-2's tokenizer there are 309,120 prompts. Chance level: an accuracy of a quarter.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tasks.shared.alternatives import Alternatives
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.questions import Question, asked, one_token
from tasks.shared.text import draw, encode, tokenizer_name
from tasks.words.mcqa import ANSWER, COLORS, NOUNS, OPTION, QUESTION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = "ABCD"


@dataclass(frozen=True)
class Lexicon:
    """The words that a tokenizer has as one token each."""

    nouns: list[str]
    colors: list[str]
    others: list[str]
    """Letters for the options of a corrupted prompt."""
    letters: Mapping[str, int]
    """The tokens of the letters of the clean options."""


@dataclass(frozen=True)
class MultipleChoice(DrawnTask):
    """Questions about the colour of a thing; `corruption` says what a twin changes."""

    name: str
    corruption: Literal["letters", "position"]
    train: int = 200
    validation: int = 200
    test: int = 1000
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        change = {"letters": "other letters", "position": "the right option elsewhere"}
        return f"The letter of a colour among four options; corrupted: {change[self.corruption]}"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        lexicon = read_lexicon(tokenizer)
        drawn = self._draw(lexicon, numbers, generator)
        alternatives = Alternatives(_Letters(torch.tensor([*lexicon.letters.values()])))
        pairs = {kind: asked(tokenizer, questions) for kind, questions in drawn.items()}
        metrics = alternatives.metrics()
        return next_token_task(self.name, self.version, pairs, metrics=metrics)

    def _draw(
        self, lexicon: Lexicon, numbers: Mapping[str, int], generator: Generator
    ) -> dict[str, list[Question]]:
        """Disjoint sets of distinct questions."""
        orders = list(permutations(lexicon.colors, len(LETTERS)))
        choices = {
            "right letters": len(LETTERS),
            "things": len(lexicon.nouns),
            "orders of colors": len(orders),
        }
        drawn = {}
        for kind, (right, noun, order) in draw(choices, numbers, generator, strata=4).items():
            # All in one call, so that a larger set begins with the smaller one.
            luck = torch.rand(len(right), 1 + len(lexicon.others), generator=generator)
            others = luck[:, 1:].topk(len(LETTERS)).indices
            wrong = 1 + (luck[:, 0] * (len(LETTERS) - 1)).long()
            drawn[kind] = [
                self._question(
                    lexicon.nouns[noun[k]],
                    orders[order[k]],
                    int(right[k]),
                    "".join(lexicon.others[place] for place in others[k]),
                    int((right[k] + wrong[k]) % len(LETTERS)),
                )
                for k in range(len(right))
            ]
        return drawn

    def _question(
        self, noun: str, colors: tuple[str, ...], right: int, others: str, wrong: int
    ) -> Question:
        """`others` are letters for the twin, `wrong` is the place of the right colour in it."""
        clean = _prompt(noun, colors[right], colors, LETTERS)
        if self.corruption == "letters":
            twin = _prompt(noun, colors[right], colors, others)
            return Question(clean, twin, LETTERS[right], others[right])
        swapped = list(colors)
        swapped[right], swapped[wrong] = colors[wrong], colors[right]
        twin = _prompt(noun, colors[right], swapped, LETTERS)
        return Question(clean, twin, LETTERS[right], LETTERS[wrong])


MCQA = MultipleChoice("mcqa", "letters")
MCQA_POSITION = MultipleChoice("mcqa-position", "position")


@dataclass(frozen=True, eq=False)
class _Letters:
    """The tokens of the four letters, the same for every prompt."""

    tokens: Int[Tensor, " letter"]

    def __call__(self, pairs: PromptPairs) -> Int[Tensor, "batch letter"]:
        return self._on(pairs.answers.device).expand(len(pairs), -1)

    @cache  # noqa: B019 (so that a step need not wait for a transfer; they live as long as the process)
    def _on(self, device: torch.device) -> Int[Tensor, " letter"]:
        return self.tokens.to(device)


def read_lexicon(tokenizer: "PreTrainedTokenizerBase") -> Lexicon:
    """The usable words. Raises ValueError where a list has too few."""
    known = one_token(tokenizer, string.ascii_uppercase, "letters", needed=2 * len(LETTERS))
    # A letter also begins the line of an option, where it must not merge with its neighbours.
    options = encode(tokenizer, [f"?{OPTION.format(letter=letter, color='')}" for letter in known])
    lengths = dict(zip(known, map(len, options), strict=True))
    letters = {
        letter: token for letter, token in known.items() if lengths[letter] == lengths.get("A")
    }
    if len(letters) < 2 * len(LETTERS) or not set(LETTERS) <= letters.keys():
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: the letters {', '.join(LETTERS)} and four others are "
            "not one token each before an option"
        )
    return Lexicon(
        nouns=list(one_token(tokenizer, NOUNS, "things", needed=2)),
        colors=list(one_token(tokenizer, COLORS, "colors", needed=len(LETTERS))),
        others=[letter for letter in letters if letter not in LETTERS],
        letters={letter: letters[letter] for letter in LETTERS},
    )


def _prompt(noun: str, color: str, colors: tuple[str, ...] | list[str], letters: str) -> str:
    options = (
        OPTION.format(letter=letter, color=option)
        for letter, option in zip(letters, colors, strict=True)
    )
    return QUESTION.format(noun=noun, color=color) + "".join(options) + ANSWER
