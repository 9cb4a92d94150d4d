"""Greater-Than for tokenizers that split years into digits, against separate continuations."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks import greater_than
from tasks.greater_than import DIGITS, GREATER_THAN, GREATER_THAN_01, GreaterThan
from tasks.shared.text import encode
from tasks.shared.years import Years, YearsByDigit
from tasks.words.greater_than import NOUNS, SENTENCES
from tests.tasks.test_greater_than import read
from tests.tasks.test_ioi import splits
from tests.tasks.toys import word_tokenizer

SMALL = Sizes(train=60, validation=20, test=60)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """What a tokenizer makes of a thousand years in six sentences is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greater_than, "read_vocabulary", cache(greater_than.read_vocabulary))
        yield


@cache
def toy(split: int, *known: int) -> FastTokenizer:
    return word_tokenizer([*SENTENCES, *NOUNS], split=split, known=known or None)


@cache
def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["words", "stories"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    if request.param == "words":
        return toy(1)
    return tokenizer_in(request.getfixturevalue("stories"))


@pytest.fixture(scope="module", params=[GREATER_THAN, GREATER_THAN_01], ids=lambda task: task.name)
def builder(request: pytest.FixtureRequest) -> GreaterThan:
    return request.param


def measures(task: Task) -> Years:
    years = getattr(task.training_loss, "__self__", None)
    assert isinstance(years, Years)
    return years


def text_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """With digits side by side, also if the tokenizer's words are."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert isinstance(text, str)
    if isinstance(tokenizer, FastTokenizer) and tokenizer.vocab_size < 1000:
        parts = text.split()
        text = "".join(
            part if part.isdigit() and before.isdigit() else f" {part}"
            for before, part in zip(["", *parts], parts, strict=False)
        )
    return text.strip()


def test_a_prompt_is_the_text_with_each_of_ten_digits(
    builder: GreaterThan, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = builder.build(None, tokenizer, seed=0, sizes=SMALL)
    for pairs in splits(task):
        assert pairs.forks is not None
        assert torch.equal(pairs.lengths, pairs.forks + 10)
        expected = pairs.forks[:, None] - 1 + torch.arange(11)
        assert torch.equal(pairs.targets, expected)
        for prompt, fork in enumerate(pairs.forks.tolist()):
            found = []
            for tokens in (pairs.clean[prompt].tolist(), pairs.corrupted[prompt].tolist()):
                text = text_of(tokenizer, tokens[:fork])
                continued = [f"{text}{digit}" for digit in range(10)]
                ids = [[*tokens[:fork], tokens[fork + digit]] for digit in range(10)]
                assert encode(tokenizer, [text, *continued]) == [tokens[:fork], *ids]
                found.append(read(text))
            (*same, century, digits), (*twin, other_century, other_digits) = found
            assert same == twin
            assert (century, digits) != (other_century, other_digits)
            if builder.corruption == "01":
                assert (other_century, other_digits) == (century, "01")
            answers = tokenizer.convert_ids_to_tokens(pairs.answers[prompt, :2].tolist())
            assert "".join(answers) == digits
            assert 1 <= int(digits) <= 98
            assert set(pairs.answers[prompt, 1:].tolist()) == {int(pairs.answers[prompt, 1])}


def test_splits_differ_in_the_two_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    task = GREATER_THAN.build(None, tokenizer, seed=0, sizes=SMALL)
    seen = [set(map(tuple, pairs.answers[:, :2].tolist())) for pairs in splits(task)]
    assert sum(map(len, seen)) == len(set().union(*seen))


@pytest.mark.slow
def test_the_hundred_years_have_the_probabilities_of_hugging_face_s_continuations(
    stories: Path,
) -> None:
    """p(first digit) · p(second digit | first), from eleven runs of the model for each prompt."""
    tokenizer = tokenizer_in(stories)
    hf = AutoModelForCausalLM.from_pretrained(stories).eval()
    model = MaskedTransformer(hf)
    task = GREATER_THAN.build(model, tokenizer, seed=0, sizes=SMALL)
    pairs: PromptPairs = task.test[:2]
    full = Circuit(model.graph.legal, model.graph)
    names = ("probability_difference", "near_probability_difference")
    metrics = {name: task.metrics[name] for name in names}
    found = evaluate(model, pairs, [full], metrics=metrics, ablation="zero")
    digits = [encode(tokenizer, [f"a 1{digit}"])[0][-1] for digit in range(10)]
    assert pairs.forks is not None
    for prompt, fork in enumerate(pairs.forks.tolist()):
        text = str(tokenizer.decode(pairs.clean[prompt, :fork], skip_special_tokens=True))
        with torch.no_grad():
            first, *second = (
                hf(torch.tensor([ids])).logits[0, -1, digits].double().softmax(-1)
                for ids in encode(tokenizer, [text, *(f"{text}{digit}" for digit in range(10))])
            )
        years = (first[:, None] * torch.stack(second)).flatten()
        assert years.sum().item() == pytest.approx(1)
        year = int(read(text)[3])
        difference = years[year + 1 :].sum() - years[:year].sum()
        near = years[year + 1 : year + 11].sum() - years[max(0, year - 10) : year].sum()
        for name, expected in zip(names, (difference, near), strict=True):
            assert found[name][0, prompt].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(("split", "kind"), [(2, Years), (1, YearsByDigit)])
def test_with_tokens_for_both_the_tokenizer_s_own_way_of_splitting_counts(
    split: int, kind: type[Years]
) -> None:
    task = GREATER_THAN.build(None, toy(split, 1, 2), seed=0, sizes=SMALL)
    assert type(measures(task)) is kind
    assert (task.test.forks is None) == (split == 2)
    alike = GREATER_THAN.build(None, toy(split), seed=0, sizes=SMALL)
    assert [text_of(toy(split, 1, 2), row) for row in task.test.clean.tolist()] == [
        text_of(toy(split), row) for row in alike.test.clean.tolist()
    ]


def test_gpt2_has_both_and_keeps_its_pairs(gpt2_tokenizer: PreTrainedTokenizerBase) -> None:
    assert {*"0123456789", *DIGITS} <= set(gpt2_tokenizer.get_vocab())
    task = GREATER_THAN.build(None, gpt2_tokenizer, seed=0, sizes=SMALL)
    assert type(measures(task)) is Years
    assert task.test.targets.shape[1] == 1
    assert task.test.forks is None


def test_a_tokenizer_without_a_token_for_some_digit_is_refused() -> None:
    tokenizer = word_tokenizer([*SENTENCES, *NOUNS], split=1, without=["7"])
    with pytest.raises(ValueError, match="no year from 1000 to 2199 is two tokens"):
        GREATER_THAN.build(None, tokenizer, seed=0)
