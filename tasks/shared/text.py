"""Prompts from templates, assembled from token ids.

A template is a sentence with slots: `"At the {place}, {name} saw {name}"`. It is tokenised once,
with stand-in words. A word is *usable* if the tokenizer gives, for every sentence, exactly the
template's ids with the word's ids in its slots. A word is one token, unless its slot asks for more.
Prompts are assembled from ids alone, so 100,000 of them need no more tokenising than ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from edgewise.task import Sizes, TooFewPrompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WordIds = dict[str, dict[str, tuple[int, ...]]]
"""Slot -> word -> token ids."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """A sentence's token ids; `positions` gives those of each slot's tokens, in text order."""

    tokens: Int[Tensor, " position"]
    positions: Mapping[str, Int[Tensor, " slot"]]

    def filled(self, columns: Mapping[str, Int[Tensor, "prompt _"]]) -> Int[Tensor, "prompt _"]:
        """One prompt per row; a slot has one column of ids for all its places, or one for each."""
        rows = self.tokens.repeat(len(next(iter(columns.values()))), 1)
        for slot, ids in columns.items():
            rows[:, self.positions[slot]] = ids
        return rows


@dataclass(frozen=True)
class Vocabulary:
    """The token ids that a tokenizer gives prompts and words."""

    patterns: Mapping[str, Pattern]
    words: WordIds

    def ids(self, slot: str) -> Int[Tensor, "word token"]:
        return torch.tensor(list(self.words[slot].values()))


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids as the model expects them, with a BOS where the tokenizer adds one."""
    encoding: Any = tokenizer(list(texts), return_attention_mask=False, return_token_type_ids=False)
    return encoding["input_ids"]


def tokenise(
    tokenizer: "PreTrainedTokenizerBase",
    sentences: Sequence[str],
    candidates: Mapping[str, Sequence[str]],
    *,
    needed: Mapping[str, int],
    widths: Mapping[str, int] | None = None,
    leads: Mapping[str, int] | None = None,
) -> Vocabulary:
    """The pattern of each sentence, and those candidates that are usable in all of them.

    `needed` is the least number of usable words per slot, 2 or more. `widths` is the number of
    tokens of a word, where it is not 1. `leads` is the number of tokens that precede every word of
    a slot and belong to the sentence, such as a separate space, where it is not 0. Raises
    ValueError where too few words are usable, and where the tokenizer does not know the other words
    of a sentence.
    """
    widths = {slot: (widths or {}).get(slot, 1) for slot in candidates}
    ids = {
        slot: _known(tokenizer, words, widths[slot], (leads or {}).get(slot, 0))
        for slot, words in candidates.items()
    }
    _check_enough(tokenizer, ids, needed, widths)
    patterns = {sentence: _pattern(tokenizer, sentence, ids, widths) for sentence in sentences}
    usable = {slot: _usable(tokenizer, patterns, ids, slot) for slot in ids}
    _check_enough(tokenizer, usable, needed, widths)
    return Vocabulary(patterns, usable)


def tokenise_answered(
    tokenizer: "PreTrainedTokenizerBase",
    answered: Mapping[str, str],
    candidates: Mapping[str, Sequence[str]],
    *,
    needed: Mapping[str, int],
    widths: Mapping[str, int] | None = None,
    leads: Mapping[str, int] | None = None,
    answer_width: int = 1,
) -> Vocabulary:
    """`tokenise` for prompts with answers: `answered` maps a prompt to both together.

    An answer is `answer_width` tokens. Words are checked with and without it. Raises ValueError
    where the answer changes the tokens before it.
    """
    sentences = [*answered, *answered.values()]
    vocabulary = tokenise(
        tokenizer, sentences, candidates, needed=needed, widths=widths, leads=leads
    )
    patterns = vocabulary.patterns
    for prompt, sentence in answered.items():
        if not torch.equal(patterns[prompt].tokens, patterns[sentence].tokens[:-answer_width]):
            raise ValueError(
                f"the tokenizer gives {prompt!r} other tokens alone than before its answer"
            )
    return Vocabulary({prompt: patterns[prompt] for prompt in answered}, vocabulary.words)


def counts(asked: Sizes | None, *, test: int, validation: int, train: int) -> dict[str, int]:
    """How many prompts of each kind to draw: the numbers asked for, or else these defaults.

    Training prompts are drawn last, so that their number does not change the others. Raises
    ValueError where fewer than one is asked for.
    """
    numbers = {"test": test, "validation": validation, "train": train}
    for kind in numbers:
        given = getattr(asked, kind, None)
        numbers[kind] = numbers[kind] if given is None else given
    if min(numbers.values()) < 1:
        raise ValueError(f"{numbers} prompts asked for; expected at least 1 of each kind")
    return numbers


def draw(
    choices: Mapping[str, int],
    numbers: Mapping[str, int],
    generator: Generator,
    *,
    strata: int = 1,
) -> dict[str, tuple[Int[Tensor, " prompt"], ...]]:
    """Disjoint sets of distinct combinations, drawn uniformly: per kind, an index per choice.

    A larger last set begins with the smaller one. If `strata` is the number of values of the first
    choice, these values alternate, so that each has an equal share of every set. Raises
    TooFewPrompts where there are too few combinations.
    """
    sizes = tuple(choices.values())
    available, asked = torch.Size(sizes).numel(), sum(numbers.values())
    if asked > available:
        raise TooFewPrompts(
            f"{asked:,} prompts asked for ({', '.join(f'{k} {n:,}' for k, n in numbers.items())}), "
            f"but {' × '.join(choices)} make only {available:,} ({' × '.join(map(str, sizes))})",
            numbers,
            available,
        )
    share = available // strata
    orders = [torch.randperm(share, generator=generator) + k * share for k in range(strata)]
    drawn = torch.stack(orders, dim=1).flatten()[:asked]
    return {
        kind: torch.unravel_index(part, sizes)
        for kind, part in zip(numbers, drawn.split(list(numbers.values())), strict=True)
    }


def fill(
    patterns: Sequence[Pattern],
    which: Int[Tensor, " prompt"],
    columns: Mapping[str, Int[Tensor, "prompt _"]],
) -> tuple[Int[Tensor, "prompt position"], Int[Tensor, " prompt"]]:
    """Prompts of these patterns with these ids in the slots, right-padded, and their lengths."""
    widths = torch.tensor([len(pattern.tokens) for pattern in patterns])
    tokens = torch.zeros(len(which), int(widths.max()), dtype=torch.long)
    for k, pattern in enumerate(patterns):
        rows = torch.nonzero(which == k).squeeze(1)
        filled = pattern.filled({slot: ids[rows] for slot, ids in columns.items()})
        tokens[rows, : filled.shape[1]] = filled
    return tokens, widths[which]


def tokenizer_name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return tokenizer.name_or_path or type(tokenizer).__name__


def _known(
    tokenizer: "PreTrainedTokenizerBase", words: Sequence[str], width: int, lead: int
) -> dict[str, tuple[int, ...]]:
    """The words that add `width` known tokens, after `lead` others, to a text.

    Of words with the same ids, only the first is kept.
    """
    before, *after = encode(tokenizer, ["a", *(f"a {word}" for word in words)])
    found: dict[tuple[int, ...], str] = {}
    for word, tokens in zip(words, after, strict=True):
        start, ids = tokens[: len(before)], tuple(tokens[len(before) + lead :])
        if start == before and len(ids) == width and tokenizer.unk_token_id not in ids:
            found.setdefault(ids, word)
    return {word: ids for ids, word in found.items()}


def _pattern(
    tokenizer: "PreTrainedTokenizerBase", sentence: str, ids: WordIds, widths: Mapping[str, int]
) -> Pattern:
    """Finds the slots: fillings with words that differ in every token differ exactly there."""
    pairs = {slot: _stand_ins(words) for slot, words in ids.items()}
    fillings = [{slot: pair[k] for slot, pair in pairs.items()} for k in (0, 1)]
    empty, tokens, other = encode(tokenizer, ["", *(sentence.format(**f) for f in fillings)])
    # BOS and the unknown token may be the same: then a BOS is not counted as an unknown word.
    unknown = [[token == tokenizer.unk_token_id for token in row] for row in (empty, tokens)]
    if sum(unknown[1]) > sum(unknown[0]):
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: the tokenizer does not know every word of {sentence!r}"
        )
    slots = [
        slot for _, slot, _, _ in Formatter().parse(sentence) if slot for _ in range(widths[slot])
    ]
    places = [k for k, (a, b) in enumerate(zip(tokens, other, strict=False)) if a != b]
    if len(tokens) != len(other) or len(places) != len(slots):
        raise ValueError(
            f"{tokenizer_name(tokenizer)}: {sentence!r} filled with {fillings[0]} and with "
            f"{fillings[1]} gives {len(tokens)} and {len(other)} tokens that differ in "
            f"{len(places)} places; expected equal numbers, different in {len(slots)}"
        )
    positions = {
        slot: torch.tensor([k for k, at in zip(places, slots, strict=True) if at == slot])
        for slot in dict.fromkeys(slots)
    }
    return Pattern(torch.tensor(tokens), positions)


def _stand_ins(words: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    """The first word, and the first that differs from it in every token."""
    first, *others = words
    for other in others:
        if all(a != b for a, b in zip(words[first], words[other], strict=True)):
            return first, other
    raise ValueError(f"no word differs from {first!r} in every token; expected one of {others}")


def _usable(
    tokenizer: "PreTrainedTokenizerBase", patterns: Mapping[str, Pattern], ids: WordIds, slot: str
) -> dict[str, tuple[int, ...]]:
    """The words of a slot with which every sentence's assembled ids equal the tokenizer's."""
    usable = dict(ids[slot])
    stand_ins = {other: next(iter(known)) for other, known in ids.items()}
    for sentence, pattern in patterns.items():
        if slot not in pattern.positions:
            continue
        words = list(usable)
        texts = [sentence.format(**{**stand_ins, slot: word}) for word in words]
        chosen = torch.tensor([usable[word] for word in words])
        places = len(pattern.positions[slot]) // chosen.shape[1]
        assembled = pattern.filled({slot: chosen.repeat(1, places)})
        for word, expected, tokens in zip(
            words, assembled.tolist(), encode(tokenizer, texts), strict=True
        ):
            if tokens != expected:
                del usable[word]
    return usable


def _check_enough(
    tokenizer: "PreTrainedTokenizerBase",
    ids: WordIds,
    needed: Mapping[str, int],
    widths: Mapping[str, int],
) -> None:
    for slot, least in needed.items():
        if len(ids[slot]) < least:
            tokens = "one token" if widths[slot] == 1 else f"{widths[slot]} tokens"
            raise ValueError(
                f"{tokenizer_name(tokenizer)}: found {len(ids[slot])} words for {slot!r} that are "
                f"{tokens} in their place; {least} are needed"
            )
