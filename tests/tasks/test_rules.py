"""Every task with every tokenizer at hand: over ten seeds, all prompts obey the rules.

A tokenizer that a task cannot use is refused in one line, and `WORKS` says which it can use.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edgewise.pretrained import load_tokenizer
from edgewise.task import Sizes, Task
from tasks import TASKS, gendered_pronoun, greater_than, ioi
from tasks.ioi import IOI_COUNTERFACTUALS
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
        for module in (ioi, greater_than, gendered_pronoun):
            patch.setattr(module, "read_vocabulary", cache(module.read_vocabulary))
        yield


@pytest.mark.parametrize("name", WORKS)
def test_prompts_obey_the_rules(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.name_or_path not in WORKS[name]:
        with pytest.raises(ValueError) as error:
            build(name, tokenizer, 0)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(f"{tokenizer.name_or_path}: ")
        return
    for seed in SEEDS:
        check(build(name, tokenizer, seed), tokenizer, CHANGED[name])


@pytest.mark.slow
def test_counterfactuals_of_ioi_obey_the_rules(tokenizer: PreTrainedTokenizerBase) -> None:
    """They differ in the twins alone, and draw from millions of prompts: each takes its turn."""
    if tokenizer.name_or_path == "characters":
        with pytest.raises(ValueError, match="characters: found 0 words for 'name'"):
            build("ioi-abc", tokenizer, 0)
        return
    for seed in SEEDS:
        name = IOI_COUNTERFACTUALS[seed % len(IOI_COUNTERFACTUALS)].name
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
