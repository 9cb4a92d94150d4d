"""Indirect object identification: "... Tom and Amy met ... Amy gave a ball to" -> " Tom".

The task of Wang et al. (2023), with sentences of our own in words that small story models know.
A sentence has four name slots, the last of which is the answer; it is read in the order ABBA
(indirect object, subject, subject, answer) or BABA (subject first). The corrupted prompt has other
names, all different, in the three slots that precede the answer: the rule of Edge Pruning
(Bhaskar et al., 2024). `ioi` has 26 templates for training and validation and four, two sentences
in both orders, for test; `ioi-t1` has one ABBA template for all, as in ACDC (Conmy et al., 2023).
Chance: a guess between the prompt's two names is right half the time; always the first name, half
the time in `ioi` and every time in `ioi-t1`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from edgewise.metrics import (
    ACCURACY,
    EXACT_MATCH,
    KL,
    LOGIT_DIFFERENCE,
    kl_divergence,
    negative_logit_difference,
)
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks.ioi_words import HELD_OUT_SENTENCES, NAMES, OBJECTS, PLACES, SENTENCES
from tasks.text import Pattern, WordIds, tokenise

ORDERS = {"ABBA": (0, 1, 1, 0), "BABA": (1, 0, 1, 0)}
"""Who stands in each name slot; 0: the indirect object, 1: the subject."""

ANSWER = " {name}"
METRICS = {metric.name: metric for metric in (KL, LOGIT_DIFFERENCE, ACCURACY, EXACT_MATCH)}

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


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer makes of the prompts and words."""

    patterns: Mapping[str, Pattern]
    words: WordIds

    def ids(self, slot: str) -> Int[Tensor, " word"]:
        return torch.tensor(list(self.words[slot].values()))


@dataclass(frozen=True)
class IndirectObject:
    """A family of templates; without `held_out` ones, the test prompts come from the same."""

    name: str
    templates: tuple[Template, ...]
    held_out: tuple[Template, ...]
    train: int
    validation: int
    test: int
    version: ClassVar[int] = 1

    def build(
        self,
        model: MaskedTransformer | None,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        sizes: Sizes | None = None,
    ) -> Task:
        """Prompts for this tokenizer; a larger training set contains the smaller ones.

        Raises ValueError where the tokenizer has too few of the words as single tokens, and where
        more prompts are asked for than there are.
        """
        # Training prompts are drawn last, so that their number changes none of the others.
        counts = {"test": self.test, "validation": self.validation, "train": self.train}
        for kind in counts:
            asked = getattr(sizes, kind, None)
            counts[kind] = counts[kind] if asked is None else asked
        vocabulary = read_vocabulary(tokenizer, (*self.templates, *self.held_out))
        generator = Generator().manual_seed(seed)
        if self.held_out:
            held_out = {"test": counts.pop("test")}
            pairs = _draw(vocabulary, self.held_out, held_out, generator)
        else:
            pairs = {}
        pairs |= _draw(vocabulary, self.templates, counts, generator)
        return Task(
            name=self.name,
            version=self.version,
            train=pairs["train"],
            validation=pairs["validation"],
            test=pairs["test"],
            training_loss=kl_divergence,
            attribution_loss=negative_logit_difference,
            metrics=METRICS,
        )


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
    tokenizer: PreTrainedTokenizerBase, templates: Sequence[Template]
) -> Vocabulary:
    """The usable words, checked in every prompt, alone and with its answer."""
    sentences = {template.prompt: template.sentence for template in templates}
    candidates = {"name": NAMES, "place": PLACES, "object": OBJECTS}
    patterns, words = tokenise(
        tokenizer, [*sentences, *sentences.values()], candidates, needed=NEEDED
    )
    for prompt, sentence in sentences.items():
        if not torch.equal(patterns[prompt].tokens, patterns[sentence].tokens[:-1]):
            raise ValueError(
                f"the tokenizer gives {prompt!r} other tokens alone than before its answer"
            )
    return Vocabulary({prompt: patterns[prompt] for prompt in sentences}, words)


def _draw(
    vocabulary: Vocabulary,
    templates: Sequence[Template],
    counts: Mapping[str, int],
    generator: Generator,
) -> dict[str, PromptPairs]:
    """Disjoint sets of distinct prompts, each a uniform draw from all that there are."""
    names, places, objects = (len(vocabulary.words[slot]) for slot in ("name", "place", "object"))
    choices = (len(templates), places, objects, names, names - 1)
    available, asked = torch.Size(choices).numel(), sum(counts.values())
    if asked > available:
        raise ValueError(
            f"{asked:,} prompts asked for ({', '.join(f'{k} {n:,}' for k, n in counts.items())}), "
            f"but templates × places × objects × ordered pairs of names make only {available:,} "
            f"({' × '.join(map(str, choices))})"
        )
    if min(counts.values()) < 1:
        raise ValueError(f"{dict(counts)} prompts asked for; expected at least 1 of each kind")
    numbers = torch.randperm(available, generator=generator)[:asked]
    return {
        kind: _prompts(vocabulary, templates, torch.unravel_index(part, choices), generator)
        for kind, part in zip(counts, numbers.split(list(counts.values())), strict=True)
    }


def _prompts(
    vocabulary: Vocabulary,
    templates: Sequence[Template],
    choice: tuple[Int[Tensor, " prompt"], ...],
    generator: Generator,
) -> PromptPairs:
    """The prompts that take these templates, places, objects, indirect objects and subjects."""
    which, place, thing, indirect_object, subject = choice
    # The subject is numbered among the names other than the indirect object.
    subject = subject + (subject >= indirect_object)
    pair = torch.stack([indirect_object, subject], dim=1)
    names = vocabulary.ids("name")
    luck = torch.rand(len(pair), len(names), generator=generator)
    others = luck.scatter_(1, pair, -1.0).topk(3).indices

    patterns = [vocabulary.patterns[template.prompt] for template in templates]
    widths = torch.tensor([len(pattern.tokens) for pattern in patterns])
    clean = torch.zeros(len(pair), int(widths.max()), dtype=torch.long)
    corrupted = clean.clone()
    for k, (template, pattern) in enumerate(zip(templates, patterns, strict=True)):
        rows = torch.nonzero(which == k).squeeze(1)
        order = torch.tensor(ORDERS[template.order][:3])
        columns = {
            "place": vocabulary.ids("place")[place[rows]][:, None],
            "object": vocabulary.ids("object")[thing[rows]][:, None],
        }
        for tokens, chosen in ((clean, pair[rows][:, order]), (corrupted, others[rows])):
            filled = pattern.filled({**columns, "name": names[chosen]})
            tokens[rows, : filled.shape[1]] = filled
    lengths = widths[which]
    return PromptPairs(
        clean=clean,
        corrupted=corrupted,
        lengths=lengths,
        targets=lengths[:, None] - 1,
        answers=names[indirect_object][:, None],
        distractors=names[subject][:, None],
    )
