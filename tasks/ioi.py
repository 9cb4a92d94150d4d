"""Indirect object identification: "... Tom and Amy met ... Amy gave a ball to" -> " Tom".

The task of Wang et al. (2023), with our own sentences, in words that small story models know. A
sentence has four slots for names; the last one is the answer. The names come in the order ABBA
(indirect object, subject, subject, answer) or BABA (subject first). The corrupted prompt has three
other names, all different, in the slots before the answer, as in Edge Pruning (Bhaskar et al.,
2024).

`ioi` has 26 templates for training and validation, and four others for test: two sentences, each in
both orders. `ioi-t1` has one ABBA template for all three, as in ACDC (Conmy et al., 2023).

Chance level: a guess between the prompt's two names is right half the time. Always answering the
first name is right half the time in `ioi` and every time in `ioi-t1`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks.shared.builder import OnAnyModel
from tasks.shared.next_token import next_token_task
from tasks.shared.text import Vocabulary, counts, draw, fill, tokenise_answered
from tasks.words.ioi import HELD_OUT_SENTENCES, NAMES, OBJECTS, PLACES, SENTENCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ORDERS = {"ABBA": (0, 1, 1, 0), "BABA": (1, 0, 1, 0)}
"""Whose name is in each slot. 0: the indirect object, 1: the subject."""

ANSWER = " {name}"

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
class IndirectObject(OnAnyModel):
    """A set of templates. Test prompts come from `held_out`, or from `templates` if it is empty."""

    name: str
    templates: tuple[Template, ...]
    held_out: tuple[Template, ...]
    train: int
    validation: int
    test: int
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        n = len(self.templates) + len(self.held_out)
        return f"Indirect object identification, {n} template{'s' if n > 1 else ''}"

    def build(
        self,
        model: MaskedTransformer | None,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        seed: int,
        sizes: Sizes | None = None,
    ) -> Task:
        """Prompts for this tokenizer; a larger training set contains the smaller ones.

        Raises ValueError where the tokenizer has too few of the words as single tokens, and where
        more prompts are asked for than there are.
        """
        numbers = counts(sizes, test=self.test, validation=self.validation, train=self.train)
        vocabulary = read_vocabulary(tokenizer, (*self.templates, *self.held_out))
        generator = Generator().manual_seed(seed)
        if self.held_out:
            held_out = {"test": numbers.pop("test")}
            pairs = _draw(vocabulary, self.held_out, held_out, generator, len(self.templates))
        else:
            pairs = {}
        pairs |= _draw(vocabulary, self.templates, numbers, generator)
        templates = [template.label for template in (*self.templates, *self.held_out)]
        return next_token_task(self.name, self.version, pairs, templates=templates)


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


def _draw(
    vocabulary: Vocabulary,
    templates: Sequence[Template],
    numbers: Mapping[str, int],
    generator: Generator,
    first: int = 0,
) -> dict[str, PromptPairs]:
    """Disjoint sets of distinct prompts, drawn uniformly from all possible ones.

    `first` is the number of the first of these templates among the task's.
    """
    names, places, objects = (len(vocabulary.words[slot]) for slot in ("name", "place", "object"))
    choices = {
        "templates": len(templates),
        "places": places,
        "objects": objects,
        "names": names,
        "other names": names - 1,
    }
    return {
        kind: _prompts(vocabulary, templates, choice, generator, first)
        for kind, choice in draw(choices, numbers, generator).items()
    }


def _prompts(
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

    patterns = [vocabulary.patterns[template.prompt] for template in templates]
    order = torch.tensor([ORDERS[template.order][:3] for template in templates])[which]
    columns = {"place": vocabulary.ids("place")[place], "object": vocabulary.ids("object")[thing]}
    clean, lengths = fill(patterns, which, {**columns, "name": names[pair.gather(1, order)]})
    corrupted, _ = fill(patterns, which, {**columns, "name": names[others]})
    return PromptPairs(
        clean=clean,
        corrupted=corrupted,
        lengths=lengths,
        targets=lengths[:, None] - 1,
        answers=names[indirect_object][:, None],
        distractors=names[subject][:, None],
        templates=first + which,
    )
