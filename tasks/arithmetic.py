"""Arithmetic: "The sum of 12 and 34 is" -> " 46".

The addition and subtraction tasks of MIB (Mueller et al., 2025), with eight sentences of our own
for each. Operands are 1 to 99. All operands and results in the prompts are single tokens: with
GPT-2's tokenizer this allows all numbers, and with one that splits numbers into digits only 1 to 9.
MIB, too, keeps only prompts whose results are single tokens. In a subtraction the first operand is
larger.

The corrupted prompt is the same sentence with another pair of operands, drawn uniformly from all
pairs whose result differs, like MIB's random counterfactual. The distractor is the result of this
pair. Training, validation and test prompts differ in their operands or their sentence. With GPT-2's
tokenizer there are 78,408 prompts of addition and 38,808 of subtraction; with one that splits
numbers there are 288 of each. Chance level: an accuracy of at most a few per cent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add, sub
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from edgewise.task import Task
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.questions import Question, asked, one_token
from tasks.shared.text import draw, tokenizer_name
from tasks.words.arithmetic import ADDITION, SUBTRACTION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LARGEST = 99
Sum = tuple[int, int, int]
"""The result, and both operands."""


@dataclass(frozen=True)
class Arithmetic(DrawnTask):
    """The result of one operation on two numbers."""

    name: str
    operation: Callable[[int, int], int]
    sentences: tuple[str, ...]
    train: int = 100
    validation: int = 50
    test: int = 100
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return f"{self.name.removeprefix('arithmetic-').capitalize()} of two numbers up to 99"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        sums = self.sums(tokenizer)
        drawn = self._draw(sums, numbers, generator)
        pairs = {kind: asked(tokenizer, questions) for kind, questions in drawn.items()}
        return next_token_task(self.name, self.version, pairs, templates=self.sentences)

    def sums(self, tokenizer: "PreTrainedTokenizerBase") -> list[Sum]:
        """All calculations whose numbers are single tokens, in the order of their results.

        Raises ValueError where these have fewer than two different results.
        """
        candidates = map(str, range(1, 2 * LARGEST + 1))
        known = set(map(int, one_token(tokenizer, candidates, "numbers", needed=2)))
        operands = [number for number in known if number <= LARGEST]
        found = sorted(
            (result, first, second)
            for first in operands
            for second in operands
            if (result := self.operation(first, second)) in known
        )
        if not found or found[0][0] == found[-1][0]:
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: {len(found)} pairs of one-token numbers have a "
                f"one-token result of {self.name.removeprefix('arithmetic-')}; expected pairs with "
                "at least two results"
            )
        return found

    def _draw(
        self, sums: list[Sum], numbers: Mapping[str, int], generator: Generator
    ) -> dict[str, list[Question]]:
        """Disjoint sets of distinct questions."""
        choices = {"sentences": len(self.sentences), "pairs of numbers": len(sums)}
        results = torch.tensor([result for result, _, _ in sums])
        drawn = {}
        for kind, (sentence, place) in draw(choices, numbers, generator).items():
            luck = torch.rand(place.shape, generator=generator, dtype=torch.float64)
            other = with_another_result(results, place, luck)
            drawn[kind] = [
                self._question(int(sentence[k]), sums[place[k]], sums[other[k]])
                for k in range(len(place))
            ]
        return drawn

    def _question(self, sentence: int, asked: Sum, other: Sum) -> Question:
        clean, corrupted = (
            self.sentences[sentence].format(first=first, second=second)
            for _, first, second in (asked, other)
        )
        return Question(clean, corrupted, str(asked[0]), str(other[0]), sentence)


ARITHMETIC_ADDITION = Arithmetic("arithmetic-addition", add, ADDITION)
ARITHMETIC_SUBTRACTION = Arithmetic("arithmetic-subtraction", sub, SUBTRACTION)


def with_another_result(
    results: Int[Tensor, " pair"],
    place: Int[Tensor, " prompt"],
    luck: Float[Tensor, " prompt"],
) -> Int[Tensor, " prompt"]:
    """For each pair of numbers, the index of a pair with another result; `results` are sorted.

    `luck`, from 0 up to 1, chooses the pair. Pairs with equal results are neighbours and can be
    skipped.
    """
    first = torch.searchsorted(results, results[place])
    equal = torch.searchsorted(results, results[place], right=True) - first
    other = (luck * (len(results) - equal)).long()
    return other + equal * (other >= first)
