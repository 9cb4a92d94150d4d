"""Prompt pairs: how they are sliced, batched and checked."""

from typing import Any

import pytest
import torch

from edgewise.prompts import PromptPairs
from tests.models import random_pairs

LENGTHS = [5, 7, 4, 7, 6, 3, 5]


@pytest.mark.parametrize(
    "index", [torch.tensor([4, 0, 0]), slice(2, 5), torch.tensor([5])], ids=str
)
def test_chosen_pairs_are_cut_to_the_longest_of_them(index: Any) -> None:
    pairs = random_pairs(LENGTHS)
    chosen = pairs[index]
    width = int(pairs.lengths[index].max())
    assert torch.equal(chosen.clean, pairs.clean[index][:, :width])
    assert torch.equal(chosen.corrupted, pairs.corrupted[index][:, :width])
    for name in ("lengths", "targets", "answers", "distractors"):
        assert torch.equal(getattr(chosen, name), getattr(pairs, name)[index])


@pytest.mark.parametrize("max_tokens", [1, 14, 15, 21, 1000])
def test_batches_hold_every_pair_once_sorted_and_within_the_limit(max_tokens: int) -> None:
    pairs = random_pairs(LENGTHS)
    batches = list(pairs.batches(max_tokens))
    everyone = torch.cat(batches)
    assert sorted(everyone.tolist()) == list(range(len(pairs)))
    assert pairs.lengths[everyone].tolist() == sorted(LENGTHS)
    for number, batch in enumerate(batches):
        padded = len(batch) * int(pairs.lengths[batch].max())
        assert padded <= max_tokens or len(batch) == 1
        if number + 1 < len(batches):  # and no batch could have held one more
            longer = int(pairs.lengths[batches[number + 1][0]])
            assert (len(batch) + 1) * longer > max_tokens


def test_a_clean_prompts_hash_is_of_its_own_tokens_alone() -> None:
    pairs = random_pairs(LENGTHS)
    every = pairs.clean_hashes()
    assert len(set(every)) == len(LENGTHS)
    assert pairs[slice(2, 3)].clean_hashes() == every[2:3], "padding does not count"


def test_pairs_without_distractors_are_moved_and_chosen_too() -> None:
    pairs = random_pairs(LENGTHS)
    plain = PromptPairs(pairs.clean, pairs.corrupted, pairs.lengths, pairs.targets, pairs.answers)
    moved = plain[torch.tensor([1, 2])].to(torch.device("cpu"))
    assert moved.distractors is None and len(moved) == 2


def test_prompts_that_are_no_pairs_are_errors(unchecked: None) -> None:
    pairs = random_pairs(LENGTHS)
    rest = (pairs.lengths, pairs.targets, pairs.answers)
    with pytest.raises(ValueError, match=r"\(7, 7\) and corrupted ones \(7, 6\); expected equal"):
        PromptPairs(pairs.clean, pairs.corrupted[:, :6], *rest)
    empty = [tensor[:0] for tensor in rest]
    with pytest.raises(ValueError, match="expected at least one pair"):
        PromptPairs(pairs.clean[:0], pairs.corrupted[:0], *empty)


@pytest.mark.parametrize("position", [-1, 5])
def test_targets_outside_their_prompt_are_errors(position: int) -> None:
    pairs = random_pairs(LENGTHS)
    targets = pairs.targets.clone()
    targets[0, 0] = position
    with pytest.raises(ValueError, match="a target position lies outside its prompt"):
        PromptPairs(pairs.clean, pairs.corrupted, pairs.lengths, targets, pairs.answers)
