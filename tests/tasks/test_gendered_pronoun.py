"""The prompts of gendered-pronoun against its rules, read back through the tokenizer."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.task import Sizes, Task
from tasks import gendered_pronoun
from tasks.gendered_pronoun import GENDERED_PRONOUN, read_vocabulary
from tasks.shared.text import encode
from tasks.words.gendered_pronoun import BOYS, GIRLS, HELD_OUT_SENTENCES, QUALITIES, SENTENCES
from tests.tasks.test_ioi import distinct, prompts, splits, texts, unpadded, words
from tests.tasks.toys import WORD, word_tokenizer

NAMES = {"she": GIRLS, "he": BOYS}


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """What a tokenizer makes of three hundred names in thirty sentences is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gendered_pronoun, "read_vocabulary", cache(read_vocabulary))
        yield


@cache
def toy(*without: str) -> FastTokenizer:
    sentences = (*SENTENCES, *HELD_OUT_SENTENCES)
    return word_tokenizer([*sentences, *GIRLS, *BOYS, *QUALITIES, *NAMES], without=without)


@pytest.fixture(scope="module", params=["words", "gpt2", "llama"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    match request.param:
        case "words":
            return toy()
        case "gpt2":
            return request.getfixturevalue("gpt2_tokenizer")
        case _:
            return AutoTokenizer.from_pretrained(request.getfixturevalue("stories"))


@pytest.fixture(scope="module")
def task(tokenizer: PreTrainedTokenizerBase) -> Task:
    return GENDERED_PRONOUN.build(None, tokenizer, seed=0, sizes=Sizes(test=301))


def read(text: str) -> tuple[str, str]:
    """The sentence that a prompt was made from, and its name."""
    found = []
    for sentence in (*SENTENCES, *HELD_OUT_SENTENCES):
        slots, words = WORD.findall(sentence)[:-1], WORD.findall(text)
        if len(slots) == len(words) and all(
            slot == word or slot.startswith("{") for slot, word in zip(slots, words, strict=True)
        ):
            found.append((sentence, words[slots.index("{name}")]))
    (only,) = found
    return only


def test_ids_are_what_the_tokenizer_makes_of_the_text(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        for tokens in (pairs.clean, pairs.corrupted):
            ids = unpadded(tokens, pairs)
            assert encode(tokenizer, texts(tokenizer, ids)) == ids


def test_only_the_name_differs_and_is_of_the_other_gender(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        assert ((pairs.clean != pairs.corrupted).sum(1) == 1).all()
        for clean, corrupted, pronoun in zip(
            prompts(tokenizer, pairs),
            texts(tokenizer, unpadded(pairs.corrupted, pairs)),
            words(tokenizer, pairs.answers),
            strict=True,
        ):
            (sentence, name), (other_sentence, other) = read(clean), read(corrupted)
            assert sentence == other_sentence
            assert name in NAMES[pronoun]
            assert other in NAMES["he" if pronoun == "she" else "she"]


def test_the_answer_is_the_token_that_follows_and_the_distractor_the_other_pronoun(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        assert pairs.distractors is not None
        assert torch.equal(pairs.targets.squeeze(1), pairs.lengths - 1)
        ids = unpadded(pairs.clean, pairs)
        for tokens in (pairs.answers, pairs.distractors):
            answered = [
                f"{prompt} {pronoun}"
                for prompt, pronoun in zip(
                    texts(tokenizer, ids), words(tokenizer, tokens), strict=True
                )
            ]
            expected = [[*row, *token] for row, token in zip(ids, tokens.tolist(), strict=True)]
            assert encode(tokenizer, answered) == expected
        assert (pairs.answers != pairs.distractors).all()


def test_girls_and_boys_take_turns(task: Task) -> None:
    for pairs in splits(task):
        answers = pairs.answers.squeeze(1)
        assert (answers[1:] != answers[:-1]).all()


def test_held_out_sentences_are_in_the_test_prompts_alone() -> None:
    tokenizer = toy()
    *seen, unseen = (
        {read(text)[0] for text in prompts(tokenizer, pairs)}
        for pairs in splits(GENDERED_PRONOUN.build(None, tokenizer, seed=0))
    )
    assert set().union(*seen) == set(SENTENCES)
    assert unseen == set(HELD_OUT_SENTENCES)


def test_sentences_ask_with_a_tag_after_so_and_a_name() -> None:
    sentences = (*SENTENCES, *HELD_OUT_SENTENCES)
    assert len(set(sentences)) == 30
    tag = re.compile(r"So \{name\} (.*), (isn't|doesn't|can't|is) \{pronoun\}")
    assert all(tag.fullmatch(sentence) for sentence in sentences)
    tags = [match[2] for text in HELD_OUT_SENTENCES if (match := tag.fullmatch(text))]
    assert len(set(tags)) == 4
    assert all(sentence.count("{quality}") == 1 for sentence in sentences)


def test_there_are_at_least_80_names_of_each_gender_and_none_is_of_both(
    gpt2_tokenizer: PreTrainedTokenizerBase,
) -> None:
    usable = read_vocabulary(gpt2_tokenizer).words["name"]
    assert set(usable) == {*GIRLS, *BOYS}
    assert min(len(set(GIRLS)), len(set(BOYS))) >= 80
    assert not {*GIRLS} & {*BOYS}


def test_the_longer_list_of_names_is_cut_to_the_shorter() -> None:
    tokenizer = toy(*GIRLS[5:])
    task = GENDERED_PRONOUN.build(None, tokenizer, seed=0, sizes=Sizes(test=300))
    names = {read(text)[1] for pairs in splits(task) for text in prompts(tokenizer, pairs)}
    assert names == {*GIRLS[:5], *BOYS[:5]}


def test_default_sizes_losses_and_metrics() -> None:
    task = GENDERED_PRONOUN.build(None, toy(), seed=0)
    assert tuple(map(len, splits(task))) == (150, 150, 1000)
    assert distinct(task) == 1300
    assert (task.name, task.version) == ("gendered-pronoun", GENDERED_PRONOUN.version)
    assert task.training_loss is kl_divergence
    assert task.attribution_loss is negative_logit_difference
    assert list(task.metrics) == ["kl", "logit_difference", "accuracy", "exact_match"]


def test_prompts_depend_on_the_seed_and_on_nothing_else() -> None:
    built = []
    for state, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(state)
        built.append(GENDERED_PRONOUN.build(None, toy(), seed=seed))
    first, second, other = built
    for a, b in zip(splits(first), splits(second), strict=True):
        assert torch.equal(a.clean, b.clean)
        assert torch.equal(a.corrupted, b.corrupted)
    assert not torch.equal(first.train.clean, other.train.clean)


def test_a_larger_training_set_contains_the_smaller_and_changes_no_other() -> None:
    small, large = (
        GENDERED_PRONOUN.build(None, toy(), seed=0, sizes=Sizes(train=count))
        for count in (99, 1000)
    )
    for side in ("clean", "corrupted", "answers"):
        assert torch.equal(getattr(small.test, side), getattr(large.test, side))
        assert torch.equal(getattr(small.validation, side), getattr(large.validation, side))
        assert torch.equal(getattr(small.train, side), getattr(large.train, side)[:99])


def test_every_prompt_that_exists_can_be_asked_for_and_no_more() -> None:
    tokenizer = toy(*GIRLS[3:], *QUALITIES[2:])
    available = 2 * 26 * 2 * 3
    task = GENDERED_PRONOUN.build(None, tokenizer, seed=0, sizes=Sizes(available - 1, 1, 48))
    assert distinct(task) == available + 48
    with pytest.raises(ValueError, match=rf"{available + 1} prompts asked for.*only {available}"):
        GENDERED_PRONOUN.build(None, tokenizer, seed=0, sizes=Sizes(available, 1, 48))


def test_a_tokenizer_without_a_pronoun_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"found 1 words for 'pronoun'.*; 2 are needed"):
        GENDERED_PRONOUN.build(None, toy("she"), seed=0)


@pytest.mark.slow
def test_a_small_story_model_prefers_the_right_pronoun(stories: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(stories).eval()
    tokenizer = AutoTokenizer.from_pretrained(stories)
    pairs = GENDERED_PRONOUN.build(None, tokenizer, seed=0, sizes=Sizes(test=100)).test
    assert pairs.distractors is not None
    rows = torch.arange(len(pairs))[:, None]
    with torch.no_grad():
        logits = model(pairs.clean).logits[rows, pairs.targets].squeeze(1)
    right = logits.gather(1, pairs.answers) > logits.gather(1, pairs.distractors)
    assert right.float().mean() >= 0.8
