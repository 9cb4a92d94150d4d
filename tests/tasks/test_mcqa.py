"""The prompts of the multiple-choice tasks, read back as text, and their margin."""

import re
import string
from functools import cache
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from tasks import mcqa
from tasks.mcqa import LETTERS, MCQA, MCQA_POSITION, MultipleChoice, read_lexicon
from tasks.shared.alternatives import Alternatives
from tasks.words.mcqa import COLORS, NOUNS
from tests.tasks.test_ioi import prompts, splits, texts, unpadded, words
from tests.tasks.tokenizers import byte_tokenizer, character_tokenizer
from tests.tasks.toys import word_tokenizer

FAMILIES = [MCQA, MCQA_POSITION]
PATTERN = re.compile(
    r"Question: The (\w+) is (\w+)\. What color is the \1\?"
    r"\n(\w)\. (\w+)\n(\w)\. (\w+)\n(\w)\. (\w+)\n(\w)\. (\w+)\nAnswer:"
)


class Read(NamedTuple):
    """What a prompt says: the thing, its colour, the letters and the colours of the options."""

    noun: str
    color: str
    letters: tuple[str, ...]
    colors: tuple[str, ...]

    @property
    def right(self) -> str:
        return self.letters[self.colors.index(self.color)]


def read(text: str) -> Read:
    match = PATTERN.fullmatch(text)
    assert match is not None
    noun, color, *options = match.groups()
    return Read(noun, color, tuple(options[::2]), tuple(options[1::2]))


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return byte_tokenizer()


@cache
def build(family: MultipleChoice, **sizes: int) -> Task:
    return family.build(None, tokenizer(), seed=0, sizes=Sizes(**{"test": 80, **sizes}))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_answer_is_the_right_letter_and_the_distractor_the_twin_s(
    family: MultipleChoice,
) -> None:
    for pairs in splits(build(family)):
        assert pairs.distractors is not None
        for text, twin, answer, distractor in zip(
            prompts(tokenizer(), pairs),
            texts(tokenizer(), unpadded(pairs.corrupted, pairs)),
            words(tokenizer(), pairs.answers),
            words(tokenizer(), pairs.distractors),
            strict=True,
        ):
            clean, other = read(text), read(twin)
            assert "".join(clean.letters) == LETTERS
            assert (clean.noun, clean.color) == (other.noun, other.color)
            assert len({*clean.colors}) == len(LETTERS)
            assert (answer, distractor) == (clean.right, other.right)
            if family is MCQA:
                assert clean.colors == other.colors
                assert len({*clean.letters, *other.letters}) == 8
            else:
                assert clean.letters == other.letters
                assert sum(a != b for a, b in zip(clean.colors, other.colors, strict=True)) == 2


def test_each_letter_is_right_equally_often() -> None:
    for pairs in splits(build(MCQA)):
        answers = words(tokenizer(), pairs.answers)
        assert {answers.count(letter) for letter in LETTERS} == {len(pairs) // 4}


def test_the_margin_is_over_the_best_of_the_wrong_alternatives() -> None:
    tokens = torch.tensor([[1, 2, 3], [1, 2, 3]])
    column = torch.zeros(2, 1, dtype=torch.long)
    pairs = PromptPairs(column, column, torch.ones(2).long(), column, torch.tensor([[2], [3]]))
    logits = torch.tensor([[[9.0, 1.0, 4.0, 2.5]], [[9.0, 1.0, 4.0, 2.5]]])
    alternatives = Alternatives(lambda _: tokens)
    expected = torch.tensor([1.5, -1.5])
    torch.testing.assert_close(alternatives.margin(logits, logits, pairs), expected)
    several = torch.stack([logits, -logits])
    torch.testing.assert_close(
        alternatives.negative_margin(several, logits, pairs),
        -torch.stack([expected, torch.tensor([-3.0, -1.5])]),
    )


def test_the_four_letters_are_the_alternatives() -> None:
    task = build(MCQA)
    tokens = list(read_lexicon(tokenizer()).letters.values())
    logits = torch.zeros(len(task.train), 1, len(tokenizer()))
    logits[..., tokens] = torch.tensor([1.0, 2.0, 4.0, 8.0])
    margin = task.metrics["margin"](logits, logits, task.train)
    answers = words(tokenizer(), task.train.answers)
    right = {"A": -7.0, "B": -6.0, "C": -4.0, "D": 4.0}
    assert margin.tolist() == [right[answer] for answer in answers]


def test_there_are_as_many_prompts_as_the_docstring_says(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert "309,120" in (mcqa.__doc__ or "")
    for family in FAMILIES:
        with pytest.raises(ValueError, match="only 309,120"):
            family.build(None, gpt2_tokenizer, seed=0, sizes=Sizes(train=309_120))


def test_letters_that_a_tokenizer_lacks_are_an_error() -> None:
    rest = ["Question: What color is the The? Answer. a", *NOUNS, *COLORS]
    for letters, message in (
        ("ABCDEFG", "found 7 letters that are one token; 8"),
        (
            string.ascii_uppercase[1:],
            "the letters A, B, C, D and four others are not one token each",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            MCQA.build(None, word_tokenizer([*rest, " ".join(letters)]), seed=0)


def test_a_tokenizer_without_words_is_an_error_of_one_line() -> None:
    with pytest.raises(ValueError, match=r"^.*: found 0 things that are one token; 2 are needed$"):
        MCQA.build(None, character_tokenizer(), seed=0)


def test_losses_metrics_and_sizes() -> None:
    for family in FAMILIES:
        assert (family.train, family.validation, family.test) == (200, 200, 1000)
        task = build(family)
        assert (task.name, task.version) == (family.name, 1)
        assert task.training_loss is kl_divergence
        assert task.attribution_loss is negative_logit_difference
        assert list(task.metrics) == ["kl", "margin", "logit_difference", "accuracy", "exact_match"]


def test_a_larger_training_set_contains_the_smaller_and_changes_no_other() -> None:
    for family in FAMILIES:
        small, large = build(family, train=20), build(family, train=200)
        for side in ("clean", "corrupted"):
            assert torch.equal(getattr(large.train, side)[:20], getattr(small.train, side))
        assert torch.equal(small.test.corrupted, large.test.corrupted)
        assert torch.equal(small.validation.corrupted, large.validation.corrupted)
