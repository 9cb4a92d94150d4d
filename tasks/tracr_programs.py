"""The RASP programs that become Tracr tasks: what is compiled, its vocabulary, the prompts' length.

A program is made from RASP's primitives when asked for, so that nobody else pays for importing
Tracr. The first two are those of the Edge Pruning paper (Bhaskar et al., NeurIPS 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracr.rasp.rasp import SOp


@dataclass(frozen=True)
class Program:
    """A program, and the prompts it is run on: BOS and `length` tokens of `vocab`, in all ways.

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
    from tracr.rasp import rasp

    everywhere = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)
    length = rasp.SelectorWidth(everywhere).named("length")
    from_end = (length - rasp.indices).named("from_end")
    opposite = (from_end - 1).named("opposite")
    there = rasp.Select(rasp.indices, opposite, rasp.Comparison.EQ)
    return rasp.Aggregate(there, rasp.tokens).named("reverse")


def xproportion() -> "SOp":
    """The share of x among the tokens so far."""
    from tracr.rasp import rasp

    is_x = rasp.numerical(rasp.tokens == "x").named("is_x")
    so_far = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LEQ)
    return rasp.numerical(rasp.Aggregate(so_far, is_x, default=0)).named("xproportion")


PROGRAMS = (
    Program("reverse", reverse, vocab=("1", "2", "3"), length=3, max_seq_len=5),
    Program("xproportion", xproportion, vocab=("a", "b", "c", "x"), length=4, max_seq_len=5),
)
