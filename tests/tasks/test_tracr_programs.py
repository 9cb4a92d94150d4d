"""The programs of our own: what they compute, and that their true circuits are true."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.evaluate import compare_with_truth
from edgewise.graph import Ablation
from edgewise.prompts import PromptPairs
from tasks.tracr import TOLERANCE
from tasks.tracr_programs import PROGRAMS
from tests.tasks.test_tracr import builder, built, every_corruption, model_of, reproduces


def first_after(tokens: Sequence[str], token: str) -> str:
    return tokens[(tokens.index(token) + 1) % len(tokens)]


def followers(tokens: Sequence[str], token: str) -> list[str]:
    return [after for own, after in zip(tokens, [*tokens[1:], tokens[0]], strict=True) if own == token]


def balanced(tokens: Sequence[str]) -> bool:
    depths = list(itertools.accumulate({"(": 1, ")": -1}.get(token, 0) for token in tokens))
    return min(depths) >= 0 and depths[-1] == 0


MEANINGS: dict[str, Callable[[Sequence[str]], list[Any]]] = {
    "histogram": lambda tokens: [tokens.count(token) for token in tokens],
    "double-histogram": lambda tokens: [
        list(Counter(tokens).values()).count(tokens.count(token)) for token in tokens
    ],
    "majority": lambda tokens: [tokens.count("x") > tokens.count("y")] * len(tokens),
    "sort": sorted,
    "sort-by-frequency": lambda tokens: sorted(tokens, key=tokens.count, reverse=True),
    "local-maximum": lambda tokens: [
        token > tokens[i - 1] and token > tokens[(i + 1) % len(tokens)]
        for i, token in enumerate(tokens)
    ],
    "palindrome": lambda tokens: [list(tokens) == list(tokens)[::-1]] * len(tokens),
    "induction": lambda tokens: [first_after(tokens, token) for token in tokens],
    "bigram": lambda tokens: [
        followers(tokens, token).count("x") / tokens.count(token) for token in tokens
    ],
    "balance": lambda tokens: [balanced(tokens)] * len(tokens),
}
OURS = tuple(program for program in PROGRAMS if program.name in MEANINGS)
NAMES = tuple(f"tracr-{program.name}" for program in OURS)


def right(name: str, masks: Tensor, pairs: PromptPairs, ablation: Ablation) -> Tensor:
    """Whether each circuit gives the right outputs at every target of every pair."""
    model = model_of(name)
    ablated = model.activations(pairs.corrupted) if ablation == "interchange" else None
    logits = model(pairs.clean, masks, ablated, pairs.targets)
    if pairs.distractors is None:
        correct = (logits.squeeze(-1) - pairs.answers).abs() < TOLERANCE
    else:
        correct = logits.argmax(-1) == pairs.answers
    return correct.flatten(1).all(1)


def test_every_program_but_the_papers_has_a_meaning_here() -> None:
    assert {program.name for program in PROGRAMS} == {"reverse", "xproportion", *MEANINGS}


@pytest.mark.parametrize("program", OURS, ids=lambda program: program.name)
def test_a_program_means_what_plain_python_says(program: Any) -> None:
    compute = program.make()
    for tokens in itertools.product(program.vocab, repeat=program.length):
        assert list(compute(tokens)) == MEANINGS[program.name](tokens)


@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_model_computes_the_program_on_every_input(name: str) -> None:
    program, pairs = builder(name).program, built(name).test
    assert len(pairs.clean.unique(dim=0)) == len(program.vocab) ** program.length <= 256
    assert reproduces(name, model_of(name).graph.legal, pairs, "zero")


@pytest.mark.parametrize("ablation", ["zero", "interchange"])
@pytest.mark.parametrize("name", NAMES)
def test_each_true_circuit_alone_is_the_program_and_no_edge_of_it_can_go(
    name: str, ablation: Ablation
) -> None:
    pairs = every_corruption(name) if ablation == "interchange" else built(name).test
    truths = torch.stack(built(name).true_circuits[ablation])
    assert right(name, truths, pairs, ablation).all()
    for truth in truths:
        edges = truth.flatten().nonzero()
        smaller = truth.flatten().repeat(len(edges), 1).scatter(1, edges, False)
        assert not right(name, smaller.view(-1, *truth.shape), pairs, ablation).any()


@pytest.mark.parametrize("name", NAMES)
def test_any_of_the_true_circuits_counts_as_recovered(name: str) -> None:
    truths = built(name).true_circuits["zero"]
    for truth in truths:
        assert compare_with_truth(Circuit(truth, model_of(name).graph), truths)["exact"]
