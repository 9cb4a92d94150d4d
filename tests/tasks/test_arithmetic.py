"""The prompts of the arithmetic tasks, read back as numbers."""

import pickle
import re
from functools import cache

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.task import Sizes, Task, TooFewPrompts
from tasks import arithmetic
from tasks.arithmetic import (
    ARITHMETIC_ADDITION,
    ARITHMETIC_SUBTRACTION,
    Arithmetic,
    with_another_result,
)
from tests.tasks.test_ioi import distinct, prompts, splits, texts, unpadded, words
from tests.tasks.tokenizers import byte_tokenizer, piece_tokenizer
from tests.tasks.tokenizers import texts as all_texts
from tests.tasks.toys import word_tokenizer

FAMILIES = [ARITHMETIC_ADDITION, ARITHMETIC_SUBTRACTION]
KNOWN = {"bytes": byte_tokenizer, "pieces": piece_tokenizer}
tokenizer_of = cache(lambda kind: KNOWN[kind]())


@cache
def build(family: Arithmetic, kind: str, **sizes: int) -> Task:
    return family.build(None, tokenizer_of(kind), seed=0, sizes=Sizes(**sizes))


def read(text: str, family: Arithmetic) -> tuple[str, int, int]:
    """The sentence that a prompt was made from, and its operands."""
    first, second = map(int, re.findall(r"\d+", text))
    (sentence,) = (
        sentence
        for sentence in family.sentences
        if sentence.format(first=first, second=second) == text.strip()
    )
    return sentence, first, second


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_answers_are_results_of_the_same_sentence_with_other_numbers(
    family: Arithmetic, kind: str
) -> None:
    tokenizer, largest = tokenizer_of(kind), 0
    for pairs in splits(build(family, kind)):
        assert pairs.distractors is not None
        for clean, twin, answer, distractor in zip(
            prompts(tokenizer, pairs),
            texts(tokenizer, unpadded(pairs.corrupted, pairs)),
            words(tokenizer, pairs.answers),
            words(tokenizer, pairs.distractors),
            strict=True,
        ):
            (sentence, *operands), (other, *others) = read(clean, family), read(twin, family)
            assert sentence == other
            assert int(answer) == family.operation(*operands) > 0
            assert int(distractor) == family.operation(*others) != int(answer)
            largest = max(largest, *operands)
    assert 8 <= largest <= 9 if kind == "pieces" else 90 < largest <= 99


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_templates_are_the_sentences_that_prompts_were_made_from(family: Arithmetic) -> None:
    task, tokenizer = build(family, "bytes"), tokenizer_of("bytes")
    for pairs in splits(task):
        assert pairs.templates is not None
        assert [task.templates[which] for which in pairs.templates.tolist()] == [
            read(text, family)[0] for text in prompts(tokenizer, pairs)
        ]
    assert set(task.test.templates.tolist()) == set(range(8))  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_prompt_that_exists_can_be_asked_for_and_no_more(family: Arithmetic) -> None:
    sizes = {"train": 200, "validation": 44, "test": 44}
    assert distinct(build(family, "pieces", **sizes)) == 288 == 8 * 36
    with pytest.raises(ValueError, match=r"289 prompts asked for.*only 288"):
        build(family, "pieces", **{**sizes, "train": 201})


@pytest.mark.parametrize(
    ("asked", "kept", "fitting"),
    [
        (Sizes(200, 100, 300), [], Sizes(96, 48, 144)),
        (Sizes(200, 100, 300), ["test", "train"], None),
        (Sizes(200, 40, 100), ["train"], Sizes(200, 25, 62)),
        (Sizes(test=250), ["test"], Sizes(25, 12, 250)),
        (Sizes(test=286), ["test"], Sizes(1, 1, 286)),
        (Sizes(test=287), ["test"], None),
        (Sizes(test=10**9), [], Sizes(1, 1, 286)),
        (Sizes(), [], Sizes()),
    ],
)
def test_sizes_that_nobody_asked_for_are_lowered_to_what_there_is(
    asked: Sizes, kept: list[str], fitting: Sizes | None
) -> None:
    tokenizer = tokenizer_of("pieces")

    def fit() -> Sizes:
        return ARITHMETIC_ADDITION.fitting(tokenizer, seed=0, sizes=asked, kept=kept)

    if fitting is None:
        with pytest.raises(TooFewPrompts, match="make only 288"):
            fit()
    else:
        found = fit()
        assert found == fitting
        assert ARITHMETIC_ADDITION.fitting(tokenizer, seed=0, sizes=found) == found


def test_an_error_about_too_few_prompts_can_be_passed_between_processes() -> None:
    with pytest.raises(TooFewPrompts) as caught:
        build(ARITHMETIC_ADDITION, "pieces", train=289)
    passed = pickle.loads(pickle.dumps(caught.value))
    assert str(passed) == str(caught.value) and passed.available == 288
    assert passed.asked == {"test": 100, "validation": 50, "train": 289}


def test_there_are_as_many_prompts_as_the_docstring_says(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    for family, number in zip(FAMILIES, (78_408, 38_808), strict=True):
        assert len(family.sums(gpt2_tokenizer)) * len(family.sentences) == number
        assert f"{number:,}" in (arithmetic.__doc__ or "")


def test_twins_are_drawn_uniformly_from_all_pairs_with_another_result() -> None:
    results = torch.tensor([1, 2, 2, 2, 3, 5, 5])
    for place in range(7):
        allowed = [k for k in range(7) if results[k] != results[place]]
        luck = (torch.arange(len(allowed)) + 0.5) / len(allowed)
        found = with_another_result(results, torch.full(luck.shape, place), luck.double())
        assert found.tolist() == allowed


def test_a_tokenizer_with_too_few_numbers_is_an_error() -> None:
    numbers = {str(number) for number in range(1, 200)}
    words = [text for text in all_texts() if text not in numbers]
    hundreds = {f"{number:02}" for number in range(100)}
    for kept, message in (
        ({"17"}, "found 1 numbers that are one token; 2 are needed"),
        ({"17", "19"}, "0 pairs of one-token numbers have a one-token result of addition"),
        ({"17", "34"}, "1 pairs of one-token numbers have a one-token result of addition"),
    ):
        tokenizer = word_tokenizer(words, without=hundreds - kept)
        with pytest.raises(ValueError, match=message):
            ARITHMETIC_ADDITION.build(None, tokenizer, seed=0)


def test_losses_metrics_and_sizes_and_what_depends_on_the_seed() -> None:
    for family in FAMILIES:
        task = build(family, "bytes")
        assert tuple(map(len, splits(task))) == (100, 50, 100)
        assert (task.name, task.version) == (family.name, 1)
        assert task.training_loss is kl_divergence
        assert task.attribution_loss is negative_logit_difference
        larger = build(family, "bytes", train=150)
        assert torch.equal(task.test.corrupted, larger.test.corrupted)
        for side in ("clean", "corrupted"):
            ids, more = (unpadded(getattr(t.train, side), t.train) for t in (task, larger))
            assert more[:100] == ids
        other = family.build(None, tokenizer_of("bytes"), seed=1)
        assert not torch.equal(task.test.answers, other.test.answers)
