"""Docstrings: "def load(self, a, b, c, d, e, f): ... :param c: ... :param d: ... :param" -> " e".

The task of Heimersheim and Janiak (2023), by the rules of ACDC (Conmy et al., 2023), with our own
text and words. A function has six arguments. Its docstring describes the third and the fourth, so
the answer is the fifth. The first two and the last are wrong answers.

The corrupted prompt has six other arguments and two further names in its docstring, like ACDC's
`random_random`; everything else is the same. It therefore says nothing about the right answer. The
margin is the logit of the right name minus the largest logit of any other name in either prompt.
The distractor is the fifth argument of the corrupted prompt.

Any two prompts, of the same or different splits, differ in the function's name or in the third,
fourth or fifth argument. With GPT-2's tokenizer there are 948,480 such prompts. The other words are
drawn at random. Chance level: an accuracy of one sixth, for a model that guesses among the clean
prompt's arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tasks.shared.alternatives import Alternatives
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.questions import Question, asked, one_token
from tasks.shared.text import draw, tokenizer_name
from tasks.words.docstring import ARGUMENTS, FUNCTIONS, MEANINGS, PROMPT, THINGS, VERBS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEFORE, MATCHING, AFTER = 2, 3, 1
"""How many arguments come before those to be described, how many these are, and how many follow."""
IN_CLEAN = BEFORE + MATCHING + AFTER
IN_TWIN = IN_CLEAN + MATCHING - 1
"""How many names the corrupted prompt has: its docstring names none of its arguments."""


@dataclass(frozen=True)
class Docstring(DrawnTask):
    """The next argument that a function's docstring has to describe."""

    name: str = "docstring"
    train: int = 200
    validation: int = 200
    test: int = 1000
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return "The next argument of a function that its docstring describes"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        lexicon = read_lexicon(tokenizer)
        drawn = _draw(lexicon, numbers, generator)
        pairs = {kind: asked(tokenizer, questions) for kind, questions in drawn.items()}
        names = Alternatives(_Names(_places(tokenizer, pairs)))
        return next_token_task(
            self.name,
            self.version,
            pairs,
            attribution_loss=names.negative_margin,
            metrics=names.metrics(),
        )


DOCSTRING = Docstring()


def read_lexicon(tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[str]]:
    """The usable words, by kind. Raises ValueError where a list has too few."""
    needed = {
        "arguments": IN_CLEAN + IN_TWIN,
        "meanings": 2,
        "functions": 2,
        "verbs": 1,
        "things": 1,
    }
    lists = (ARGUMENTS, MEANINGS, FUNCTIONS, VERBS, THINGS)
    return {
        kind: list(one_token(tokenizer, words, kind, needed=least))
        for (kind, least), words in zip(needed.items(), lists, strict=True)
    }


def _draw(
    lexicon: Mapping[str, list[str]], numbers: Mapping[str, int], generator: Generator
) -> dict[str, list[Question]]:
    """Disjoint sets of distinct questions."""
    n_names = len(lexicon["arguments"])
    orders = torch.tensor(list(permutations(range(n_names), MATCHING)))
    choices = {"functions": len(lexicon["functions"]), "orders of arguments": len(orders)}
    drawn = {}
    for kind, (function, order) in draw(choices, numbers, generator).items():
        matching = orders[order]
        # All in one call, so that a larger set begins with the smaller one.
        luck = torch.rand(len(matching), n_names + len(_FILLERS), generator=generator)
        own = luck[:, :n_names].scatter(1, matching, -1.0)
        others = own.topk(IN_CLEAN - MATCHING + IN_TWIN).indices
        names = torch.cat([others[:, :BEFORE], matching, others[:, BEFORE:]], dim=1)
        texts = {
            slot: (column * len(lexicon[words])).long()
            for (slot, words), column in zip(_FILLERS.items(), luck[:, n_names:].T, strict=True)
        }
        drawn[kind] = [
            _question(
                [lexicon["arguments"][place] for place in names[k]],
                {slot: lexicon[_FILLERS[slot]][place[k]] for slot, place in texts.items()},
                lexicon["functions"][function[k]],
            )
            for k in range(len(matching))
        ]
    return drawn


_FILLERS = {
    "verb": "verbs",
    "thing": "things",
    "first_meaning": "meanings",
    "second_meaning": "meanings",
}
"""The slots of the prompt that say nothing about its arguments, and their word lists."""


def _question(names: list[str], fillers: Mapping[str, str], function: str) -> Question:
    """`names` are the clean prompt's arguments, the twin's, and those of the twin's docstring."""
    clean, twin = names[:IN_CLEAN], names[IN_CLEAN : 2 * IN_CLEAN]
    answer = BEFORE + MATCHING - 1

    def prompt(arguments: list[str], first: str, second: str) -> str:
        return PROMPT.format(
            function=function, arguments=", ".join(arguments), first=first, second=second, **fillers
        )

    return Question(
        prompt(clean, *clean[BEFORE:answer]), prompt(twin, *names[-2:]), clean[answer], twin[answer]
    )


@dataclass(frozen=True)
class _Names:
    """The names in either prompt, read from the positions that hold them in all prompts."""

    places: list[int]

    def __call__(self, pairs: PromptPairs) -> Int[Tensor, "batch name"]:
        sides = (pairs.clean, pairs.corrupted)
        return torch.stack([side[:, place] for side in sides for place in self.places], dim=1)


def _places(tokenizer: "PreTrainedTokenizerBase", splits: Mapping[str, PromptPairs]) -> list[int]:
    """The positions in which a prompt and its twin differ: those of the names of arguments.

    Raises ValueError where they are not the same in all prompts.
    """
    found = {
        tuple(torch.nonzero(changed).flatten().tolist())
        for pairs in splits.values()
        for changed in pairs.clean != pairs.corrupted
    }
    first = found.pop()
    if found or len(first) != IN_TWIN:
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: the names of arguments are not one token each in "
            f"{IN_TWIN} places that are the same in all prompts"
        )
    return list(first)
