"""Indirect object identification: "... Tom and Amy met ... Amy gave a ball to" -> " Tom".

The task of Wang et al. (2023), with our own sentences, in words that small story models know. A
sentence has four slots for names; the last one is the answer. The names come in the order ABBA
(indirect object, subject, subject, answer) or BABA (subject first). The corrupted prompt of `ioi`
and `ioi-t1` has three other names, all different, in the slots before the answer, as in Edge
Pruning (Bhaskar et al., 2024).

The other eight tasks have the clean prompts of `ioi` and the counterfactuals of MIB (Mueller et
al., 2025), and are named after them. IO and S1 are the first occurrences of the indirect object and
the subject; S2 is the second occurrence of the subject. `s1-io-flip` exchanges IO and S1: the order
changes and the answer does not. `s2-io-flip`, MIB's own choice for circuits, replaces S2 by the
indirect object, so that the answer is the subject. `s1-ioi-flip-s2-ioi-flip` does both: the two
names are exchanged everywhere. `abc` replaces S2 by a third name. The counterfactuals whose names
begin with `random-names` have two other names, exchanged as the rest of the name says.

`ioi` has 26 templates for training and validation, and four others for test: two sentences, each in
both orders. `ioi-t1` has one ABBA template for all three, as in ACDC (Conmy et al., 2023).

Chance level: a guess between the prompt's two names is right half the time. Always answering the
first name is right half the time in `ioi` and every time in `ioi-t1`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.prompts import PromptPairs
from edgewise.task import Task
from tasks.shared.builder import DrawnTask
from tasks.shared.next_token import next_token_task
from tasks.shared.text import Vocabulary, draw, fill, tokenise_answered
from tasks.words.ioi import HELD_OUT_SENTENCES, NAMES, OBJECTS, PLACES, SENTENCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ORDERS = {"ABBA": (0, 1, 1, 0), "BABA": (1, 0, 1, 0)}
"""Whose name is in each slot. 0: the indirect object, 1: the subject."""

ANSWER = " {name}"

THREE_OTHERS = "three-others"
NAMED = "ABCDE"
"""What COUNTERFACTUALS call the names: the indirect object, the subject, and three others."""
COUNTERFACTUALS = {
    THREE_OTHERS: ("CDE", "CDE"),
    "s2-io-flip": ("ABA", "BAA"),
    "s1-io-flip": ("BAB", "ABB"),
    "abc": ("ABC", "BAC"),
    "random-names": ("CDD", "DCD"),
    "s1-ioi-flip-s2-ioi-flip": ("BAA", "ABA"),
    "random-names-s1-ioi-flip": ("DCD", "CDD"),
    "random-names-s2-ioi-flip": ("CDC", "DCC"),
    "random-names-s1-ioi-flip-s2-ioi-flip": ("DCC", "CDC"),
}
"""The names in the corrupted prompt's first three slots, where the clean one has ABB or BAB."""

# Two names in the clean prompt and three others in the corrupted one.
NEEDED = {"name": 5, "place": 2, "object": 2}


@dataclass(frozen=True)
class Template:
    """A sentence that ends with the answer, and the order of its names."""

    sentence: str
    order: str

    @property
    def prompt(self) -> str:
        return self.sentence.removesuffix(ANSWER)

    @property
    def label(self) -> str:
        return f"{self.prompt} ({self.order})"


@dataclass(frozen=True)
class IndirectObject(DrawnTask):
    """A set of templates. Test prompts come from `held_out`, or from `templates` if it is empty.

    `counterfactual` is the kind of the corrupted prompts, one of COUNTERFACTUALS.
    """

    name: str
    templates: tuple[Template, ...]
    held_out: tuple[Template, ...]
    train: int
    validation: int
    test: int
    counterfactual: str = THREE_OTHERS
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.counterfactual not in COUNTERFACTUALS:
            raise ValueError(
                f"counterfactual={self.counterfactual!r}; expected one of "
                f"{', '.join(COUNTERFACTUALS)}"
            )

    @property
    def description(self) -> str:
        n = len(self.templates) + len(self.held_out)
        text = f"Indirect object identification, {n} template{'s' if n > 1 else ''}"
        if self.counterfactual == THREE_OTHERS:
            return text
        return f"{text}; corrupted: {self.counterfactual.replace('-', ' ')}"

    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        vocabulary = read_vocabulary(tokenizer, (*self.templates, *self.held_out))
        if self.held_out:
            held_out = {"test": numbers.pop("test")}
            pairs = self._draw(vocabulary, self.held_out, held_out, generator, len(self.templates))
        else:
            pairs = {}
        pairs |= self._draw(vocabulary, self.templates, numbers, generator)
        templates = [template.label for template in (*self.templates, *self.held_out)]
        return next_token_task(self.name, self.version, pairs, templates=templates)

    def _draw(
        self,
        vocabulary: Vocabulary,
        templates: Sequence[Template],
        numbers: Mapping[str, int],
        generator: Generator,
        first: int = 0,
    ) -> dict[str, PromptPairs]:
        """Disjoint sets of distinct prompts, drawn uniformly from all possible ones.

        `first` is the index of the first of these templates among all of the task's.
        """
        names, places, objects = (
            len(vocabulary.words[slot]) for slot in ("name", "place", "object")
        )
        choices = {
            "templates": len(templates),
            "places": places,
            "objects": objects,
            "names": names,
            "other names": names - 1,
        }
        return {
            kind: self._prompts(vocabulary, templates, choice, generator, first)
            for kind, choice in draw(choices, numbers, generator).items()
        }

    def _prompts(
        self,
        vocabulary: Vocabulary,
        templates: Sequence[Template],
        choice: tuple[Int[Tensor, " prompt"], ...],
        generator: Generator,
        first: int,
    ) -> PromptPairs:
        """The prompts with these templates, places, objects, indirect objects and subjects."""
        which, place, thing, indirect_object, subject = choice
        # The subject is numbered among the names other than the indirect object.
        subject = subject + (subject >= indirect_object)
        pair = torch.stack([indirect_object, subject], dim=1)
        names = vocabulary.ids("name").squeeze(1)
        luck = torch.rand(len(pair), len(names), generator=generator)
        others = luck.scatter_(1, pair, -1.0).topk(3).indices
        chosen = torch.cat([pair, others], dim=1)

        patterns = [vocabulary.patterns[template.prompt] for template in templates]
        own = torch.tensor([ORDERS[template.order][:3] for template in templates])[which]
        changed = torch.tensor([self._corrupted(template.order) for template in templates])[which]
        columns = {
            "place": vocabulary.ids("place")[place],
            "object": vocabulary.ids("object")[thing],
        }
        clean, lengths = fill(patterns, which, {**columns, "name": names[pair.gather(1, own)]})
        corrupted, _ = fill(patterns, which, {**columns, "name": names[chosen.gather(1, changed)]})
        return PromptPairs(
            clean=clean,
            corrupted=corrupted,
            lengths=lengths,
            targets=lengths[:, None] - 1,
            answers=names[indirect_object][:, None],
            distractors=names[subject][:, None],
            templates=first + which,
        )

    def _corrupted(self, order: str) -> list[int]:
        """The name in each slot before the answer, as an index into NAMED."""
        letters = COUNTERFACTUALS[self.counterfactual][[*ORDERS].index(order)]
        return [NAMED.index(letter) for letter in letters]


def both_orders(sentences: Sequence[str]) -> tuple[Template, ...]:
    return tuple(Template(sentence, order) for order in ORDERS for sentence in sentences)


IOI = IndirectObject(
    "ioi",
    both_orders(SENTENCES),
    both_orders(HELD_OUT_SENTENCES),
    train=200,
    validation=200,
    test=1000,
)
IOI_COUNTERFACTUALS = tuple(
    replace(IOI, name=f"ioi-{kind}", counterfactual=kind)
    for kind in COUNTERFACTUALS
    if kind != THREE_OTHERS
)
IOI_T1 = IndirectObject(
    "ioi-t1", (Template(SENTENCES[0], "ABBA"),), (), train=50, validation=50, test=200
)


def read_vocabulary(
    tokenizer: "PreTrainedTokenizerBase", templates: Sequence[Template]
) -> Vocabulary:
    """The usable words, checked in every prompt, with and without its answer."""
    return tokenise_answered(
        tokenizer,
        {template.prompt: template.sentence for template in templates},
        {"name": NAMES, "place": PLACES, "object": OBJECTS},
        needed=NEEDED,
    )
