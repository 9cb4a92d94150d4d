"""IOI's prompts against its rules, read back through the tokenizer that made them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from tasks.ioi import IOI, IOI_COUNTERFACTUALS, IOI_T1, ORDERS, IndirectObject, Template
from tasks.shared.text import encode, tokenise
from tasks.words.ioi import HELD_OUT_SENTENCES, NAMES, OBJECTS, PLACES, SENTENCES

TASKS = [IOI_T1, IOI]
TEMPLATES = (*IOI.templates, *IOI.held_out)
WORD = re.compile(r"\{\w+\}|\w+|[^\w\s]")


def split(text: str) -> list[str]:
    return WORD.findall(text)


def word_tokenizer(text: str = "$A", pieces: dict[str, list[str]] | None = None) -> FastTokenizer:
    """A tokenizer that knows every word of the task as one token.

    `text` says what it adds to a text. A word in `pieces` is cut into these; into none: unknown.
    """
    words = [*split(" ".join(SENTENCES + HELD_OUT_SENTENCES)), *NAMES, *PLACES, *OBJECTS]
    tokens = dict.fromkeys(
        piece
        for word in ("?", "a", "<s>", "</s>", *words)
        for piece in (pieces or {}).get(word, [word])
    )
    vocabulary = {token: k for k, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single=text, special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")]
    )
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="?", bos_token="<s>")


def without(*words: str) -> FastTokenizer:
    return word_tokenizer(pieces={word: [] for word in words})


@pytest.fixture(scope="module", params=["words", "words with BOS", "gpt2", "llama"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    match request.param:
        case "gpt2":
            return request.getfixturevalue("gpt2_tokenizer")
        case "llama":
            return AutoTokenizer.from_pretrained(request.getfixturevalue("stories"))
        case kind:
            return word_tokenizer("<s> $A" if kind == "words with BOS" else "$A")


@pytest.fixture(scope="module", params=TASKS, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> IndirectObject:
    return request.param


@pytest.fixture(scope="module", params=range(3), ids="seed {}".format)
def task(
    request: pytest.FixtureRequest, family: IndirectObject, tokenizer: PreTrainedTokenizerBase
) -> Task:
    return family.build(None, tokenizer, seed=request.param, sizes=Sizes(test=200))


def splits(task: Task) -> tuple[PromptPairs, PromptPairs, PromptPairs]:
    return task.train, task.validation, task.test


def unpadded(tokens: Tensor, pairs: PromptPairs) -> list[list[int]]:
    return [
        row[:length] for row, length in zip(tokens.tolist(), pairs.lengths.tolist(), strict=True)
    ]


def texts(tokenizer: PreTrainedTokenizerBase, ids: list[list[int]]) -> list[str]:
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in ids]


def words(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> list[str]:
    return [text.strip() for text in texts(tokenizer, ids.tolist())]


def prompts(tokenizer: PreTrainedTokenizerBase, pairs: PromptPairs) -> list[str]:
    return texts(tokenizer, unpadded(pairs.clean, pairs))


def read(text: str) -> tuple[Template, list[str]]:
    """The template that a prompt was made from, and its names, found by comparing words."""
    found = []
    for sentence in (*SENTENCES, *HELD_OUT_SENTENCES):
        slots, words = split(Template(sentence, "ABBA").prompt), split(text)
        if len(slots) == len(words) and all(
            slot == word or slot.startswith("{") for slot, word in zip(slots, words, strict=True)
        ):
            names = [word for slot, word in zip(slots, words, strict=True) if slot == "{name}"]
            order = "ABBA" if names[1] == names[2] else "BABA"
            found.append((Template(sentence, order), names))
    (only,) = found
    return only


def distinct(task: Task) -> int:
    """How many different prompts there are in all splits together."""
    return len({tuple(row) for pairs in splits(task) for row in unpadded(pairs.clean, pairs)})


def test_ids_are_what_the_tokenizer_makes_of_the_text(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        for tokens in (pairs.clean, pairs.corrupted):
            ids = unpadded(tokens, pairs)
            assert encode(tokenizer, texts(tokenizer, ids)) == ids


def test_the_answer_is_the_token_that_follows_the_prompt(
    task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        ids, answers = unpadded(pairs.clean, pairs), pairs.answers.squeeze(1).tolist()
        answered = [
            f"{prompt} {name}"
            for prompt, name in zip(
                texts(tokenizer, ids), words(tokenizer, pairs.answers), strict=True
            )
        ]
        expected = [[*row, answer] for row, answer in zip(ids, answers, strict=True)]
        assert encode(tokenizer, answered) == expected


def test_names_stand_in_the_template_s_order(
    task: Task, family: IndirectObject, tokenizer: PreTrainedTokenizerBase
) -> None:
    for pairs in splits(task):
        assert pairs.distractors is not None
        for text, *pair in zip(
            prompts(tokenizer, pairs),
            words(tokenizer, pairs.answers),
            words(tokenizer, pairs.distractors),
            strict=True,
        ):
            template, names = read(text)
            assert template in (*family.templates, *family.held_out)
            assert names == [pair[who] for who in ORDERS[template.order][:3]]
            assert pair[0] != pair[1]


def test_the_corrupted_prompt_has_three_other_names_and_is_else_the_same(task: Task) -> None:
    for pairs in splits(task):
        assert pairs.distractors is not None
        own = torch.cat([pairs.answers, pairs.distractors], dim=1)
        changed = pairs.clean != pairs.corrupted
        assert (changed.sum(1) == 3).all()
        names, others = pairs.clean[changed].view(-1, 3), pairs.corrupted[changed].view(-1, 3)
        assert ((names == pairs.answers).sum(1) == 1).all()
        assert ((names == pairs.distractors).sum(1) == 2).all()
        assert not (others[:, :, None] == own[:, None, :]).any()
        assert all(len(set(row)) == 3 for row in others.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("family", IOI_COUNTERFACTUALS, ids=lambda family: family.name)
def test_counterfactuals_change_names_as_they_say(family: IndirectObject) -> None:
    tokenizer, kind = word_tokenizer(), family.name.removeprefix("ioi-")
    usual, task = (f.build(None, tokenizer, seed=0, sizes=Sizes(10, 10, 50)) for f in (IOI, family))
    for pairs, same in zip(splits(task), splits(usual), strict=True):
        assert torch.equal(pairs.clean, same.clean)
        assert torch.equal(pairs.answers, same.answers)
        twins = texts(tokenizer, unpadded(pairs.corrupted, pairs))
        for clean, twin in zip(prompts(tokenizer, pairs), twins, strict=True):
            (_, (first, second, again)), (_, names) = read(clean), read(twin)
            exchanged = {first: second, second: first}
            expected = [first, second, again]
            if "s1-io" in kind:
                expected[:2] = [second, first]
            if "s2-io" in kind:
                expected[2] = exchanged[again]
            if kind == "abc":
                expected[2] = names[2]
                assert names[2] not in exchanged
            if "random" in kind:
                others = dict(zip(expected, names, strict=True))
                assert not set(others.values()) & {first, second} and len({*others.values()}) == 2
                expected = [others[name] for name in expected]
            assert names == expected


def test_there_are_mib_s_eight_counterfactuals_and_no_others() -> None:
    assert len({task.name for task in IOI_COUNTERFACTUALS}) == 8
    with pytest.raises(ValueError, match="counterfactual='s2'; expected one of three-others, s2-"):
        replace(IOI, counterfactual="s2")


def test_the_target_is_the_last_position_and_the_rest_is_padding(task: Task) -> None:
    for pairs in splits(task):
        assert torch.equal(pairs.targets.squeeze(1), pairs.lengths - 1)
        beyond = torch.arange(pairs.clean.shape[1]) >= pairs.lengths[:, None]
        assert not pairs.clean[beyond].any()
        assert not pairs.corrupted[beyond].any()


def test_no_prompt_is_there_twice(task: Task) -> None:
    assert distinct(task) == sum(map(len, splits(task)))


@pytest.mark.parametrize(("family", "sizes"), [(IOI_T1, (50, 50, 200)), (IOI, (200, 200, 1000))])
def test_training_and_validation_sets_are_of_the_paper_s_size(
    family: IndirectObject, sizes: tuple[int, int, int]
) -> None:
    assert tuple(map(len, splits(family.build(None, word_tokenizer(), seed=0)))) == sizes


def test_held_out_sentences_are_in_the_test_prompts_alone() -> None:
    tokenizer = word_tokenizer()
    *seen, unseen = (
        {read(text)[0] for text in prompts(tokenizer, pairs)}
        for pairs in splits(IOI.build(None, tokenizer, seed=0))
    )
    assert set().union(*seen) == set(IOI.templates)
    assert unseen == set(IOI.held_out)


def test_there_are_thirty_templates_of_which_four_are_held_out() -> None:
    assert len(set(TEMPLATES)) == 30
    for order in ORDERS:
        assert sum(template.order == order for template in TEMPLATES) == 15
        assert sum(template.order == order for template in IOI.held_out) == 2
    assert len(IOI_T1.templates) == 1
    for words in (NAMES, PLACES, OBJECTS):
        assert len(set(words)) == len(words)


def test_gpt2_and_llama_know_every_word(
    gpt2_tokenizer: PreTrainedTokenizerBase, stories: Path
) -> None:
    candidates = {"name": NAMES, "place": PLACES, "object": OBJECTS}
    needed = {slot: len(words) for slot, words in candidates.items()}
    sentences = SENTENCES + HELD_OUT_SENTENCES
    for tokenizer in (gpt2_tokenizer, AutoTokenizer.from_pretrained(stories)):
        tokenise(tokenizer, sentences, candidates, needed=needed)


def test_prompts_depend_on_the_seed_and_on_nothing_else(family: IndirectObject) -> None:
    built = []
    for state, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(state)
        built.append(family.build(None, word_tokenizer(), seed=seed))
    first, second, other = built
    for a, b in zip(splits(first), splits(second), strict=True):
        assert torch.equal(a.clean, b.clean)
        assert torch.equal(a.corrupted, b.corrupted)
        assert torch.equal(a.answers, b.answers)
    assert not torch.equal(first.train.clean, other.train.clean)


def test_a_larger_training_set_contains_the_smaller_and_changes_no_other(
    family: IndirectObject,
) -> None:
    small, large = (
        family.build(None, word_tokenizer(), seed=0, sizes=Sizes(train=count))
        for count in (100, 1000)
    )
    for side in ("clean", "corrupted"):
        assert torch.equal(getattr(small.test, side), getattr(large.test, side))
        assert torch.equal(getattr(small.validation, side), getattr(large.validation, side))
        assert torch.equal(getattr(small.train, side), getattr(large.train, side)[:100])


@pytest.mark.slow
def test_a_hundred_thousand_prompts_are_distinct_and_tokenised_right(
    family: IndirectObject, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = family.build(None, tokenizer, seed=0, sizes=Sizes(train=100_000))
    assert len(task.train) == 100_000
    assert distinct(task) == 100_000 + family.validation + family.test
    ids = unpadded(task.train.clean, task.train)[::100]
    assert encode(tokenizer, texts(tokenizer, ids)) == ids


def test_every_prompt_that_exists_can_be_asked_for() -> None:
    tokenizer = without(*NAMES[6:], *PLACES[2:], *OBJECTS[2:])
    sizes = Sizes(train=100, validation=10, test=10)
    task = IOI_T1.build(None, tokenizer, seed=0, sizes=sizes)
    assert distinct(task) == 120 == 6 * 5 * 2 * 2


def test_losses_metrics_and_ablation_are_the_paper_s(family: IndirectObject) -> None:
    task = family.build(None, word_tokenizer(), seed=0)
    assert (task.name, task.version) == (family.name, family.version)
    assert task.ablation == "interchange"
    assert task.training_loss is kl_divergence
    assert task.attribution_loss is negative_logit_difference
    assert set(task.metrics) == {"kl", "logit_difference", "accuracy", "exact_match"}
    assert not task.true_circuits


def test_names_of_two_tokens_and_unknown_ones_are_left_out() -> None:
    tokenizer = word_tokenizer(pieces={"Adam": ["Ad", "##am"], "Tom": []})
    task = IOI.build(None, tokenizer, seed=0)
    names = {name for text in prompts(tokenizer, task.train) for name in read(text)[1]}
    assert names == set(NAMES) - {"Adam", "Tom"}


def test_too_few_names_are_an_error_with_both_numbers(family: IndirectObject) -> None:
    with pytest.raises(ValueError, match=r"found 4 words for 'name'.*; 5 are needed"):
        family.build(None, without(*NAMES[4:]), seed=0)


def test_the_error_names_the_tokenizer() -> None:
    tokenizer = without(*PLACES)
    tokenizer.name_or_path = "some/model"
    with pytest.raises(ValueError, match="some/model: found 0 words for 'place'"):
        IOI.build(None, tokenizer, seed=0)


def test_an_unknown_word_in_a_sentence_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not know every word of 'At the"):
        IOI.build(None, without("hugged"), seed=0)


def test_a_tokenizer_that_ends_every_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="found 0 words for 'name'"):
        IOI.build(None, word_tokenizer("$A </s>"), seed=0)


def test_more_prompts_than_there_are_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"1,000,250 prompts asked for.*only 226,560"):
        IOI_T1.build(None, word_tokenizer(), seed=0, sizes=Sizes(train=1_000_000))
    with pytest.raises(ValueError, match=r"1,000,000 prompts asked for.*only 906,240"):
        IOI.build(None, word_tokenizer(), seed=0, sizes=Sizes(test=1_000_000))


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_prompt_is_an_error(family: IndirectObject, count: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        family.build(None, word_tokenizer(), seed=0, sizes=Sizes(train=count))


def accuracy_by_template(folder: Path, *, size: int) -> dict[Template, float]:
    """How often a model's most likely token is the answer, by plain transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    accuracies = {}
    for template in TEMPLATES:
        alone = IndirectObject("ioi", (template,), (), train=1, validation=1, test=size)
        pairs = alone.build(None, tokenizer, seed=0).test
        with torch.no_grad():
            predicted = model(pairs.clean, logits_to_keep=1).logits[:, -1].argmax(-1)
        accuracies[template] = (predicted == pairs.answers[:, 0]).float().mean().item()
    return accuracies


@pytest.mark.slow
def test_a_small_story_model_solves_every_template(stories: Path) -> None:
    accuracies = accuracy_by_template(stories, size=20)
    table = "\n".join(
        f"{accuracy:.2f} {template.order} {template.prompt}"
        for template, accuracy in accuracies.items()
    )
    for order in ORDERS:
        values = [accuracy for template, accuracy in accuracies.items() if template.order == order]
        assert sum(values) / len(values) >= 0.8, table
    assert min(accuracies.values()) >= 0.8, table
