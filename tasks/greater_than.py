"""Greater-than: "The war ... from the year 1732 to the year 17" -> any two digits above 32.

The task of Hanna et al. (2023), by the rules of Edge Pruning (Bhaskar et al., 2024). There are 120
nouns for things that last. Six sentences, as in that paper, name a noun, the year in which it began
and the century in which it ended. A year begins with 10 to 21 and is two tokens: its first two
digits, the century, and its last two. The first and the last such year of a century are left out,
so that there are always right and wrong years to predict. Training, validation and test prompts
differ in the last two digits of their years. The sentences are our own, the same in all splits.

Where a tokenizer has no such years but makes every digit a token, a year is four tokens. Its
probability is then that of the third digit times that of the fourth digit given the third. To
compute this, the prompt forks into ten continuations, one for each third digit, which run in the
same pass with the same mask. The corrupted prompt forks into the same ten digits. Mean ablation is
refused for such prompts.

In `greater-than` the corrupted prompt has the same noun and another year of any century. In
`greater-than-01` the last two digits become 01, as in ACDC (Conmy et al., 2023); centuries whose
year 01 is not two tokens are left out.

The paper's labels are off by one year. Its prompt shows the admissible year *before* the one that
counts as the start, and the start counts as neither right nor wrong. Here the year in the prompt is
the start. `answers` holds the token or tokens of its last two digits. Chance level: a probability
difference of 0 on average over all years.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor
from torch.nn.functional import pad

from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tasks.shared.builder import DrawnTask
from tasks.shared.text import (
    Vocabulary,
    draw,
    encode,
    fill,
    tokenise_answered,
    tokenizer_name,
)
from tasks.shared.years import Years, YearsByDigit
from tasks.words.greater_than import NOUNS, SENTENCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CENTURIES = tuple(map(str, range(10, 22)))
DIGITS = tuple(f"{year:02}" for year in range(100))
YEARS = tuple(century + digits for century in CENTURIES for digits in DIGITS)


@dataclass(frozen=True)
class GreaterThan(DrawnTask):
    """The task with one of the two rules of corruption."""

    name: str
    corruption: Literal["year", "01"]
    train: int = 150
    validation: int = 150
    test: int = 1000
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        other = {"year": "another year", "01": "the year 01"}[self.corruption]
        return f"A later year in the same century; corrupted: {other}"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        vocabulary, years = read_vocabulary(tokenizer)
        digits = years.tokens if isinstance(years, YearsByDigit) else None
        pairs = self._draw(vocabulary, digits, numbers, generator)
        return Task(
            name=self.name,
            version=self.version,
            train=pairs["train"],
            validation=pairs["validation"],
            test=pairs["test"],
            training_loss=years.kl,
            attribution_loss=years.negative_probability_difference,
            metrics=years.metrics(),
            primary="year_kl",
            templates=SENTENCES,
        )

    def _draw(
        self,
        vocabulary: Vocabulary,
        digits: Int[Tensor, "10"] | None,
        numbers: Mapping[str, int],
        generator: Generator,
    ) -> dict[str, PromptPairs]:
        """Sets of distinct prompts; each set has its own third of the last two digits."""
        years = torch.tensor([int(year) for year in vocabulary.words["year"]])
        parts = torch.randperm(len(DIGITS), generator=generator).chunk(len(numbers))
        pairs = {}
        for (kind, number), part in zip(numbers.items(), parts, strict=True):
            own = self._usable(years) & torch.isin(years % 100, part)
            among = torch.nonzero(own).squeeze(1)
            choices = {
                "templates": len(SENTENCES),
                "nouns": len(vocabulary.words["noun"]),
                "years": len(among),
            }
            which, noun, year = draw(choices, {kind: number}, generator)[kind]
            other = self._other(years, among[year], generator)
            pairs[kind] = _prompts(vocabulary, digits, which, noun, among[year], other)
        return pairs

    def _usable(self, years: Int[Tensor, " year"]) -> Bool[Tensor, " year"]:
        """All but the first and last year of each century, and those that cannot be corrupted."""
        follows = years[1:] // 100 == years[:-1] // 100
        edge = follows.new_zeros(1)
        inner = torch.cat([edge, follows]) & torch.cat([follows, edge])
        first = _year_01(years)
        return inner & ((self.corruption == "year") | (torch.isin(first, years) & (years != first)))

    def _other(
        self, years: Int[Tensor, " year"], chosen: Int[Tensor, " prompt"], generator: Generator
    ) -> Int[Tensor, " prompt"]:
        """For the index of each prompt's year, that of the corrupted prompt's year."""
        if self.corruption == "01":
            return torch.searchsorted(years, _year_01(years)[chosen])
        digits = years % 100
        pool = torch.nonzero((digits >= 1) & (digits <= 98)).squeeze(1)
        luck = torch.randint(len(pool) - 1, chosen.shape, generator=generator)
        return pool[luck + (pool[luck] >= chosen)]


GREATER_THAN = GreaterThan("greater-than", "year")
GREATER_THAN_01 = GreaterThan("greater-than-01", "01")


def read_vocabulary(tokenizer: "PreTrainedTokenizerBase") -> tuple[Vocabulary, Years]:
    """The usable nouns and years, in order, and how a predicted year is measured."""
    if years := _two_token_years(tokenizer):
        vocabulary = _vocabulary(tokenizer, years, width=2)
        return vocabulary, Years(_digit_tokens(tokenizer, vocabulary))
    years, digits, lead = _years_by_digit(tokenizer)
    if years:
        return _vocabulary(tokenizer, years, width=4, lead=lead), YearsByDigit(torch.tensor(digits))
    raise ValueError(
        f"{tokenizer_name(tokenizer)}: no year from {YEARS[0]} to {YEARS[-1]} is two tokens, its "
        "century and two digits, or four, its digits; other years are not supported"
    )


def _vocabulary(
    tokenizer: "PreTrainedTokenizerBase", years: list[str], *, width: int, lead: int = 0
) -> Vocabulary:
    """The usable nouns and years, where a year is `width` tokens after `lead` others."""
    return tokenise_answered(
        tokenizer,
        {prompt: prompt.removesuffix("{century}") + "{year}" for prompt in SENTENCES},
        {"noun": NOUNS, "year": years, "century": [*dict.fromkeys(year[:2] for year in years)]},
        needed={"noun": 2, "year": 2, "century": 2},
        widths={"year": width, "century": width // 2},
        leads={"year": lead, "century": lead},
        answer_width=width // 2,
    )


def _two_token_years(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The years that are their century's token and one more."""
    before, *after = encode(tokenizer, ["a", *(f"a {text}" for text in (*CENTURIES, *YEARS))])
    added = [tokens[len(before) :] for tokens in after]
    centuries = dict(zip(CENTURIES, added[: len(CENTURIES)], strict=True))
    return [
        year
        for year, tokens in zip(YEARS, added[len(CENTURIES) :], strict=True)
        if len(tokens) == 2 and tokens[:1] == centuries[year[:2]]
    ]


def _years_by_digit(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[str], list[int], int]:
    """The years of four digit tokens, the tokens of 0 to 9, and how many precede a year."""
    before, begun, *after = encode(tokenizer, ["a", "a 1", *(f"a 1{digit}" for digit in range(10))])
    lead, digits = begun[:-1], [tokens[-1] for tokens in after]
    if tokenizer.unk_token_id in digits or len(set(digits)) < len(digits):
        return [], digits, 0
    spelled = encode(tokenizer, [f"a {year}" for year in YEARS])
    years = [
        year
        for year, tokens in zip(YEARS, spelled, strict=True)
        if tokens == lead + [digits[int(digit)] for digit in year]
    ]
    return years, digits, len(lead) - len(before)


def _digit_tokens(
    tokenizer: "PreTrainedTokenizerBase", vocabulary: Vocabulary
) -> Int[Tensor, "100"]:
    """The tokens of 00 to 99. Those in no usable year (GPT-2: 00) are spelled like the others."""
    known = {year[2:]: tokens[1] for year, tokens in vocabulary.words["year"].items()}
    digits, token = next(iter(known.items()))
    spelling = str(tokenizer.convert_ids_to_tokens(token))
    tokens: dict[str, Any] = {
        text: tokenizer.convert_tokens_to_ids(spelling.replace(digits, text)) for text in DIGITS
    }
    if tokenizer.unk_token_id in tokens.values() or not known.items() <= tokens.items():
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: the two digits 00 to 99 are not a hundred tokens that "
            f"follow a century like {spelling!r}"
        )
    return torch.tensor([*tokens.values()])


def _year_01(years: Int[Tensor, " year"]) -> Int[Tensor, " year"]:
    return years // 100 * 100 + 1


def _prompts(
    vocabulary: Vocabulary,
    digits: Int[Tensor, "10"] | None,
    which: Int[Tensor, " prompt"],
    noun: Int[Tensor, " prompt"],
    year: Int[Tensor, " prompt"],
    other: Int[Tensor, " prompt"],
) -> PromptPairs:
    """Prompts with these templates, nouns and years; the corrupted ones have the other years.

    If `digits` are given, the prompts fork into them.
    """
    patterns = [vocabulary.patterns[sentence] for sentence in SENTENCES]
    nouns, years = vocabulary.ids("noun")[noun], vocabulary.ids("year")
    half = years.shape[1] // 2
    (clean, lengths), (corrupted, _) = (
        fill(patterns, which, {"noun": nouns, "year": tokens, "century": tokens[:, :half]})
        for tokens in (years[year], years[other])
    )
    answers, ends = years[year][:, half:], lengths[:, None]
    if digits is None:
        return PromptPairs(
            clean, corrupted, lengths, targets=ends - 1, answers=answers, templates=which
        )
    places = ends + torch.arange(len(digits))
    clean, corrupted = (
        pad(prompts, (0, len(digits))).scatter(1, places, digits.expand_as(places))
        for prompts in (clean, corrupted)
    )
    return PromptPairs(
        clean,
        corrupted,
        lengths + len(digits),
        targets=torch.cat([ends - 1, places], 1),
        answers=torch.cat([answers[:, :1], answers[:, 1:].expand_as(places)], 1),
        forks=lengths,
        templates=which,
    )
