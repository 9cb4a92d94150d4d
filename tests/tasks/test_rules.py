"""Tasks with every tokenizer at hand: over ten seeds, all prompts obey the rules.

A tokenizer that a task cannot use is refused in one line, and `WORKS` says which it can use.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edgewise.pretrained import load_tokenizer
from edgewise.task import Sizes, Task
from tasks import TASKS, gendered_pronoun, ioi
from tasks.ioi import IOI, IOI_COUNTERFACTUALS
from tasks.models.bundled import FOLDER
from tasks.shared.text import encode
from tests.tasks.test_ioi import distinct, splits, texts, unpadded
from tests.tasks.tokenizers import MADE

TOKENIZERS = [*MADE, "bundled", "gpt2", "llama"]
KNOWING = {"words", "bytes", "pieces", "gpt2", "llama"}
"""Those that know most words as one token each."""
SIZES = Sizes(train=16, validation=8, test=16)
SEEDS = range(10)
CHANGED = {
    "ioi": {3},
    "ioi-t1": {3},
    "gendered-pronoun": {1},
    "boolean-instruction": {*range(1, 7)},
    "boolean-few-shot": {*range(1, 7)},
    **{task.name: {3} for task in IOI_COUNTERFACTUALS},
    "ioi-s1-io-flip": {2},
    "ioi-s2-io-flip": {1},
    "ioi-abc": {1},
    "subject-verb-agreement": {1},
    "mcqa": {4},
    "mcqa-position": {2},
    "arithmetic-addition": {1, 2},
    "arithmetic-subtraction": {1, 2},
    "docstring": {8},
}
"""In how many positions a prompt and its twin differ."""
WORKS = {
    "subject-verb-agreement": KNOWING,
    "mcqa": KNOWING,
    "mcqa-position": KNOWING,
    "arithmetic-addition": {*KNOWING, "characters"},
    "arithmetic-subtraction": {*KNOWING, "characters"},
    "docstring": KNOWING,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    match request.param:
        case "bundled":
            found: Any = load_tokenizer(FOLDER)
        case "gpt2":
            found = request.getfixturevalue("gpt2_tokenizer")
        case "llama":
            found = AutoTokenizer.from_pretrained(request.getfixturevalue("stories"))
        case kind:
            found = MADE[kind]()
    found.name_or_path = request.param
    return found


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """What a tokenizer makes of hundreds of words is found out once, not for every seed."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ioi, gendered_pronoun):
            patch.setattr(module, "read_vocabulary", cache(module.read_vocabulary))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_prompts_obey_the_rules(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    check_all([name], tokenizer, WORKS[name])


EARLIER = {
    "ioi-t1": {*KNOWING, "bundled"},
    "ioi and its counterfactuals": {*KNOWING, "bundled"},
    "gendered-pronoun": {*KNOWING, "bundled"},
    "boolean-instruction": KNOWING,
    "boolean-few-shot": KNOWING,
}
"""As WORKS, for tasks that draw from millions of prompts, or that check hundreds of words in many
sentences."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EARLIER)
def test_prompts_of_large_tasks_obey_the_rules(
    name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """IOI and its counterfactuals have the same clean prompts, so they take turns."""
    turns = [name] if name in TASKS else [task.name for task in (IOI, *IOI_COUNTERFACTUALS)]
    check_all(turns, tokenizer, EARLIER[name])


def check_all(
    names: Sequence[str], tokenizer: PreTrainedTokenizerBase, works: Collection[str]
) -> None:
    """The tasks take turns over the seeds."""
    if tokenizer.name_or_path not in works:
        with pytest.raises(ValueError) as error:
            build(names[0], tokenizer, 0)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(f"{tokenizer.name_or_path}: ")
        return
    for seed in SEEDS:
        name = names[seed % len(names)]
        check(build(name, tokenizer, seed), tokenizer, CHANGED[name])


def build(name: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> Task:
    unused: Any = None
    return TASKS[name].build(unused, tokenizer, seed=seed, sizes=SIZES)


def check(task: Task, tokenizer: PreTrainedTokenizerBase, changed: set[int]) -> None:
    assert [len(pairs) for pairs in splits(task)] == [SIZES.train, SIZES.validation, SIZES.test]
    assert distinct(task) == sum(map(len, splits(task)))
    for pairs in splits(task):
        assert set((pairs.clean != pairs.corrupted).sum(1).tolist()) <= changed
        assert torch.equal(pairs.targets, pairs.lengths[:, None] - 1)
        clean, corrupted = unpadded(pairs.clean, pairs), unpadded(pairs.corrupted, pairs)
        for ids in (clean, corrupted):
            assert encode(tokenizer, texts(tokenizer, ids)) == ids
        words = [pairs.answers] if pairs.distractors is None else [pairs.answers, pairs.distractors]
        assert len(words) == 1 or (pairs.answers != pairs.distractors).all()
        for tokens in words:
            whole = [[*row, *token] for row, token in zip(clean, tokens.tolist(), strict=True)]
            assert encode(tokenizer, texts(tokenizer, whole)) == whole
