"""Prompts from templates: one-token words, checked in their place, and token ids put together.

A template is a sentence with slots: `"At the {place}, {name} saw {name}"`. It is tokenised once,
with stand-in words; a word is *usable* when, in every sentence, the tokenizer gives exactly the
template's ids with the word's one id at its slots. Prompts are then put together from ids alone,
so that 100,000 of them need no more tokenising than ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

WordIds = dict[str, dict[str, int]]
"""Slot -> word -> token id."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """A sentence's token ids; `positions` says where each slot's words stand, in text order."""

    tokens: Int[Tensor, " position"]
    positions: Mapping[str, Int[Tensor, " slot"]]

    def filled(self, columns: Mapping[str, Int[Tensor, "prompt _"]]) -> Int[Tensor, "prompt _"]:
        """One prompt per row; a slot has one column for all its places, or one for each."""
        rows = self.tokens.repeat(len(next(iter(columns.values()))), 1)
        for slot, ids in columns.items():
            rows[:, self.positions[slot]] = ids
        return rows


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids as the model expects them, with a BOS where the tokenizer adds one."""
    encoding: Any = tokenizer(list(texts))
    return encoding["input_ids"]


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    candidates: Mapping[str, Sequence[str]],
    *,
    needed: Mapping[str, int],
) -> tuple[dict[str, Pattern], WordIds]:
    """The pattern of each sentence, and those candidates that are usable in all of them.

    `needed` is the least number of usable words per slot, 2 or more. Raises ValueError where there
    are fewer, and where the tokenizer does not know the other words of a sentence.
    """
    ids = {slot: _single_tokens(tokenizer, words) for slot, words in candidates.items()}
    _check_enough(tokenizer, ids, needed)
    patterns = {sentence: _pattern(tokenizer, sentence, ids) for sentence in sentences}
    usable = {slot: _usable(tokenizer, patterns, ids, slot) for slot in ids}
    _check_enough(tokenizer, usable, needed)
    return patterns, usable


def _single_tokens(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> dict[str, int]:
    """The words that add one known token to a text, and which; of two with one id, the first."""
    before, *after = encode(tokenizer, ["a", *(f"a {word}" for word in words)])
    found: dict[int, str] = {}
    for word, tokens in zip(words, after, strict=True):
        if tokens[:-1] == before and tokens[-1] != tokenizer.unk_token_id:
            found.setdefault(tokens[-1], word)
    return {word: token for token, word in found.items()}


def _pattern(tokenizer: PreTrainedTokenizerBase, sentence: str, ids: WordIds) -> Pattern:
    """Two fillings with words of one token each differ exactly at the slots."""
    fillings = [{slot: list(words)[k] for slot, words in ids.items()} for k in (0, 1)]
    empty, tokens, other = encode(tokenizer, ["", *(sentence.format(**f) for f in fillings)])
    # Where BOS and the unknown token are one, the BOS of an empty text is no unknown word.
    unknown = [[token == tokenizer.unk_token_id for token in row] for row in (empty, tokens)]
    if sum(unknown[1]) > sum(unknown[0]):
        raise ValueError(
            f"{_name(tokenizer)}: the tokenizer does not know every word of {sentence!r}"
        )
    slots = [slot for _, slot, _, _ in Formatter().parse(sentence) if slot]
    places = [k for k, (a, b) in enumerate(zip(tokens, other, strict=False)) if a != b]
    if len(tokens) != len(other) or len(places) != len(slots):
        raise ValueError(
            f"{_name(tokenizer)}: {sentence!r} filled with {fillings[0]} and with {fillings[1]} "
            f"gives {len(tokens)} and {len(other)} tokens that differ in {len(places)} places; "
            f"expected equal numbers, different in {len(slots)}"
        )
    positions = {
        slot: torch.tensor([k for k, at in zip(places, slots, strict=True) if at == slot])
        for slot in dict.fromkeys(slots)
    }
    return Pattern(torch.tensor(tokens), positions)


def _usable(
    tokenizer: PreTrainedTokenizerBase, patterns: Mapping[str, Pattern], ids: WordIds, slot: str
) -> dict[str, int]:
    """The words of a slot for which every sentence's assembled ids are the tokenizer's own."""
    usable = dict(ids[slot])
    for sentence, pattern in patterns.items():
        if slot not in pattern.positions:
            continue
        words = list(usable)
        stand_ins = {other: next(iter(known)) for other, known in ids.items()}
        texts = [sentence.format(**{**stand_ins, slot: word}) for word in words]
        assembled = pattern.filled({slot: torch.tensor([[usable[word]] for word in words])})
        for word, expected, tokens in zip(
            words, assembled.tolist(), encode(tokenizer, texts), strict=True
        ):
            if tokens != expected:
                del usable[word]
    return usable


def _check_enough(
    tokenizer: PreTrainedTokenizerBase, ids: WordIds, needed: Mapping[str, int]
) -> None:
    for slot, least in needed.items():
        if len(ids[slot]) < least:
            raise ValueError(
                f"{_name(tokenizer)}: found {len(ids[slot])} words for {slot!r} that are one token "
                f"in their place; {least} are needed"
            )


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or type(tokenizer).__name__
