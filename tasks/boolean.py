"""Boolean expressions: "... not (True and False) or False\\nValue:" -> " True".

The task of Edge Pruning's case study (Bhaskar et al., 2024), with an instruction or after three
solved examples, in our own words. The rules are those of the published code: an expression has up
to six literals, `and`, `or` and `not` are nested at most three deep, and no more than two `not`
follow one another. There are 84,406 such expressions, half of them true. They are divided at random
among the splits. Drawn prompts alternate between true and false, and every number of literals is
equally likely until its expressions are used up. Both tasks ask the same expressions.

The corrupted prompt has the same shape and other literals. They are drawn uniformly from all that
give the opposite value; the published code does not say how its own are made. The paper trains on
up to 8,000 prompts. That many can be asked for here, but methods need fewer. Chance level: half.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice, product
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from edgewise.prompts import PromptPairs
from edgewise.task import Task, TooFewPrompts
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.questions import Question, asked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_LITERALS, MAX_DEPTH, MAX_NOTS = 6, 3, 2
SHARES = {"train": 0.5, "validation": 0.1, "test": 0.4}
"""The share of the expressions that each split gets, as in the paper's code."""

QUESTION = "Expression: {expression}\nValue:"
INSTRUCTION = "Work out the Boolean expression below. Its value is either True or False.\n\n"
SHOTS = {
    "True and not False": True,
    "(False or False) and True": False,
    "not (True and False)": True,
}
"""Solved examples; no prompt asks them again."""


@dataclass(frozen=True, eq=False)
class Shape:
    """An expression with a slot for each literal, and its value for every choice of them.

    A choice is a number. Its binary digits, the first literal's first, are 1 for True. The text is
    in brackets if it needs them as a part of a larger expression.
    """

    text: str
    values: Bool[Tensor, " choice"]

    def filled(self, choice: int) -> str:
        text = self.text[1:-1] if self.text.startswith("(") else self.text
        n_literals = self.text.count("{}")
        digits = (choice >> place & 1 for place in reversed(range(n_literals)))
        return text.format(*map(bool, digits))


class Values(NamedTuple):
    """An expression, one of the same shape and the opposite value, and the first one's value."""

    clean: str
    corrupted: str
    value: bool


@dataclass(frozen=True)
class BooleanTask(DrawnTask):
    """The value of a Boolean expression; `introduction` is the text before the question."""

    name: str
    introduction: str
    train: int = 200
    validation: int = 200
    test: int = 400
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return f"The value of a Boolean expression; {self.name.removeprefix('boolean-')} prompt"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        drawn = questions(generator)
        splits = {}
        for kind, number in numbers.items():
            found = list(islice(drawn[kind], number))
            if len(found) < number:
                raise TooFewPrompts(
                    f"{number:,} {kind} prompts asked for, but seed {generator.initial_seed()} has "
                    f"{len(found):,}",
                    {kind: number},
                    len(found),
                )
            splits[kind] = self._pairs(tokenizer, found)
        return next_token_task(self.name, self.version, splits)

    def prompt(self, expression: str) -> str:
        return self.introduction + QUESTION.format(expression=expression)

    def _pairs(self, tokenizer: "PreTrainedTokenizerBase", drawn: list[Values]) -> PromptPairs:
        return asked(
            tokenizer,
            [
                Question(self.prompt(clean), self.prompt(twin), str(value), str(not value))
                for clean, twin, value in drawn
            ],
        )


BOOLEAN_INSTRUCTION = BooleanTask("boolean-instruction", INSTRUCTION)
BOOLEAN_FEW_SHOT = BooleanTask(
    "boolean-few-shot",
    "".join(f"{QUESTION.format(expression=shot)} {value}\n\n" for shot, value in SHOTS.items()),
)


def questions(generator: Generator) -> dict[str, Iterator[Values]]:
    """All expressions but the solved ones, by split, in random order, true and false in turn."""
    values = torch.cat([shape.values for shape in shapes()])
    n_choices = torch.tensor([len(shape.values) for shape in shapes()])
    ends = n_choices.cumsum(0)
    split, luck, twin = torch.rand(3, len(values), generator=generator, dtype=torch.float64)
    # An exponential race: every number of literals is equally likely to come next, until used up.
    n_choices = n_choices.repeat_interleave(n_choices)
    order = (-luck.log() * torch.bincount(n_choices)[n_choices]).argsort()
    split = torch.bucketize(split, torch.tensor(list(SHARES.values())).cumsum(0)[:-1])

    def drawn(numbers: Iterable[int]) -> Iterator[Values]:
        for number in numbers:
            place = int(torch.searchsorted(ends, number, right=True))
            shape = shapes()[place]
            choice = number - int(ends[place]) + len(shape.values)
            others = torch.nonzero(shape.values != values[number]).squeeze(1)
            other = others[int(twin[number] * len(others))]
            clean, value = shape.filled(choice), bool(values[number])
            if clean not in SHOTS:
                yield Values(clean, shape.filled(int(other)), value)

    pools = [order[split[order] == k] for k in range(len(SHARES))]
    turns = [
        zip(pool[values[pool]].tolist(), pool[~values[pool]].tolist(), strict=False)
        for pool in pools
    ]
    return {kind: drawn(chain.from_iterable(t)) for kind, t in zip(SHARES, turns, strict=True)}


@cache
def shapes() -> tuple[Shape, ...]:
    """All shapes, those with few literals first."""
    numbers = range(1, MAX_LITERALS + 1)
    return tuple(shape for n in numbers for shape in _shapes(n, MAX_DEPTH, MAX_NOTS))


@cache
def _shapes(n_literals: int, depth: int, nots: int) -> tuple[Shape, ...]:
    """Shapes nested at most `depth` deep that begin with `not` at most `nots` times in a row."""
    found = [Shape("{}", torch.tensor([False, True]))] if n_literals == 1 else []
    if depth and nots:
        for shape in _shapes(n_literals, depth - 1, nots - 1):
            found.append(Shape(f"not {shape.text}", ~shape.values))
    for n_left in range(1, n_literals if depth else 1):
        sizes = (n_left, n_literals - n_left)
        for left, right in product(*(_shapes(n, depth - 1, MAX_NOTS) for n in sizes)):
            a, b = left.values[:, None], right.values
            for word, values in (("and", a & b), ("or", a | b)):
                found.append(Shape(f"({left.text} {word} {right.text})", values.flatten()))
    return tuple(found)
