"""Subject-verb agreement: "The farmers near the king" -> " are", " have", " do", ...

The verb agrees with its subject in number. The phrases are our own and follow the rules of the
literature (Newman et al., 2021; Hanna et al., 2024; Marks et al., 2024). Half of the phrases are
simple, with an adjective before the subject. In the others an attractor, a noun of either number,
stands between the subject and its verb, in a prepositional phrase or a relative clause. The
corrupted prompt has the subject in the other number and is otherwise the same.

All verbs of which both forms are single tokens count. The probability difference is the probability
of all forms in the subject's number minus that of all forms in the other. `answers` and
`distractors` are the two forms of the first such verb, usually "is" and "are". Singular and plural
subjects, with and without an attractor, take turns.

Eight phrases of each kind are for training and validation, and two others are for the test only. A
phrase takes one of up to 26 fillers (adjectives or attractors) and one of 38 subjects; the longer
list of fillers is cut to the length of the shorter. With GPT-2's tokenizer there are 31,616 prompts
for training and validation and 7,904 for test.

Chance level: a probability difference of 0 on average, as numbers are balanced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.task import Task
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.questions import Question, asked, one_token
from tasks.shared.text import draw, tokenizer_name
from tasks.shared.verbs import VerbForms
from tasks.words.subject_verb_agreement import (
    ADJECTIVES,
    ATTRACTED,
    ATTRACTORS,
    HELD_OUT_ATTRACTED,
    HELD_OUT_SIMPLE,
    NOUNS,
    SIMPLE,
    VERBS,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Forms = tuple[str, str]
"""Singular and plural."""
NEEDED_VERBS = 3
TEMPLATES = (*SIMPLE, *ATTRACTED, *HELD_OUT_SIMPLE, *HELD_OUT_ATTRACTED)


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The words that a tokenizer has as one token each, in all forms that are needed."""

    subjects: list[Forms]
    fillers: tuple[list[str], list[str]]
    """As many adjectives as attractors."""
    verbs: list[Forms]
    verb_tokens: Int[Tensor, "2 verb"]


@dataclass(frozen=True)
class SubjectVerbAgreement(DrawnTask):
    """The number of a verb after its subject; the test prompts have phrases of their own."""

    name: str = "subject-verb-agreement"
    train: int = 200
    validation: int = 200
    test: int = 1000
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return "The number of a verb, with and without another noun between it and its subject"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        lexicon = read_lexicon(tokenizer)
        held_out = {"test": numbers.pop("test")}
        drawn = _draw(lexicon, (HELD_OUT_SIMPLE, HELD_OUT_ATTRACTED), held_out, generator)
        drawn |= _draw(lexicon, (SIMPLE, ATTRACTED), numbers, generator)
        pairs = {kind: asked(tokenizer, questions) for kind, questions in drawn.items()}
        forms = VerbForms(lexicon.verb_tokens)
        return next_token_task(
            self.name,
            self.version,
            pairs,
            attribution_loss=forms.negative_probability_difference,
            metrics=forms.metrics(),
            templates=TEMPLATES,
        )


SUBJECT_VERB_AGREEMENT = SubjectVerbAgreement()


def read_lexicon(tokenizer: "PreTrainedTokenizerBase") -> Lexicon:
    """The usable words. A noun or verb is usable if both of its forms are.

    Raises ValueError where a list has too few.
    """

    def usable(lines: Sequence[str], what: str, needed: int) -> dict[Forms, tuple[int, int]]:
        pairs = [(singular, plural) for singular, plural in (line.split("/") for line in lines)]
        known = one_token(tokenizer, chain(*pairs), f"forms of {what}", needed=2 * needed)
        found = {
            (singular, plural): (known[singular], known[plural])
            for singular, plural in pairs
            if {singular, plural} <= known.keys()
        }
        if len(found) < needed:
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: found {len(found)} {what} whose singular and plural "
                f"are one token; {needed} are needed"
            )
        return found

    adjectives = list(one_token(tokenizer, ADJECTIVES, "adjectives", needed=2))
    attractors = list(chain(*usable(ATTRACTORS, "attractors", 1)))
    fewest = min(len(adjectives), len(attractors)) // 2 * 2  # as many attractors of each number
    verbs = usable(VERBS, "verbs", NEEDED_VERBS)
    return Lexicon(
        subjects=list(usable(NOUNS, "subjects", 2)),
        fillers=(adjectives[:fewest], attractors[:fewest]),
        verbs=list(verbs),
        verb_tokens=torch.tensor(list(verbs.values())).T,
    )


def _draw(
    lexicon: Lexicon,
    phrases: tuple[Sequence[str], Sequence[str]],
    numbers: Mapping[str, int],
    generator: Generator,
) -> dict[str, list[Question]]:
    """Disjoint sets of distinct questions; `phrases` are the simple and the attracted ones."""
    choices = {
        "numbers and kinds": 4,
        "phrases": len(phrases[0]),
        "fillers": len(lexicon.fillers[0]),
        "subjects": len(lexicon.subjects),
    }

    def question(kind: int, phrase: int, filler: int, subject: int) -> Question:
        number, attracted = kind % 2, kind // 2
        text, word = phrases[attracted][phrase], lexicon.fillers[attracted][filler]
        forms, verb = lexicon.subjects[subject], lexicon.verbs[0]
        clean, corrupted = (
            text.format(noun=forms[form], filler=word) for form in (number, 1 - number)
        )
        return Question(clean, corrupted, verb[number], verb[1 - number], TEMPLATES.index(text))

    drawn = draw(choices, numbers, generator, strata=4)
    return {
        kind: [question(*row) for row in torch.stack(choice, dim=1).tolist()]
        for kind, choice in drawn.items()
    }
