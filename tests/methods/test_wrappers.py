"""Methods made of other methods: how they are named, what they combine, what they cost."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Unsupported
from edgewise.method import Method
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper, rank_shares
from methods.acdc import ACDC
from methods.atp import AtP
from methods.bootstrap import Bootstrap
from methods.clean_corrupted import CleanCorrupted
from methods.eap import EAP
from methods.ensemble import Ensemble
from methods.gim import GIM
from methods.hisp import HISP
from methods.noising_and_denoising import NoisingAndDenoising, exchanged
from methods.random import Random
from tests.methods import toys
from tests.methods.gates import EDGES, GATES, gate


def discover(method: Method, model: MaskedTransformer, task: Task, seed: int = 0) -> Any:
    return method.discover(model, task, generator=Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def setting() -> tuple[MaskedTransformer, Task]:
    return toys.gpt2(), toys.task(toys.random_pairs(5))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("eap, gim", [("eap", []), ("gim", [])]),
        (
            " eap-ig( steps = 10 , rule=right ),gim",
            [("eap-ig", ["steps = 10", "rule=right"]), ("gim", [])],
        ),
        ("eap(),eap", [("eap", []), ("eap", [])]),
    ],
)
def test_inner_methods_are_named_with_their_settings(
    text: str, names: list[tuple[str, list[str]]]
) -> None:
    assert Ensemble(methods=text).named() == names


@pytest.mark.parametrize(
    ("wrapper", "text", "message"),
    [
        (Ensemble, "eap gim", "expected names with commas between them"),
        (Ensemble, "eap(steps=1, gim", "expected names with commas between them"),
        (Ensemble, "eap", "expected two or more methods"),
        (Ensemble, "", "expected two or more methods"),
        (Bootstrap, "eap, gim", "expected one method"),
        (NoisingAndDenoising, "", "expected one method"),
    ],
)
def test_what_is_no_list_of_methods_is_refused(
    wrapper: type[Wrapper], text: str, message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"methods={text!r}; {message}")):
        wrapper(methods=text)


def test_a_wrapper_without_its_methods_says_how_it_gets_them() -> None:
    with pytest.raises(ValueError, match="give them with `around`"):
        _ = Ensemble().inner


def test_equal_scores_share_the_mean_of_their_places() -> None:
    graph = toys.gpt2(n_layer=1).graph
    values = torch.zeros(graph.legal.shape)
    values[-1, 0] = 1.0
    shares = rank_shares(EdgeScores(values, graph))
    assert float(shares[-1, 0]) == 1
    others = shares[graph.legal & (values == 0)]
    n_edges = graph.n_edges
    assert others.tolist() == pytest.approx([1 - n_edges / 2 / n_edges] * (n_edges - 1))


def test_an_edges_share_is_that_of_the_edges_it_is_not_beaten_by() -> None:
    graph = toys.gpt2(n_layer=1).graph
    scores = EdgeScores(torch.randn(graph.legal.shape), graph)
    shares = rank_shares(scores)
    in_order = shares.flatten()[scores.ranking()]
    assert in_order.tolist() == pytest.approx(
        [1 - place / graph.n_edges for place in range(graph.n_edges)]
    )
    assert float(shares[~graph.legal].sum()) == 0


def test_an_ensemble_is_the_mean_of_its_rankings_and_costs_what_they_cost(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    model, task = setting
    start = model.flops
    eap, gim = discover(EAP(), model, task), discover(GIM(), model, task)
    apart, start = model.flops - start, model.flops
    both = discover(Ensemble(methods="eap, gim").around([EAP(), GIM()]), model, task)
    assert model.flops - start == apart
    expected = (rank_shares(eap) + rank_shares(gim)) / 2
    torch.testing.assert_close(both.values, expected)
    twice = discover(Ensemble(methods="eap, eap").around([EAP(), EAP()]), model, task)
    assert torch.equal(twice.ranking(), eap.ranking())


@pytest.mark.parametrize("inner", [ACDC(threshold=0.1), Random(draws=2)])
def test_an_ensemble_refuses_what_is_no_ranking(
    inner: Method, setting: tuple[MaskedTransformer, Task]
) -> None:
    with pytest.raises(Unsupported, match=f"{inner.label}, which gives .+; expected a ranking"):
        discover(Ensemble().around([inner, EAP()]), *setting)


def test_bootstrap_puts_edges_first_whose_sign_is_the_same_in_the_resamples(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    """Against resamples that are drawn and scored one by one."""
    model, task = setting
    n_prompts = len(task.train)
    alone = [
        discover(EAP(), model, dataclasses.replace(task, train=task.train[torch.tensor([index])]))
        for index in range(n_prompts)
    ]
    of_prompts = torch.stack([scores.extra["signed"] for scores in alone]).double()
    drawn = torch.randint(n_prompts, (40, n_prompts), generator=Generator().manual_seed(3))
    means = torch.stack([of_prompts[draw].mean(0) for draw in drawn])
    low, high = means.quantile(0.05, 0), means.quantile(0.95, 0)
    consistent = (low > 0) | (high < 0)
    method = Bootstrap(methods="eap", resamples=40, confidence=0.9).around([EAP()])
    found = discover(method, model, task, seed=3)
    legal = model.graph.legal
    assert torch.equal(found.extra["consistent"][legal], consistent[legal].float())
    assert 0 < int(consistent.sum()) < model.graph.n_edges
    torch.testing.assert_close(found.extra["signed"], of_prompts.mean(0).float())
    assert found.values[consistent].min() > found.values[legal & ~consistent].max()
    for group in (consistent, legal & ~consistent):
        order = found.values[group].argsort(stable=True)
        torch.testing.assert_close(order, of_prompts.mean(0).abs()[group].argsort(stable=True))


def test_bootstrap_costs_what_its_method_costs(setting: tuple[MaskedTransformer, Task]) -> None:
    model, task = setting
    start = model.flops
    discover(EAP(), model, task)
    once, start = model.flops - start, model.flops
    discover(Bootstrap(methods="eap", resamples=1000).around([EAP()]), model, task)
    assert model.flops - start == once


@pytest.mark.parametrize("inner", [ACDC(), HISP(), AtP()])
def test_bootstrap_refuses_a_method_without_signed_scores_of_each_prompt(
    inner: Method, setting: tuple[MaskedTransformer, Task]
) -> None:
    with pytest.raises(Unsupported, match="expected an attribution method whose scores have a"):
        discover(Bootstrap(methods=inner.name).around([inner]), *setting)


def test_bootstrap_ranks_both_groups_as_its_method_does(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    for selection in ("top-signed", "greedy-absolute", "top-magnitude"):
        inner = EAP(selection=selection)
        alone = discover(inner, *setting)
        found = discover(Bootstrap(methods="eap").around([inner]), *setting)
        assert found.selection == alone.selection
        for group in (found.extra["consistent"] == 1, found.extra["consistent"] == 0):
            group = group & alone.graph.legal
            assert torch.equal(
                found.values[group].argsort(stable=True), alone.values[group].argsort(stable=True)
            )


def test_bootstrap_needs_two_prompts() -> None:
    task = toys.task(toys.random_pairs(1))
    with pytest.raises(Unsupported, match="with 1 prompt; expected two or more"):
        discover(Bootstrap().around([EAP()]), toys.gpt2(), task)


def test_denoising_of_eap_is_the_other_half_of_clean_corrupted(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    model, task = setting
    noising, denoising = (
        discover(EAP(), model, way).extra["signed"] for way in (task, exchanged(task))
    )
    expected = discover(CleanCorrupted(), model, task).extra["signed"]
    torch.testing.assert_close((noising + denoising) / 2, expected, rtol=1e-4, atol=1e-6)


def found_edges(method: Method, name: str) -> set[str]:
    """Which of the two edges from the heads into the gate a method keeps, or scores above 0."""
    model, task = gate(name)
    found = discover(method, model, task)
    mask = found.mask if isinstance(found, Circuit) else found.extra["signed"].abs() > 1e-6
    return set(model.graph.edge_names(mask)) & set(EDGES)


TESTS = ACDC(threshold=0.5)


@pytest.mark.parametrize(
    ("gate_name", "noising", "denoising"), [("AND", 2, 1), ("OR", 1, 2), ("ADDER", 2, 2)]
)
def test_acdc_by_both_ways_finds_both_edges_of_every_gate(
    gate_name: str, noising: int, denoising: int
) -> None:
    model, task = gate(gate_name)
    ways = [
        set(model.graph.edge_names(discover(TESTS, model, way).mask)) & set(EDGES)
        for way in (task, signed(exchanged(task)))
    ]
    assert [len(way) for way in ways] == [noising, denoising]
    both = NoisingAndDenoising(methods="acdc").around([_SignedACDC(threshold=0.5)])
    assert found_edges(both, gate_name) == set(EDGES)


def signed(task: Task) -> Task:
    """The objective of ACDC is the training loss: here the logit difference, whose sign turns."""
    return dataclasses.replace(task, training_loss=task.attribution_loss)


class _SignedACDC(ACDC):
    def discover(self, model: Any, task: Task, **options: Any) -> Circuit:
        return super().discover(model, signed(task), **options)


@pytest.mark.parametrize("gate_name", GATES)
def test_eap_by_both_ways_ranks_both_edges_of_every_gate_alike(gate_name: str) -> None:
    """By noising it gives neither edge of OR a score."""
    model, task = gate(gate_name)
    assert len(found_edges(EAP(), gate_name)) == (0 if gate_name == "OR" else 2)
    found = discover(NoisingAndDenoising().around([EAP()]), model, task)
    first, second = (float(found.values[model.graph.mask_of([edge])]) for edge in EDGES)
    assert first == second > float(found.values[model.graph.legal].median())


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_prompts_can_only_be_exchanged_under_interchange_ablation(ablation: Any) -> None:
    task = toys.task(toys.random_pairs(3), ablation=ablation)
    with pytest.raises(Unsupported, match="expected interchange"):
        discover(NoisingAndDenoising().around([EAP()]), toys.gpt2(), task)


def test_rankings_of_both_ways_are_combined_by_their_places(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    model, task = setting
    ways = [discover(EAP(), model, way) for way in (task, exchanged(task))]
    found = discover(NoisingAndDenoising().around([EAP()]), model, task)
    expected: Tensor = (rank_shares(ways[0]) + rank_shares(ways[1])) / 2
    torch.testing.assert_close(found.values, expected)
