"""The programs of our own: what they compute, and that their true circuits are true."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from torch import Tensor

from edgewise.evaluate import solved
from edgewise.graph import Ablation
from edgewise.prompts import PromptPairs
from tasks.tracr import TOLERANCE
from tasks.tracr_programs import PROGRAMS
from tests.tasks.test_tracr import builder, built, every_corruption, model_of, reproduces


def first_after(tokens: Sequence[str], token: str) -> str:
    return tokens[(tokens.index(token) + 1) % len(tokens)]


def followers(tokens: Sequence[str], token: str) -> list[str]:
    return [
        after for own, after in zip(tokens, [*tokens[1:], tokens[0]], strict=True) if own == token
    ]


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
EDGES = {
    "histogram": (13, 6, 4),
    "double-histogram": (94, 24, 13),
    "majority": (61, 12, 6),
    "sort": (59, 13, 7),
    "sort-by-frequency": (94, 19, 10),
    "local-maximum": (61, 12, 7),
    "palindrome": (59, 14, 7),
    "induction": (137, 18, 11),
    "bigram": (32, 8, 6),
    "balance": (307, 31, 12),
}
"""Edges of the graph, of the true circuit under zero ablation and of that under interchange."""
QUICK = ("histogram", "bigram")
"""Compiled, with all edges tried, in a few seconds."""
EACH_PROGRAM = pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"tracr-{name}", marks=() if name in QUICK else pytest.mark.slow)
        for name in MEANINGS
    ],
)


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


@pytest.mark.parametrize("name", MEANINGS)
def test_a_program_means_what_plain_python_says(name: str) -> None:
    program = builder(f"tracr-{name}").program
    compute = program.make()
    for tokens in itertools.product(program.vocab, repeat=program.length):
        assert list(compute(tokens)) == MEANINGS[name](tokens)


@pytest.mark.slow
@EACH_PROGRAM
def test_the_compiled_model_computes_the_program_on_every_input(name: str) -> None:
    program, pairs = builder(name).program, built(name).test
    assert len(pairs.clean.unique(dim=0)) == len(program.vocab) ** program.length <= 256
    assert reproduces(name, model_of(name).graph.legal, pairs, "zero")


@EACH_PROGRAM
def test_the_compiled_model_counts_as_right_even_where_a_twin_has_the_same_answers(
    name: str,
) -> None:
    right = solved(model_of(name), built(name))
    assert right is not None and right.all()


@pytest.mark.slow
@EACH_PROGRAM
def test_every_program_has_one_true_circuit_of_the_known_size(name: str) -> None:
    truths = built(name).true_circuits
    (zero,), (interchange,) = truths["zero"], truths["interchange"]
    sizes = (model_of(name).graph.n_edges, int(zero.sum()), int(interchange.sum()))
    assert sizes == EDGES[name.removeprefix("tracr-")]


@pytest.mark.parametrize("ablation", ["zero", "interchange"])
@EACH_PROGRAM
def test_a_true_circuit_alone_is_the_program_and_no_edge_of_it_can_go(
    name: str, ablation: Ablation
) -> None:
    pairs = every_corruption(name) if ablation == "interchange" else built(name).test
    (truth,) = built(name).true_circuits[ablation]
    assert right(name, truth[None], pairs, ablation).all()
    edges = truth.flatten().nonzero()
    smaller = truth.flatten().repeat(len(edges), 1).scatter(1, edges, False)
    assert not right(name, smaller.view(-1, *truth.shape), pairs, ablation).any()


def test_truth_under_an_ablation_without_one_is_absent() -> None:
    truths = built("tracr-histogram").true_circuits
    assert list(truths) == ["zero", "interchange"]
    assert truths.get("mean") is None
