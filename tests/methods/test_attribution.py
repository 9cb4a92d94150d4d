"""What all attribution methods have in common, and what each promises of its scores."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.attribution import Attribution
from edgewise.discovery import Unsupported
from edgewise.graph import Ablation
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods import METHODS
from methods.atp import AtP
from methods.ceap import CEAP
from methods.clean_corrupted import CleanCorrupted
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.eap_ig_activations import EAPIGActivations
from methods.exact import Exact
from methods.hisp import HISP
from methods.information_flow_routes import InformationFlowRoutes
from methods.mask_ig import MaskIG
from tests.methods import toys
from tests.methods.linear import linear
from tests.methods.test_eap import MODELS, loss, patched, random_task
from tests.models import ABLATIONS, random_pairs

ALL = {name: kind for name, kind in METHODS.items() if issubclass(kind, Attribution)}
EACH_METHOD = pytest.mark.parametrize("method", ALL.values(), ids=ALL)
INEXACT = {
    "activation-difference",  # without a gradient
    "information-flow-routes",
    "mask-ig",  # with several edges partly there, paths of several edges count for less
    "gim",  # scales the gradients of queries, keys and values
    "atp",  # has no sign
    "hisp",  # scores writers
}
"""Methods that give something else than the exact scores even where the model is linear."""
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


def scores(method: Attribution, model: MaskedTransformer, task: Task) -> Tensor:
    return method.discover(model, task, generator=torch.Generator()).extra["signed"]


def total(model: MaskedTransformer, task: Task) -> float:
    """How much the loss grows when all edges are removed."""
    ones = torch.ones(model.graph.legal.shape, dtype=torch.float64)
    without, full = patched(model, task.train, torch.stack([torch.zeros_like(ones), ones]))
    return float(without - full)


@pytest.mark.parametrize(
    "ablation",
    [
        pytest.param(name, marks=() if name == "interchange" else pytest.mark.slow)
        for name in ABLATIONS
    ],
)
@pytest.mark.parametrize("model", MODELS)
@EACH_METHOD
def test_scores_are_finite_zero_where_there_is_no_edge_and_not_all_equal(
    method: type[Attribution], model: str, ablation: Ablation
) -> None:
    toy, task = MODELS[model](), random_task(ablation=ablation)
    if ablation not in method.ablations:
        with pytest.raises(Unsupported, match=f"under {ablation} ablation; expected interchange"):
            scores(method(), toy, task)
        return
    found = scores(method(), toy, task)
    assert found.isfinite().all()
    assert (found[~toy.graph.legal] == 0).all()
    assert len(found[toy.graph.legal].unique()) > 5


@EACH_METHOD
def test_scores_do_not_depend_on_the_batches(method: type[Attribution]) -> None:
    """Prompts of several lengths run alone, or padded to the longest of their batch."""
    toy, task = toys.gpt2(), random_task(5)
    together = scores(method(), toy, task)
    toy.batch_bytes = 1
    torch.testing.assert_close(scores(method(), toy, task), together, **CLOSE)


@EACH_METHOD
def test_a_shared_beginning_changes_no_score(
    method: type[Attribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs once for all prompts; without it, they run whole.

    HISP's norm, of the mean over all prompts, is left out: here prompts are scored one by one.
    """
    monkeypatch.setattr(method, "combined", lambda self, mean, graph: mean)
    toy = toys.gpt2()
    pairs = random_pairs([12, 14, 13])
    start = pairs.clean[:1, :9].expand(3, -1)
    pairs = dataclasses.replace(
        pairs,
        clean=torch.cat([start, pairs.clean[:, 9:]], 1),
        corrupted=torch.cat([start, pairs.corrupted[:, 9:]], 1),
    )
    task = dataclasses.replace(random_task(), train=pairs)
    expected = scores(method(), toy, task)
    toy.architecture.causal = False  # so that no beginning is taken out
    apart = [
        scores(method(), toy, dataclasses.replace(task, train=pairs[torch.tensor([index])]))
        for index in range(3)
    ]
    torch.testing.assert_close(torch.stack(apart).mean(0), expected, **CLOSE)


@EACH_METHOD
def test_blocks_that_are_recomputed_give_the_same_scores(method: type[Attribution]) -> None:
    toy, task = toys.llama(), random_task()
    expected = scores(method(), toy, task)
    toy.recompute = True
    torch.testing.assert_close(scores(method(), toy, task), expected, rtol=0, atol=0)


@EACH_METHOD
def test_a_corruption_that_changes_nothing_scores_zero(method: type[Attribution]) -> None:
    if method is InformationFlowRoutes:
        pytest.skip("information flow routes do not look at the corrupted prompt")
    task = random_task()
    same = dataclasses.replace(task.train, corrupted=task.train.clean)
    found = scores(method(), toys.gpt2(), dataclasses.replace(task, train=same))
    assert found.abs().max() < 1e-12


def test_scores_that_are_not_finite_are_refused() -> None:
    task = random_task()
    infinite = dataclasses.replace(task, attribution_loss=lambda *given: 1e400 * loss(*given))
    with pytest.raises(ValueError, match="scores of EAP are not finite numbers"):
        scores(EAP(), toys.gpt2(), infinite)


@pytest.mark.parametrize("method", [ALL[name] for name in ALL if name not in INEXACT])
def test_on_a_linear_model_scores_are_exact(method: type[Attribution]) -> None:
    """EAP-IG-activations cuts paths off, so only the edges into `out` have the exact score."""
    model, task = linear(), random_task()
    expected, found = scores(Exact(), model, task), scores(method(), model, task)
    rows = slice(-1, None) if method is EAPIGActivations else slice(None)
    torch.testing.assert_close(found[rows], expected[rows], rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.1
    assert float(found[-1].sum()) == pytest.approx(total(model, task), rel=1e-4)


@pytest.mark.parametrize("model", ["gpt2", "llama, key-value readers"])
def test_the_edges_from_the_embeddings_sum_to_the_whole_effect_as_steps_grow(model: str) -> None:
    """The embeddings move from one prompt to the other, and every path begins there.

    Points on one side of each step leave an error that shrinks like 1 / steps; the mean of both
    sides leaves a far smaller one.
    """
    toy, task = MODELS[model](), random_task()
    n_embeddings, effect = len(toy.graph.embeddings), total(toy, task)

    def sum_of(method: EAPIG) -> float:
        return float(scores(method, toy, task)[:, :n_embeddings].sum())

    rough, right = (sum_of(EAPIG(steps=steps, rule="right")) for steps in (5, 40))
    assert abs(right - effect) < 0.2 * abs(rough - effect) + 1e-5
    middle = (sum_of(EAPIG(steps=40)) + right) / 2
    assert middle == pytest.approx(effect, rel=2e-3, abs=2e-4)


def test_ceaps_edges_into_out_sum_to_the_whole_effect_as_steps_grow() -> None:
    toy, task = toys.gpt2(), random_task()
    found = scores(CEAP(steps=100), toy, task)
    effect = total(toy, task)
    assert float(found[-1].sum()) == pytest.approx(effect, rel=0.02)
    assert float(found[:, :2].sum()) == pytest.approx(effect, rel=0.02)


def test_mask_igs_scores_sum_to_the_whole_effect_as_steps_grow() -> None:
    toy, task = toys.gpt2(), random_task()
    assert float(scores(MaskIG(steps=60), toy, task).sum()) == pytest.approx(
        total(toy, task), rel=0.02
    )


@pytest.mark.parametrize("one_step", [EAPIG(steps=1, rule="right"), CEAP(steps=1)])
def test_with_one_step_they_are_eap(one_step: Attribution) -> None:
    toy, task = toys.llama(), random_task()
    assert torch.equal(scores(one_step, toy, task), scores(EAP(), toy, task))


def test_one_step_to_the_left_takes_the_gradient_at_the_corrupted_embeddings() -> None:
    """Half of it and of EAP is then clean-corrupted, as the clean prompt runs with the corrupted
    embeddings: on a model that sees tokens through its embeddings alone."""
    toy, task = toys.gpt2(), random_task()
    left = scores(EAPIG(steps=1), toy, task)
    both = scores(CleanCorrupted(), toy, task)
    torch.testing.assert_close((left + scores(EAP(), toy, task)) / 2, both, **CLOSE)


def test_exact_is_every_edge_removed_alone() -> None:
    toy, task = toys.gpt2(), random_task()
    edges = toy.graph.legal.nonzero()
    masks = torch.ones(len(edges) + 1, *toy.graph.legal.shape, dtype=torch.float64)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = 0
    losses = patched(toy, task.train, masks)
    found = scores(Exact(), toy, task)[toy.graph.legal].double()
    torch.testing.assert_close(found, losses[:-1] - losses[-1], rtol=1e-5, atol=1e-6)


def test_without_grad_drop_atp_is_the_mean_of_absolute_scores() -> None:
    toy, task = toys.gpt2(), random_task(5)
    alone = [
        scores(EAP(), toy, dataclasses.replace(task, train=task.train[torch.tensor([index])]))
        for index in range(5)
    ]
    expected = torch.stack(alone).abs().mean(0)
    torch.testing.assert_close(scores(AtP(grad_drop=False), toy, task), expected, **CLOSE)


@pytest.mark.parametrize("build", [linear, toys.gpt2], ids=["linear", "gpt2"])
def test_grad_drop_averages_over_the_layers_that_are_cut_off(
    build: Callable[[], MaskedTransformer],
) -> None:
    """Two layers. A reader of one layer has a gradient only while the other layer is cut off: in
    the first layer that is the direct way to `out`, past the second. `out` has it both times."""
    model, pair = build(), random_pairs([7])
    task = dataclasses.replace(random_task(), train=pair)
    graph = model.graph
    found = scores(AtP(), model, task)
    eap = scores(EAP(), model, task).abs()
    last_layer = slice(graph.blocks[2].readers.start, None)
    torch.testing.assert_close(found[last_layer], eap[last_layer], **CLOSE)
    direct = found[: last_layer.start]
    assert (direct - eap[: last_layer.start]).abs().max() > 1e-3


@pytest.mark.parametrize("qk_fix", [False, True])
def test_with_a_single_layer_no_gradient_is_dropped(qk_fix: bool) -> None:
    """Without that layer there is no way from its readers to `out`."""
    toy, task = toys.gpt2(n_layer=1), random_task()
    found, plain = (scores(AtP(grad_drop=drop, qk_fix=qk_fix), toy, task) for drop in (True, False))
    assert torch.equal(found, plain)
    assert (found[:, toy.graph.writers.index("tok")] > 0).all()


@pytest.mark.parametrize("embeddings", ["joint", "separate"])
def test_information_flow_gives_each_readers_writers_shares_of_one(embeddings: Any) -> None:
    """Except where every writer is farther from their sum than zero is: here, where a token's
    embedding and its position's all but cancel."""
    toy, task = toys.gpt2(embeddings=embeddings), random_task()
    found = scores(InformationFlowRoutes(), toy, task)
    assert (found >= 0).all()
    if embeddings == "joint":
        torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert (found.sum(1) < 1 + 1e-6).all()


def test_information_flow_needs_no_corrupted_prompt() -> None:
    toy, task = toys.gpt2(), random_task()
    other = dataclasses.replace(task.train, corrupted=task.train.corrupted.flip(0))
    unchanged = dataclasses.replace(task, train=other)
    method = InformationFlowRoutes()
    assert torch.equal(scores(method, toy, task), scores(method, toy, unchanged))


def forward_equivalents(method: Attribution, model: MaskedTransformer, pairs: PromptPairs) -> float:
    model.flops = 0
    scores(method, model, dataclasses.replace(random_task(), train=pairs))
    return model.flops / model.forward_flops(pairs.lengths)


def test_the_cost_of_eap_ig_is_two_passes_and_one_trace_for_each_step() -> None:
    """All prompts have one length and are scored at every position, so nothing is padded."""
    model = toys.gpt2()
    pairs = random_pairs([8] * 4)
    pairs = dataclasses.replace(
        pairs,
        targets=torch.arange(8).expand(4, -1),
        answers=pairs.answers[:, :1].expand(-1, 8),
        distractors=None if pairs.distractors is None else pairs.distractors[:, :1].expand(-1, 8),
    )
    unembedding = 2 * 32 * model.architecture.d_model * model.architecture.n_outputs
    corrupted = 1 - unembedding / model.forward_flops(pairs.lengths)
    trace = forward_equivalents(EAP(), model, pairs) - corrupted
    for steps in (1, 4):
        cost = forward_equivalents(EAPIG(steps=steps), model, pairs)
        assert cost == pytest.approx(1 + corrupted + steps * trace, rel=1e-9)
    assert forward_equivalents(InformationFlowRoutes(), model, pairs) == pytest.approx(1)


def test_hisp_ranks_edges_by_the_weaker_of_their_ends_within_a_layers_norm() -> None:
    """The effects of all of a writer's edges are added, prompt by prompt, before the sign goes."""
    model, task = toys.gpt2(), random_task()
    graph, importance = model.graph, torch.zeros(len(model.graph.writers))
    for index in range(len(task.train)):
        alone = dataclasses.replace(task, train=task.train[torch.tensor([index])])
        importance += scores(EAP(), model, alone).sum(0).abs() / len(task.train)
    layers = [["tok", "pos"], ["a0.h0", "a0.h1", "m0"], ["a1.h0", "a1.h1", "m1"]]
    normed = {
        name: float(importance[graph.writers.index(name)]) for layer in layers for name in layer
    }
    for layer in layers:
        norm = sum(normed[name] ** 2 for name in layer) ** 0.5
        normed |= {name: normed[name] / norm for name in layer}
    found = scores(HISP(), model, task)
    for edge in graph.edge_names(graph.legal):
        writer, reader = edge.split("->")
        ends = [normed[writer]] + ([] if reader == "out" else [normed[reader.rsplit(".", 1)[0]]])
        assert float(found[graph.mask_of([edge])]) == pytest.approx(min(ends), rel=1e-4)
