"""The prompts of subject-verb agreement, read back as words, and its probability difference."""

import re
from functools import cache

import pytest
import torch
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.metrics import kl_divergence
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from tasks import subject_verb_agreement
from tasks.shared.verbs import VerbForms
from tasks.subject_verb_agreement import SUBJECT_VERB_AGREEMENT, read_lexicon
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
from tests.tasks.test_ioi import prompts, splits, texts, unpadded, words
from tests.tasks.toys import word_tokenizer

METRICS = ["kl", "probability_difference", "logit_difference", "exact_match"]
PHRASES = (*SIMPLE, *HELD_OUT_SIMPLE, *ATTRACTED, *HELD_OUT_ATTRACTED)
PLURALS = dict(line.split("/") for line in NOUNS)
SINGULARS = {plural: singular for singular, plural in PLURALS.items()}


@cache
def toy(*without: str) -> FastTokenizer:
    lists = (*PHRASES, *ADJECTIVES, *NOUNS, *ATTRACTORS, *VERBS)
    return word_tokenizer([text.replace("/", " ") for text in lists], without=without)


@cache
def build(**sizes: int) -> Task:
    return SUBJECT_VERB_AGREEMENT.build(None, toy(), seed=0, sizes=Sizes(**sizes))


def read(text: str) -> tuple[str, str, str]:
    """The phrase that a prompt was made from, its filler and its subject."""
    found = []
    for phrase in PHRASES:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+)", re.escape(phrase))
        match = re.fullmatch(pattern, text)
        if match and match["noun"] in {*PLURALS, *SINGULARS}:
            found.append((phrase, match["filler"], match["noun"]))
    (only,) = found
    return only


def test_only_the_subject_s_number_differs_and_the_verb_has_it() -> None:
    tokenizer = toy()
    for pairs in splits(build(test=100)):
        for clean, corrupted, answer in zip(
            prompts(tokenizer, pairs),
            texts(tokenizer, unpadded(pairs.corrupted, pairs)),
            words(tokenizer, pairs.answers),
            strict=True,
        ):
            (phrase, filler, noun), twin = read(clean), read(corrupted)
            assert twin == (phrase, filler, PLURALS.get(noun) or SINGULARS[noun])
            assert answer == ("is" if noun in PLURALS else "are")


def test_numbers_and_kinds_take_turns_and_attractors_have_both_numbers() -> None:
    tokenizer = toy()
    forms = [form for line in ATTRACTORS for form in line.split("/")]
    for pairs in splits(build(test=200)):
        found = [read(text) for text in prompts(tokenizer, pairs)]
        kinds = [(noun in SINGULARS, filler in forms) for _, filler, noun in found]
        assert all(len(set(kinds[k : k + 4])) == 4 for k in range(0, len(kinds), 4))
        attractors = [forms.index(filler) % 2 for _, filler, _ in found if filler in forms]
        assert 0.3 < sum(attractors) / len(attractors) < 0.7


def test_held_out_phrases_are_in_the_test_prompts_alone() -> None:
    tokenizer = toy()
    *seen, unseen = (
        {read(t)[0] for t in prompts(tokenizer, p)} for p in splits(build(train=500, test=200))
    )
    assert set().union(*seen) == {*SIMPLE, *ATTRACTED}
    assert unseen == {*HELD_OUT_SIMPLE, *HELD_OUT_ATTRACTED}


def test_templates_are_the_phrases_that_prompts_were_made_from() -> None:
    task, tokenizer = build(train=500, test=200), toy()
    for pairs in splits(task):
        assert pairs.templates is not None
        assert [task.templates[which] for which in pairs.templates.tolist()] == [
            read(text)[0] for text in prompts(tokenizer, pairs)
        ]


def test_lists_hold_no_word_twice() -> None:
    forms = [form for line in (*NOUNS, *ATTRACTORS) for form in line.split("/")]
    assert len(set(forms)) == len(forms)
    assert len(set(ADJECTIVES)) == len(ADJECTIVES) and len(set(PHRASES)) == len(PHRASES)


def test_there_are_as_many_prompts_as_the_docstring_says(gpt2_tokenizer: FastTokenizer) -> None:
    for sizes, number in ((Sizes(train=31_617), "31,616"), (Sizes(test=7_905), "7,904")):
        assert number in (subject_verb_agreement.__doc__ or "")
        with pytest.raises(ValueError, match=f"only {number}"):
            SUBJECT_VERB_AGREEMENT.build(None, gpt2_tokenizer, seed=0, sizes=sizes)


def test_words_without_both_forms_are_left_out() -> None:
    lexicon = read_lexicon(toy("actors", "king", "has", "lucky"))
    singulars = {singular for singular, _ in lexicon.subjects}
    assert singulars == set(PLURALS) - {"actor", "king"}
    assert lexicon.verbs[:2] == [("is", "are"), ("was", "were")]
    assert lexicon.verb_tokens.shape == (2, len(VERBS) - 1)
    assert len(lexicon.fillers[0]) == len(lexicon.fillers[1]) == 24


def test_a_tokenizer_with_too_few_verbs_is_an_error() -> None:
    singular = [line.split("/")[0] for line in VERBS[:-2]]
    with pytest.raises(
        ValueError, match="found 2 verbs whose singular and plural are one token; 3"
    ):
        read_lexicon(toy(*singular))
    with pytest.raises(ValueError, match="found 1 adjectives that are one token; 2 are needed"):
        read_lexicon(toy(*ADJECTIVES[1:]))


def test_the_probability_difference_counts_all_forms_of_the_subject_s_number() -> None:
    forms = VerbForms(torch.tensor([[0, 1], [2, 3]]))
    pairs = PromptPairs(
        clean=torch.tensor([[4], [4]]),
        corrupted=torch.tensor([[4], [4]]),
        lengths=torch.tensor([1, 1]),
        targets=torch.tensor([[0], [0]]),
        answers=torch.tensor([[0], [2]]),
    )
    logits = torch.tensor([[[0.1, 0.2, 0.05, 0.25, 0.4]]]).log().expand(2, 1, 5)
    difference = forms.probability_difference(logits, logits, pairs)
    torch.testing.assert_close(difference, torch.tensor([0.0, 0.0]))
    logits = torch.tensor([[[0.3, 0.2, 0.05, 0.05, 0.4]]]).log().expand(2, 1, 5)
    torch.testing.assert_close(
        forms.probability_difference(logits[None], logits, pairs), torch.tensor([[0.4, -0.4]])
    )


def test_default_sizes_losses_and_metrics() -> None:
    task = build()
    assert tuple(map(len, splits(task))) == (200, 200, 1000)
    assert (task.name, task.version) == ("subject-verb-agreement", 1)
    assert task.training_loss is kl_divergence
    assert list(task.metrics) == METRICS
    logits = torch.randn(200, 1, 3000)
    metric = task.metrics["probability_difference"]
    torch.testing.assert_close(
        task.attribution_loss(logits, logits, task.train), -metric(logits, logits, task.train)
    )


def test_prompts_depend_on_the_seed_alone_and_a_larger_set_contains_the_smaller() -> None:
    tokenizer = toy()
    small, large, other = (
        SUBJECT_VERB_AGREEMENT.build(None, tokenizer, seed=seed, sizes=Sizes(train=train, test=50))
        for train, seed in ((50, 1), (500, 1), (50, 2))
    )
    for side in ("clean", "corrupted"):
        ids = [unpadded(getattr(t.train, side), t.train) for t in (small, large, other)]
        assert ids[1][:50] == ids[0] != ids[2]
    assert torch.equal(small.test.corrupted, large.test.corrupted)
    assert torch.equal(small.validation.clean, large.validation.clean)
