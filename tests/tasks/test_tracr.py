"""Compiled programs as tasks: all inputs, and circuits that are true because removal says so."""

import dataclasses
import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from edgewise.architectures.tracr import TracrArchitecture
from edgewise.graph import ABLATIONS, Ablation
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from edgewise.truth import minimal_circuits, removal_orders, same_choice, within
from tasks import TASKS
from tasks.tracr import TOLERANCE, TracrTask, all_inputs

NAMES = ("tracr-reverse", "tracr-xproportion")
SOFTMAX = "tracr-xproportion-softmax"
TRUTHS: dict[tuple[str, Ablation, bool], list[str]] = {
    ("tracr-reverse", "zero", False): [
        *("tok->a0.h0.v", "tok->m0", "a0.h0->m0", "tok->m1", "pos->m1", "m0->m1"),
        *("m1->m2", "m2->a3.h0.q", "pos->a3.h0.k", "tok->a3.h0.v", "a3.h0->out"),
    ],
    ("tracr-reverse", "interchange", False): ["tok->a3.h0.v", "a3.h0->out"],
    ("tracr-xproportion", "zero", False): [
        *("tok->m0", "pos->a1.h0.q", "pos->a1.h0.k", "m0->a1.h0.v", "a1.h0->out"),
    ],
    ("tracr-xproportion", "zero", True): [
        *("tok->m0", "tok->a1.h0.q", "pos->a1.h0.q", "tok->a1.h0.k", "pos->a1.h0.k"),
        *("m0->a1.h0.v", "a1.h0->out"),
    ],
    ("tracr-xproportion", "interchange", False): ["tok->m0", "m0->a1.h0.v", "a1.h0->out"],
}


def builder(name: str) -> TracrTask:
    found = TASKS[name]
    assert isinstance(found, TracrTask)
    return found


def model_of(name: str) -> MaskedTransformer:
    return builder(name).load_model()


@functools.cache
def built(name: str, *, seed: int = 0, ablation: Ablation = "zero", bos: bool = False) -> Task:
    return builder(name).build(model_of(name), seed=seed, ablation=ablation, bos=bos)


def every_corruption(name: str) -> PromptPairs:
    """Every input paired with every prompt that differs from it at each token."""
    pairs = built(name).test
    index = torch.tensor(list(itertools.product(range(len(pairs)), repeat=2)))
    first, second = pairs.clean[index[:, 0]], pairs.clean[index[:, 1]]
    kept = (first != second)[:, 1:].all(1)
    chosen = pairs[index[:, 0][kept]]
    return dataclasses.replace(chosen, corrupted=second[kept])


def reproduces(name: str, mask: Tensor, pairs: PromptPairs, ablation: Ablation) -> bool:
    """Whether the circuit gives what the RASP program itself means, wherever it is scored."""
    model, program = model_of(name), builder(name).program.make()
    architecture = model.architecture
    assert isinstance(architecture, TracrArchitecture)
    ablated = model.activations(pairs.corrupted) if ablation == "interchange" else None
    decoded = architecture.decode(model(pairs.clean, mask, ablated))
    prompts = list(itertools.product(builder(name).program.vocab, repeat=pairs.clean.shape[1] - 1))
    encoded = architecture.encode([["BOS", *prompt] for prompt in prompts]).tolist()
    meant = {tuple(ids): program(prompt) for ids, prompt in zip(encoded, prompts, strict=True)}
    tolerance = 0 if architecture.categorical else TOLERANCE
    return all(
        output == expected or (tolerance and abs(output - expected) < tolerance)
        for tokens, outputs in zip(pairs.clean.tolist(), decoded, strict=True)
        for output, expected in zip(outputs[1:], meant[tuple(tokens)], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ablation", "bos"), TRUTHS)
def test_removal_arrives_at_the_known_circuit(name: str, ablation: Ablation, bos: bool) -> None:
    graph = model_of(name).graph
    (truth,) = built(name, bos=bos).true_circuits[ablation]
    assert sorted(graph.edge_names(truth)) == sorted(TRUTHS[name, ablation, bos])


def test_the_graphs_have_the_known_sizes() -> None:
    assert [model_of(name).graph.n_edges for name in NAMES] == [94, 32]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ablation", ["zero", "interchange"])
def test_a_true_circuit_alone_is_the_program_and_no_edge_of_it_can_go(
    name: str, ablation: Ablation
) -> None:
    (truth,) = built(name).true_circuits[ablation]
    pairs = every_corruption(name) if ablation == "interchange" else built(name).test
    assert reproduces(name, truth, pairs, ablation)
    for edge in truth.nonzero():
        smaller = truth.clone()
        smaller[tuple(edge)] = False
        assert not reproduces(name, smaller, built(name).test, ablation)


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ["zero", "interchange"])
def test_removal_in_all_orders_at_once_is_removal_edge_by_edge(ablation: Ablation) -> None:
    """The twin tests every edge, live or not, in every order for itself, in passes of one mask."""
    name = "tracr-xproportion"
    model, pairs = model_of(name), built(name, bos=True).test[:64]
    ablated = model.activations(pairs.corrupted) if ablation == "interchange" else None
    full = model(pairs.clean)
    found: set[tuple[int, ...]] = set()
    for order in removal_orders(model.graph, 3, seed=5).tolist():
        mask, before = model.graph.legal.flatten().clone(), None
        while before is None or not torch.equal(mask, before):
            before = mask.clone()
            for edge in order:
                if mask[edge]:
                    mask[edge] = False
                    logits = model(pairs.clean, mask.view_as(model.graph.legal), ablated)
                    mask[edge] = bool(((logits - full).abs() >= TOLERANCE).any())
        found.add(tuple(mask.nonzero().flatten().tolist()))
    at_once = minimal_circuits(
        model, pairs, within(TOLERANCE), ablation=ablation, random_orders=3, seed=5
    )
    assert {tuple(mask.flatten().nonzero().flatten().tolist()) for mask in at_once} == found


def test_every_distinct_minimal_circuit_is_kept() -> None:
    """Where any writer's bias at `out` will do, each order leaves another edge."""
    program = builder("tracr-xproportion").program
    model = MaskedTransformer(
        TracrArchitecture.compile(program.make(), vocab=program.vocab, max_seq_len=5)
    )
    for name, weight in model.architecture.weights().items():
        if name.endswith(("attn/linear/b", "linear_2/b")):
            weight.fill_(1.0)

    def says_something(logits: Tensor, full: Tensor) -> Tensor:
        return logits.flatten(1).any(1)

    circuits = minimal_circuits(
        model, built("tracr-xproportion").test, says_something, ablation="zero"
    )
    names = [model.graph.edge_names(circuit) for circuit in circuits]
    assert sorted(names) == [["a0.h0->out"], ["a1.h0->out"], ["m0->out"], ["m1->out"]]


def test_orders_are_permutations_of_all_edges_and_all_different() -> None:
    graph = model_of("tracr-reverse").graph
    orders = removal_orders(graph, 20, seed=0)
    assert len(orders.unique(dim=0)) == 24
    edges = graph.legal.flatten().nonzero().flatten()
    assert all(torch.equal(order.sort().values, edges) for order in orders)


def test_truth_under_mean_ablation_is_refused() -> None:
    task = built("tracr-reverse")
    with pytest.raises(ValueError, match="mean"):
        minimal_circuits(model_of("tracr-reverse"), task.test, same_choice, ablation="mean")


def test_a_joint_embedding_has_a_true_circuit_of_its_own_graph() -> None:
    name = "tracr-xproportion"
    joint = MaskedTransformer(model_of(name).architecture, embeddings="joint")
    task = builder(name).build(joint, seed=0)
    assert joint.graph.edge_names(task.true_circuits["zero"][0])[0] == "embed->m0"


@pytest.mark.parametrize(("name", "n_inputs"), [(NAMES[0], 27), (NAMES[1], 256)])
def test_every_input_is_there_once_in_all_three_sets(name: str, n_inputs: int) -> None:
    task = built(name)
    assert len(task.train) == len(task.train.clean.unique(dim=0)) == n_inputs
    assert task.train is task.validation is task.test


def test_a_vocabulary_may_be_larger_than_the_longest_prompt() -> None:
    small = builder("tracr-xproportion").program
    task = TracrTask(dataclasses.replace(small, vocab=tuple("abcdex"), length=2, max_seq_len=2))
    assert task.build(task.load_model(), seed=0).train.clean.shape == (36, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_corrupted_prompt_keeps_bos_and_changes_every_other_token(name: str) -> None:
    drawn = []
    for seed in range(5):
        pairs = built(name, seed=seed).train
        changed = pairs.clean != pairs.corrupted
        assert changed[:, 1:].all()
        assert not changed[:, 0].any()
        known = set(map(tuple, pairs.clean.tolist()))
        assert set(map(tuple, pairs.corrupted.tolist())) <= known
        drawn.append(pairs.corrupted)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    again = builder(name).build(model_of(name), seed=3).train
    assert torch.equal(again.corrupted, drawn[3])


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_what_the_program_means(name: str) -> None:
    pairs, model = built(name).test, model_of(name)
    assert reproduces(name, model.graph.legal, pairs, "zero")
    full = model(pairs.clean, targets=pairs.targets)
    assert built(name).metrics["accuracy"](full, full, pairs).eq(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bos_is_scored_on_request_only(name: str) -> None:
    width = built(name).test.clean.shape[1]
    assert built(name).test.targets[0].tolist() == list(range(1, width))
    assert built(name, bos=True).test.targets[0].tolist() == list(range(width))


def test_the_papers_loss_for_xproportion_compares_softmaxes_over_positions_with_bos() -> None:
    """As its code computes it; a shift of all outputs passes, a scale does not."""
    task, model = built(SOFTMAX), model_of(SOFTMAX)
    pairs = task.train
    assert pairs.targets[0].tolist() == [0, 1, 2, 3, 4]
    full = model(pairs.clean, targets=pairs.targets)
    logits = full * torch.linspace(0.2, 2, len(pairs))[:, None, None] + 3
    expected = torch.nn.functional.kl_div(
        logits[..., 0].log_softmax(-1),
        full[..., 0].log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    losses = task.training_loss(torch.stack([logits, full - 3]), full, pairs)
    torch.testing.assert_close(losses[0].mean(), expected)
    assert losses[0].mean() > 1e-3 > 1e-6 > losses[1].abs().max()


def test_each_loss_of_xproportion_has_the_true_circuit_of_the_positions_that_it_scores() -> None:
    plain, softmax = (built(name).true_circuits["zero"] for name in ("tracr-xproportion", SOFTMAX))
    (with_bos,) = built("tracr-xproportion", bos=True).true_circuits["zero"]
    assert [int(truth.sum()) for truth in (*plain, *softmax)] == [5, 7]
    assert torch.equal(softmax[0], with_bos)
    assert model_of(SOFTMAX) is model_of("tracr-xproportion")


def test_the_distractor_is_the_right_output_of_the_corrupted_prompt() -> None:
    pairs = built("tracr-reverse").test
    assert pairs.distractors is not None
    assert (pairs.distractors != pairs.answers).all()
    right = dict(zip(map(tuple, pairs.clean.tolist()), pairs.answers.tolist(), strict=True))
    for tokens, values in zip(pairs.corrupted.tolist(), pairs.distractors.tolist(), strict=True):
        assert values == right[tuple(tokens)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_attribution_sees_the_full_model_where_the_training_loss_does_not(
    name: str, ablation: Ablation
) -> None:
    task, model = built(name, ablation=ablation), model_of(name)
    pairs = task.train
    ablated = {
        "zero": None,
        "interchange": (activations := model.activations(pairs.corrupted)),
        "mean": activations.mean(0),
    }[ablation]

    def scores(loss: Any) -> Tensor:
        mask = torch.ones(model.graph.legal.shape, requires_grad=True)
        full = model(pairs.clean, targets=pairs.targets)
        logits = model(pairs.clean, mask, ablated, pairs.targets)
        loss(logits, full, pairs).mean().backward()
        assert mask.grad is not None
        return -mask.grad

    assert scores(task.training_loss).abs().max() < 1e-4
    found = scores(task.attribution_loss)
    (outward,) = found[-1].nonzero().flatten().tolist()
    assert model.graph.writers[outward] in ("a3.h0", "a1.h0")
    assert found[-1, outward] > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_full_model_is_perfect_and_the_empty_circuit_is_not(name: str) -> None:
    task, model = built(name), model_of(name)
    pairs = task.test
    full = model(pairs.clean, targets=pairs.targets)
    empty = model(pairs.clean, torch.zeros(model.graph.legal.shape), None, pairs.targets)
    first = next(iter(task.metrics.values()))
    for measure in (task.training_loss, first):
        assert measure(full, full, pairs).abs().max() < 1e-6
        assert measure(empty, full, pairs).mean() > 0.01
    assert task.metrics["accuracy"](full, full, pairs).min() == 1
    assert task.metrics["accuracy"](empty, full, pairs).mean() < 0.7
    n_targets = pairs.targets.shape[1]
    torch.testing.assert_close(
        task.training_loss(empty, full, pairs), n_targets * first(empty, full, pairs)
    )


def test_fewer_prompts_are_drawn_from_all_inputs_on_request() -> None:
    name = "tracr-xproportion"
    task = builder(name).build(model_of(name), seed=0, sizes=Sizes(train=20, test=50))
    assert (len(task.train), len(task.validation), len(task.test)) == (20, 256, 50)
    assert len(task.train.clean.unique(dim=0)) == 20
    for wrong in (0, 257):
        with pytest.raises(ValueError, match=f"{wrong} prompts asked for"):
            builder(name).build(model_of(name), seed=0, sizes=Sizes(test=wrong))


def test_a_model_that_is_no_compiled_program_is_refused() -> None:
    config = GPT2Config(vocab_size=11, n_layer=1, n_head=2, n_embd=8, n_positions=8)
    with pytest.raises(ValueError, match="no compiled program"):
        builder("tracr-reverse").build(MaskedTransformer(GPT2LMHeadModel(config)), seed=0)


def test_a_program_with_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        builder("tracr-reverse").build(model_of("tracr-xproportion"), seed=0)


def test_a_model_is_compiled_once_per_process() -> None:
    assert builder("tracr-reverse").load_model() is builder("tracr-reverse").load_model()
    assert model_of("tracr-reverse").id == "tracr/reverse"


def test_the_copies_of_an_input_have_corruptions_of_their_own() -> None:
    task = builder("tracr-reverse")
    generator = torch.Generator().manual_seed(0)
    pairs = all_inputs(task.program, model_of("tracr-reverse"), generator, bos=False, copies=4)
    assert len(pairs) == 4 * 27
    assert len(pairs.corrupted.view(4, -1).unique(dim=0)) == 4
