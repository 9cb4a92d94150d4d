"""The prompts of greater-than against its rules, read back through the tokenizer that made them."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.task import Sizes, Task
from tasks import greater_than
from tasks.greater_than import CENTURIES, DIGITS, GREATER_THAN, GREATER_THAN_01, GreaterThan
from tasks.shared.text import encode
from tasks.shared.years import Years
from tasks.words.greater_than import NOUNS, SENTENCES
from tests.tasks.test_ioi import distinct, prompts, splits, texts, unpadded
from tests.tasks.toys import word_tokenizer

BUILDERS = [GREATER_THAN, GREATER_THAN_01]
YEAR = r"(?P<cc>\d\d) ?(?P<yy>\d\d)"
SMALL = Sizes(train=300, validation=100, test=300)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """What a tokenizer makes of a thousand years in six sentences is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greater_than, "read_vocabulary", cache(greater_than.read_vocabulary))
        yield


@cache
def toy(*without: str) -> FastTokenizer:
    return word_tokenizer([*SENTENCES, *NOUNS], without=without)


@pytest.fixture(scope="module", params=["words", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return toy() if request.param == "words" else request.getfixturevalue("gpt2_tokenizer")


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda builder: builder.name)
def builder(request: pytest.FixtureRequest) -> GreaterThan:
    return request.param


@pytest.fixture(scope="module")
def task(builder: GreaterThan, tokenizer: PreTrainedTokenizerBase) -> Task:
    return builder.build(None, tokenizer, seed=0, sizes=SMALL)


def read(text: str) -> tuple[str, str, str, str]:
    """A prompt's sentence and noun, its year's century and two digits."""
    found = []
    for sentence in SENTENCES:
        pattern = sentence.replace("{noun}", r"(?P<noun>\w+)").replace("{year}", YEAR)
        text = re.sub(r" (?=,)", "", text)
        if match := re.fullmatch(pattern.replace("{century}", r"(?P=cc)"), text):
            found.append((sentence, match["noun"], match["cc"], match["yy"]))
    (only,) = found
    return only


def pairs_of_texts(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[tuple[str, str, str, str], tuple[str, str, str, str]]]:
    return [
        (read(clean), read(corrupted))
        for pairs in splits(task)
        for clean, corrupted in zip(
            texts(tokenizer, unpadded(pairs.clean, pairs)),
            texts(tokenizer, unpadded(pairs.corrupted, pairs)),
            strict=True,
        )
    ]


def test_ids_are_what_the_tokenizer_makes_of_the_text(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        for tokens in (pairs.clean, pairs.corrupted):
            ids = unpadded(tokens, pairs)
            assert encode(tokenizer, texts(tokenizer, ids)) == ids


def test_twins_have_the_same_sentence_and_noun_and_another_year(
    task: Task, builder: GreaterThan, tokenizer: PreTrainedTokenizerBase
) -> None:
    for (*same, century, digits), (*twin, other_century, other_digits) in pairs_of_texts(
        task, tokenizer
    ):
        assert same == twin
        assert (century, digits) != (other_century, other_digits)
        if builder.corruption == "01":
            assert (other_century, other_digits) == (century, "01")
        else:
            assert 1 <= int(other_digits) <= 98


def test_the_twin_is_a_year_of_any_century_and_any_split() -> None:
    tokenizer = toy()
    task = GREATER_THAN.build(None, tokenizer, seed=0, sizes=Sizes(train=2000))
    read_twins = [twin for _, twin in pairs_of_texts(task, tokenizer)]
    assert {century for *_, century, _ in read_twins} == set(CENTURIES)
    assert {digits for *_, digits in read_twins} == set(DIGITS[1:99])


def test_the_answer_is_the_token_of_the_year_s_two_digits_and_the_target_the_last(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        assert torch.equal(pairs.targets.squeeze(1), pairs.lengths - 1)
        for text, digits in zip(
            prompts(tokenizer, pairs), texts(tokenizer, pairs.answers.tolist()), strict=True
        ):
            assert read(text)[3] == digits
        rows, answers = unpadded(pairs.clean, pairs), pairs.answers.squeeze(1).tolist()
        for ids, answer in zip(rows, answers, strict=True):
            assert [ids[-1], answer] in [ids[k : k + 2] for k in range(len(ids))]


def test_splits_differ_in_the_two_digits_and_share_sentences(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    seen = [[read(text) for text in prompts(tokenizer, pairs)] for pairs in splits(task)]
    digits = [{digits for *_, digits in part} for part in seen]
    assert sum(map(len, digits)) == len(set().union(*digits))
    assert all({sentence for sentence, *_ in part} == set(SENTENCES) for part in seen)
    assert distinct(task) == sum(map(len, splits(task)))


def test_years_are_two_tokens_and_neither_first_nor_last_of_their_century(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    bounds = {}
    for century in CENTURIES:
        before, *after = encode(
            tokenizer, [f"The war of {century}", *(f"The war of {century}{yy}" for yy in DIGITS)]
        )
        alone = [yy for yy, ids in zip(DIGITS, after, strict=True) if ids[:-1] == before]
        bounds[century] = (min(alone, default="99"), max(alone, default="00"))
    for (*_, century, digits), _ in pairs_of_texts(task, tokenizer):
        first, last = bounds[century]
        assert first < digits < last


def test_sizes_are_the_paper_s_and_a_thousand_for_test(builder: GreaterThan) -> None:
    task = builder.build(None, toy(), seed=0)
    assert tuple(map(len, splits(task))) == (150, 150, 1000)
    assert (task.name, task.version) == (builder.name, builder.version)
    assert task.ablation == "interchange"


def test_there_are_six_sentences_and_120_nouns_of_one_token(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert (len(set(SENTENCES)), len(set(NOUNS))) == (6, 120)
    lengths = {len(ids) for ids in encode(gpt2_tokenizer, [f"The {noun}" for noun in NOUNS])}
    assert lengths == {2}


def test_prompts_depend_on_the_seed_and_on_nothing_else(builder: GreaterThan) -> None:
    built = []
    for state, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(state)
        built.append(builder.build(None, toy(), seed=seed, sizes=SMALL))
    first, second, other = built
    for a, b in zip(splits(first), splits(second), strict=True):
        assert torch.equal(a.clean, b.clean)
        assert torch.equal(a.corrupted, b.corrupted)
    assert not torch.equal(first.train.clean, other.train.clean)


def test_a_larger_training_set_contains_the_smaller_and_changes_no_other(
    builder: GreaterThan,
) -> None:
    small, large = (
        builder.build(None, toy(), seed=0, sizes=Sizes(train=count)) for count in (99, 1000)
    )
    for side in ("clean", "corrupted", "answers"):
        assert torch.equal(getattr(small.test, side), getattr(large.test, side))
        assert torch.equal(getattr(small.validation, side), getattr(large.validation, side))
        assert torch.equal(getattr(small.train, side), getattr(large.train, side)[:99])


def test_more_prompts_than_there_are_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"1,000,000 prompts asked for \(train 1,000,000\).*only"):
        GREATER_THAN.build(None, toy(), seed=0, sizes=Sizes(train=1_000_000))


def test_every_prompt_that_exists_can_be_asked_for() -> None:
    tokenizer = toy(*NOUNS[2:])
    with pytest.raises(ValueError) as error:
        GREATER_THAN.build(None, tokenizer, seed=0, sizes=Sizes(train=100_000))
    found = re.search(r"only ([\d,]+) \(6 × 2 × (\d+)\)", str(error.value))
    assert found is not None
    available = int(found[1].replace(",", ""))
    task = GREATER_THAN.build(None, tokenizer, seed=0, sizes=Sizes(available, 1, 1))
    assert distinct(task) == available + 2 == 6 * 2 * int(found[2]) + 2


def test_a_tokenizer_that_splits_years_otherwise_is_refused_with_the_reason() -> None:
    tokenizer = word_tokenizer([*SENTENCES, *NOUNS], split=3, known=[3, 1])
    expected = r"no year from 1000 to 2199 is two tokens, its century and two digits, or four"
    with pytest.raises(ValueError, match=expected) as error:
        GREATER_THAN.build(None, tokenizer, seed=0)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_token_for_some_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="00 to 99 are not a hundred tokens"):
        GREATER_THAN.build(None, toy("55"), seed=0)


def test_the_hundred_tokens_are_those_of_00_to_99(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    for tokenizer in (toy(), gpt2_tokenizer):
        loss = GREATER_THAN.build(None, tokenizer, seed=0, sizes=SMALL).training_loss
        years = getattr(loss, "__self__", None)
        assert isinstance(years, Years)
        assert texts(tokenizer, years.tokens[:, None].tolist()) == list(DIGITS)


def test_digits_may_have_other_tokens_than_centuries() -> None:
    words = {word for text in (*SENTENCES, *NOUNS) for word in re.findall(r"\w+|,", text)}
    pieces = [f"{kind}{yy}" for kind in ("", "##") for yy in DIGITS]
    vocabulary = {token: k for k, token in enumerate(["?", "a", *sorted(words - {"a"}), *pieces])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="?", max_input_chars_per_word=20))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    backend.decoder = decoders.WordPiece()  # pyright: ignore
    tokenizer = FastTokenizer(tokenizer_object=backend, unk_token="?")
    task = GREATER_THAN.build(None, tokenizer, seed=0, sizes=SMALL)
    answers = tokenizer.convert_ids_to_tokens(task.test.answers[:, 0].tolist())
    assert all(answer.startswith("##") for answer in answers)
    ids = unpadded(task.test.clean, task.test)
    assert encode(tokenizer, texts(tokenizer, ids)) == ids
