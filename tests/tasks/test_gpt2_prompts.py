"""Ten thousand training prompts with GPT-2's own tokenizer, over ten seeds, against the rules."""

import re
from functools import cache

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from edgewise.task import Sizes, Task
from tasks import TASKS, gendered_pronoun, greater_than, ioi
from tasks.shared.text import encode
from tests.tasks.test_ioi import distinct, splits, texts, unpadded

pytestmark = pytest.mark.slow

NAMES = ["ioi", "ioi-t1", "greater-than", "greater-than-01", "gendered-pronoun"]
TRAIN = 10_000
EVERY = 500
YEAR = re.compile(r" (1\d|2[01])\d\d")


@pytest.fixture(scope="module", params=NAMES)
def tasks(
    request: pytest.FixtureRequest, gpt2_tokenizer: PreTrainedTokenizerBase
) -> dict[int, Task]:
    """The same task for ten seeds; what the tokenizer makes of the words is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ioi, greater_than, gendered_pronoun):
            patch.setattr(module, "read_vocabulary", cache(module.read_vocabulary))
        return {
            seed: TASKS[request.param].build(
                None,  # pyright: ignore[reportArgumentType]
                gpt2_tokenizer,
                seed=seed,
                sizes=Sizes(train=TRAIN),
            )
            for seed in range(10)
        }


def test_all_prompts_are_there_and_no_prompt_is_there_twice(tasks: dict[int, Task]) -> None:
    for task in tasks.values():
        assert len(task.train) == TRAIN
        assert distinct(task) == sum(map(len, splits(task)))


def test_a_prompt_and_its_twin_are_tokenised_right_and_equally_long(
    tasks: dict[int, Task], gpt2_tokenizer: PreTrainedTokenizerBase
) -> None:
    for task in tasks.values():
        for pairs in splits(task):
            some = pairs[::EVERY]
            for tokens in (some.clean, some.corrupted):
                ids = unpadded(tokens, some)
                assert encode(gpt2_tokenizer, texts(gpt2_tokenizer, ids)) == ids
            for tokens in (pairs.clean, pairs.corrupted):
                # Padding is token 0, "!", which ends no prompt.
                beyond = torch.arange(tokens.shape[1]) >= pairs.lengths[:, None]
                assert not tokens[beyond].any()
                assert (tokens.gather(1, pairs.lengths[:, None] - 1) != 0).all()


def test_twins_differ_in_names_or_years_of_as_many_tokens(tasks: dict[int, Task]) -> None:
    allowed = {"ioi": {3}, "ioi-t1": {3}, "gendered-pronoun": {1}, "greater-than-01": {1}}
    for task in tasks.values():
        for pairs in splits(task):
            counts = set((pairs.clean != pairs.corrupted).sum(1).tolist())
            # Of a year the century, at both its places, the two digits, or all three change.
            assert counts <= allowed.get(task.name, {1, 2, 3})


def test_the_answer_is_one_token_after_the_prompt_or_two_digits_in_it(
    tasks: dict[int, Task], gpt2_tokenizer: PreTrainedTokenizerBase
) -> None:
    for task in tasks.values():
        for pairs in splits(task):
            some = pairs[::EVERY]
            ids, answers = unpadded(some.clean, some), some.answers.tolist()
            answered = [[*row, *answer] for row, answer in zip(ids, answers, strict=True)]
            if task.name.startswith("greater-than"):
                for row in answered:
                    assert row[-2:] in [row[k : k + 2] for k in range(len(row) - 2)]
                    assert YEAR.fullmatch(str(gpt2_tokenizer.decode(row[-2:])))
            else:
                assert encode(gpt2_tokenizer, texts(gpt2_tokenizer, answered)) == answered


def test_two_digits_of_one_split_are_in_no_other(tasks: dict[int, Task]) -> None:
    for task in tasks.values():
        if task.name.startswith("greater-than"):
            years = [set(pairs.answers.flatten().tolist()) for pairs in splits(task)]
            assert sum(map(len, years)) == len(set().union(*years))
