"""Gendered pronoun: "So Alice is a very good singer, isn't" -> " she".

The task of Edge Pruning's paper (Bhaskar et al., 2024), after Mathwin et al. (2023). There are 30
sentences with one name each. They begin with "So" and end with a question tag ("isn't", "doesn't",
"can't", "is"). There are as many names of girls as of boys. The corrupted prompt is the same
sentence with a name of the other gender that has as many tokens.

The sentences are our own. They have a second slot, for a quality, so that there are more prompts
than in the paper. Four sentences, one for each tag, are used for test only. Names of girls and boys
alternate within each split.

Chance level: a guess between "he" and "she" is right half the time, and so is always answering the
same pronoun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator

from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.text import Vocabulary, draw, fill, tokenise_answered
from tasks.words.gendered_pronoun import BOYS, GIRLS, HELD_OUT_SENTENCES, QUALITIES, SENTENCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = " {pronoun}"
PRONOUNS = {"she": GIRLS, "he": BOYS}
TEMPLATES = (*SENTENCES, *HELD_OUT_SENTENCES)


@dataclass(frozen=True)
class GenderedPronoun(DrawnTask):
    """Tag questions about one name; the test prompts have sentences of their own."""

    name: str = "gendered-pronoun"
    train: int = 150
    validation: int = 150
    test: int = 1000
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return "The pronoun that ends a tag question: he or she, depending on the name"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        vocabulary = read_vocabulary(tokenizer)
        held_out = {"test": numbers.pop("test")}
        pairs = _draw(vocabulary, TEMPLATES[len(SENTENCES) :], held_out, generator)
        pairs |= _draw(vocabulary, TEMPLATES[: len(SENTENCES)], numbers, generator)
        return next_token_task(self.name, self.version, pairs, templates=TEMPLATES)


GENDERED_PRONOUN = GenderedPronoun()


def read_vocabulary(tokenizer: "PreTrainedTokenizerBase") -> Vocabulary:
    """The usable words, checked in every prompt, with and without its answer."""
    return tokenise_answered(
        tokenizer,
        {text.removesuffix(ANSWER): text for text in TEMPLATES},
        {"name": [*GIRLS, *BOYS], "quality": QUALITIES, "pronoun": list(PRONOUNS)},
        needed={"name": 2, "quality": 2, "pronoun": 2},
    )


def _draw(
    vocabulary: Vocabulary,
    sentences: Sequence[str],
    numbers: Mapping[str, int],
    generator: Generator,
) -> dict[str, PromptPairs]:
    """Disjoint sets of distinct prompts, each with as many girls as boys, give or take one."""
    usable = vocabulary.words["name"]
    lists = [[usable[name] for name in names if name in usable] for names in PRONOUNS.values()]
    fewest = min(map(len, lists))
    names = torch.tensor([names[:fewest] for names in lists])
    choices = {
        "genders": len(names),
        "templates": len(sentences),
        "qualities": len(vocabulary.words["quality"]),
        "names": fewest,
    }
    patterns = [vocabulary.patterns[text.removesuffix(ANSWER)] for text in sentences]
    pronouns = vocabulary.ids("pronoun")
    pairs = {}
    for kind, choice in draw(choices, numbers, generator, strata=len(names)).items():
        gender, which, quality, name = choice
        twin = torch.randint(fewest, name.shape, generator=generator)
        qualities = vocabulary.ids("quality")[quality]
        (clean, lengths), (corrupted, _) = (
            fill(patterns, which, {"name": chosen, "quality": qualities})
            for chosen in (names[gender, name], names[1 - gender, twin])
        )
        pairs[kind] = PromptPairs(
            clean=clean,
            corrupted=corrupted,
            lengths=lengths,
            targets=lengths[:, None] - 1,
            answers=pronouns[gender],
            distractors=pronouns[1 - gender],
            templates=which + TEMPLATES.index(sentences[0]),
        )
    return pairs
