"""The RASP programs of the Tracr tasks, with their vocabularies and lengths of prompts.

A program is made from RASP's primitives (Weiss, Goldberg & Yahav, ICML 2021) only when it is asked
for, because importing Tracr takes time. The first two are those of the Edge Pruning paper (Bhaskar
et al., NeurIPS 2024). The others are our own: counting, sorting, nested counts and balance, as in
the RASP paper, and a lookup that takes two heads. They are made for prompts of LENGTH tokens, so
that there are few possible prompts. Tracr compiles only selections by a single key, so where two
conditions have to hold, the key is a pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracr.rasp.rasp import SOp

LENGTH = 4
"""The length of all prompts of our own programs, without BOS."""


@dataclass(frozen=True)
class Program:
    """A program and its prompts: BOS and `length` tokens of `vocab`, in every combination.

    `max_seq_len` is the longest prompt, without BOS, that it is compiled for; it sets the model's
    size.
    """

    name: str
    make: Callable[[], "SOp"]
    vocab: tuple[str, ...]
    length: int
    max_seq_len: int


def reverse() -> "SOp":
    """The tokens in reverse: each position takes the token at length − index − 1."""
    rasp = _rasp()

    everywhere = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)
    length = rasp.SelectorWidth(everywhere).named("length")
    from_end = (length - rasp.indices).named("from_end")
    opposite = (from_end - 1).named("opposite")
    there = rasp.Select(rasp.indices, opposite, rasp.Comparison.EQ)
    return rasp.Aggregate(there, rasp.tokens).named("reverse")


def xproportion() -> "SOp":
    """The share of x among the tokens so far."""
    rasp = _rasp()

    is_x = rasp.numerical(rasp.tokens == "x").named("is_x")
    so_far = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LEQ)
    return rasp.numerical(rasp.Aggregate(so_far, is_x, default=0)).named("xproportion")


def histogram() -> "SOp":
    """How often each position's token occurs in the prompt."""
    rasp = _rasp()

    return _count(rasp.tokens, rasp.tokens, rasp.Comparison.EQ).named("histogram")


def double_histogram() -> "SOp":
    """For each position's token, how many different tokens occur equally often."""
    rasp = _rasp()

    often = histogram()
    first = rasp.SequenceMap(lambda n, before: 0 if before else n, often, _earlier())
    return _count(first, often, rasp.Comparison.EQ).named("double_histogram")


def majority() -> "SOp":
    """Whether the prompt has more x than y, at every position."""
    rasp = _rasp()

    xs, ys = (
        _count(rasp.tokens, rasp.tokens, lambda key, _, letter=letter: key == letter)
        for letter in "xy"
    )
    return rasp.SequenceMap(lambda x, y: x > y, xs, ys).named("majority")


def sort() -> "SOp":
    """The tokens in ascending order."""
    rasp = _rasp()

    placed = _placed()
    rank = _count(placed, placed, rasp.Comparison.LT).named("rank")
    return _take(rank, rasp.indices, rasp.Comparison.EQ, rasp.tokens).named("sort")


def sort_by_frequency() -> "SOp":
    """The tokens from the most to the least frequent; equally frequent ones keep their order."""
    rasp = _rasp()

    rarity = rasp.SequenceMap(lambda n, index: (-n, index), histogram(), rasp.indices)
    rank = _count(rarity, rarity, rasp.Comparison.LT).named("rank")
    return _take(rank, rasp.indices, rasp.Comparison.EQ, rasp.tokens).named("sort_by_frequency")


def local_maximum() -> "SOp":
    """Whether each position's token is larger than both neighbours; the prompt is a ring."""
    rasp = _rasp()

    above_left, above_right = (
        rasp.SequenceMap(lambda own, other: own > other, rasp.tokens, _neighbour(step, rasp.tokens))
        for step in (-1, 1)
    )
    both = rasp.SequenceMap(lambda left, right: left and right, above_left, above_right)
    return both.named("local_maximum")


def palindrome() -> "SOp":
    """Whether the prompt reads the same backwards, at every position."""
    rasp = _rasp()

    opposite = _take(
        rasp.indices, rasp.indices, lambda key, query: key + query == LENGTH - 1, rasp.tokens
    )
    differs = rasp.SequenceMap(lambda own, other: own != other, rasp.tokens, opposite)
    differences = _count(differs, differs, lambda key, _: key)
    return rasp.Map(lambda n: n == 0, differences).named("palindrome")


def induction() -> "SOp":
    """The token after the first occurrence of each position's token; the prompt is a ring."""
    rasp = _rasp()

    first = rasp.SequenceMap(lambda own, n: "" if n else own, rasp.tokens, _earlier())
    previous = _neighbour(-1, first).named("previous")
    return _take(previous, rasp.tokens, rasp.Comparison.EQ, rasp.tokens).named("induction")


def bigram() -> "SOp":
    """The share of x among the tokens that follow each position's token; the prompt is a ring."""
    rasp = _rasp()

    is_x = rasp.numerical(rasp.tokens == "x").named("is_x")
    previous = _neighbour(-1, rasp.tokens).named("previous")
    after = rasp.Select(previous, rasp.tokens, rasp.Comparison.EQ)
    return rasp.numerical(rasp.Aggregate(after, is_x, default=0)).named("bigram")


def balance() -> "SOp":
    """Whether the prompt's parentheses are balanced, at every position (shuffle-Dyck-1)."""
    rasp = _rasp()

    placed = _placed()
    opened, closed = (
        _count(
            placed, rasp.indices, lambda key, query, kind=kind: key[0] == kind and key[1] <= query
        )
        for kind in "()"
    )
    depth = rasp.SequenceMap(lambda opens, closes: opens - closes, opened, closed).named("depth")
    below = _count(depth, depth, lambda key, _: key < 0).named("below")
    final = _take(rasp.indices, rasp.indices, lambda key, _: key == LENGTH - 1, depth)
    return rasp.SequenceMap(lambda n, end: n == end == 0, below, final).named("balance")


def _rasp() -> Any:
    """RASP's primitives, untyped: their types allow no pairs and do not say what is a number."""
    from tracr.rasp import rasp

    return rasp


def _placed() -> "SOp":
    """Each token paired with its index. All pairs differ, and they sort by token first."""
    rasp = _rasp()

    return rasp.SequenceMap(lambda token, index: (token, index), rasp.tokens, rasp.indices)


def _earlier() -> "SOp":
    """How often each position's token occurs before it."""
    placed = _placed()
    return _count(placed, placed, lambda key, query: key[0] == query[0] and key[1] < query[1])


def _count(keys: "SOp", queries: "SOp", predicate: Callable[[Any, Any], Any]) -> "SOp":
    rasp = _rasp()

    return rasp.SelectorWidth(rasp.Select(keys, queries, predicate))


def _take(
    keys: "SOp", queries: "SOp", predicate: Callable[[Any, Any], Any], values: "SOp"
) -> "SOp":
    """The value at the one position selected."""
    rasp = _rasp()

    return rasp.Aggregate(rasp.Select(keys, queries, predicate), values)


def _neighbour(step: int, values: "SOp") -> "SOp":
    """The value `step` positions further on; the prompt is a ring."""
    rasp = _rasp()

    return _take(
        rasp.indices, rasp.indices, lambda key, query: key == (query + step) % LENGTH, values
    )


XPROPORTION = Program(
    "xproportion", xproportion, vocab=("a", "b", "c", "x"), length=4, max_seq_len=5
)
PROGRAMS = (
    Program("reverse", reverse, vocab=("1", "2", "3"), length=3, max_seq_len=5),
    XPROPORTION,
    *(
        Program(make.__name__.replace("_", "-"), make, tuple(vocab), LENGTH, LENGTH)
        for make, vocab in (
            (histogram, "abc"),
            (double_histogram, "abc"),
            (majority, "xyz"),
            (sort, "123"),
            (sort_by_frequency, "abc"),
            (local_maximum, "123"),
            (palindrome, "abc"),
            (induction, "abc"),
            (bigram, "abx"),
            (balance, "()x"),
        )
    ),
)
