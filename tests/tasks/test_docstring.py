"""The prompts of the docstring task, read back as text."""

import re
from functools import cache
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from edgewise.metrics import kl_divergence
from edgewise.task import Sizes, Task
from tasks import docstring
from tasks.docstring import DOCSTRING
from tasks.words.docstring import ARGUMENTS, FUNCTIONS, MEANINGS, PROMPT, THINGS, VERBS
from tests.tasks.test_ioi import distinct, prompts, splits, texts, unpadded, words
from tests.tasks.tokenizers import byte_tokenizer
from tests.tasks.toys import word_tokenizer

tokenizer = cache(byte_tokenizer)


class Read(NamedTuple):
    """What a prompt says: the arguments, the names in its docstring, and the words between."""

    arguments: list[str]
    named: list[str]
    rest: str


def read(text: str) -> Read:
    header, body = text.split("):\n")
    function, arguments = header.split("(self, ")
    named = re.findall(r":param (\w+):", body)
    return Read(arguments.split(", "), named, function + re.sub(r":param \w+:", "", body))


@cache
def build(**sizes: int) -> Task:
    return DOCSTRING.build(None, tokenizer(), seed=0, sizes=Sizes(**{"test": 50, **sizes}))


def pairs_of_texts(task: Task) -> list[tuple[Read, Read, str, str]]:
    found = []
    for pairs in splits(task):
        assert pairs.distractors is not None
        answers, distractors = (words(tokenizer(), t) for t in (pairs.answers, pairs.distractors))
        clean = prompts(tokenizer(), pairs)
        twins = texts(tokenizer(), unpadded(pairs.corrupted, pairs))
        rows = zip(clean, twins, answers, distractors, strict=True)
        found += [(read(text), read(twin), right, wrong) for text, twin, right, wrong in rows]
    return found


def test_the_answer_is_the_argument_after_those_that_are_described() -> None:
    for clean, twin, answer, distractor in pairs_of_texts(build()):
        assert clean.named == clean.arguments[2:4]
        assert (answer, distractor) == (clean.arguments[4], twin.arguments[4])
        assert len({*clean.arguments, *twin.arguments, *twin.named}) == 14
        assert clean.rest == twin.rest


def test_the_margin_is_over_all_names_in_either_prompt() -> None:
    task = build(train=20)
    logits = torch.randn(20, 1, len(tokenizer()))
    margin = task.metrics["margin"](logits, logits, task.train)
    torch.testing.assert_close(task.attribution_loss(logits, logits, task.train), -margin)
    ids = {name: tokenizer().encode(f" {name}") for name in ARGUMENTS}
    for (clean, twin, answer, _), row, value in zip(
        pairs_of_texts(task), logits[:, 0], margin.tolist(), strict=False
    ):
        names = {*clean.arguments, *twin.arguments, *twin.named} - {answer}
        best = max(float(row[ids[name][0]]) for name in names)
        assert value == pytest.approx(float(row[ids[answer][0]]) - best)


def test_there_are_as_many_prompts_as_the_docstring_says(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert "948,480" in (docstring.__doc__ or "")
    with pytest.raises(ValueError, match="only 948,480"):
        DOCSTRING.build(None, gpt2_tokenizer, seed=0, sizes=Sizes(train=948_480))


def test_lists_share_no_word() -> None:
    lists = (ARGUMENTS, MEANINGS, THINGS)
    assert sum(map(len, lists)) == len({word for words in lists for word in words})


def test_too_few_names_and_names_that_move_are_errors() -> None:
    known = [PROMPT, *FUNCTIONS, *VERBS, *THINGS, *MEANINGS]
    with pytest.raises(ValueError, match="found 13 arguments that are one token; 14 are needed"):
        DOCSTRING.build(None, word_tokenizer([*known, *ARGUMENTS[:13]]), seed=0)
    with pytest.raises(ValueError, match=r"found 1 functions that are one token; 2 are needed"):
        without = [name for name in FUNCTIONS if name != "open"]
        DOCSTRING.build(None, word_tokenizer([*known, *ARGUMENTS], without=without), seed=0)


def test_losses_metrics_sizes_and_what_depends_on_the_seed() -> None:
    assert (DOCSTRING.train, DOCSTRING.validation, DOCSTRING.test) == (200, 200, 1000)
    small, large = build(train=20), build(train=200)
    assert distinct(large) == 450
    for side in ("clean", "corrupted"):
        assert torch.equal(getattr(large.train, side)[:20], getattr(small.train, side))
    assert torch.equal(small.test.corrupted, large.test.corrupted)
    assert (small.name, small.version) == ("docstring", 1)
    assert small.training_loss is kl_divergence
    assert list(small.metrics) == ["kl", "margin", "logit_difference", "accuracy", "exact_match"]
    other = DOCSTRING.build(None, tokenizer(), seed=1, sizes=Sizes(20, 20, 50))
    assert not torch.equal(other.test.clean, small.test.clean)
