"""A common prefix run once gives what running it with every prompt gives, for less work."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from edgewise.batches import Batches
from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.metrics import KL, LOGIT_DIFFERENCE
from edgewise.prefix import NO_PREFIX
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from tests.edgewise.conftest import WIDTH, Case
from tests.methods import toys
from tests.models import (
    ABLATIONS,
    MAX_POSITIONS,
    MODELS,
    TOLERANCE,
    circuits_of,
    gpt2,
    mistral,
    random_masks,
    random_pairs,
    random_soft_masks,
    random_tokens,
)

START = 9
LENGTHS = [4, 7, 3, 5]
"""Of the prompts after the start."""
TARGETS = torch.tensor([[6, 1], [1, 1], [0, 5]])
BUILDS = {
    "gpt2": toys.gpt2,
    "llama": toys.llama,
    "llama, key-value readers": lambda: toys.llama(kv_heads="key-value"),
}

close = torch.testing.assert_close


def after(start: Tensor, tokens: Tensor) -> Tensor:
    return torch.cat([start.expand(len(tokens), -1), tokens], 1)


def few_shot(lengths: list[int] = LENGTHS, start: int = START) -> PromptPairs:
    """Prompts and corrupted twins of several lengths that begin alike, scored at two positions."""
    pairs, shared = random_pairs(lengths), random_tokens(1, start, seed=3)
    return PromptPairs(
        clean=after(shared, pairs.clean),
        corrupted=after(shared, pairs.corrupted),
        lengths=pairs.lengths + start,
        targets=pairs.targets + start,
        answers=pairs.answers,
        distractors=pairs.distractors,
    )


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and from then on no prefix is run apart."""
    return lambda: monkeypatch.setattr("edgewise.batches.MIN_PREFIX", 10**6)


@pytest.mark.parametrize("name", MODELS)
def test_in_every_model_the_rest_of_a_prompt_gives_what_it_gives_in_the_whole(name: str) -> None:
    model = MaskedTransformer(MODELS[name]())
    start, clean, corrupted = (random_tokens(2, width, seed=width) for width in (4, 3, 2))
    start, corrupted = start[0], torch.cat([corrupted, clean[:, :1]], 1)
    prefix, whole = model.prefix(start), after(start, clean)
    close(model(clean, prefix=prefix), model(whole)[:, 4:], **TOLERANCE)
    ablated, of_whole = (
        model.activations(corrupted, prefix),
        model.activations(after(start, corrupted)),
    )
    close(ablated, of_whole[:, 4:], **TOLERANCE)
    for density in (0.2, 0.8):
        masks = random_masks(model.graph, 2, density=density)
        logits = model(clean, masks, ablated, prefix=prefix)
        close(logits, model(whole, masks, of_whole)[:, :, 4:], **TOLERANCE)


@pytest.mark.parametrize("recompute", [False, True])
def test_soft_masks_give_the_logits_and_gradients_of_whole_prompts(
    case: Case, recompute: bool
) -> None:
    model, start = case.model, random_tokens(1, START, seed=3)[0]
    model.recompute = recompute
    prefix, whole = model.prefix(start), after(start, case.clean)
    ablated = model.activations(case.corrupted, prefix)
    of_whole = model.activations(after(start, case.corrupted))
    masks = random_soft_masks(model.graph, 2).requires_grad_()
    logits = model(case.clean, masks, ablated, TARGETS, prefix)
    expected = model(whole, masks, of_whole, TARGETS + START)
    close(logits, expected, **TOLERANCE)
    gradient, of_expected = (
        torch.autograd.grad(values.square().sum(), masks)[0] for values in (logits, expected)
    )
    close(gradient, of_expected, rtol=1e-4, atol=1e-4)


def test_a_used_buffer_gives_the_logits_of_whole_prompts(case: Case) -> None:
    """As edges go one by one, with whole heads among them."""
    model, start = case.model, random_tokens(1, START, seed=3)[0]
    prefix, whole = model.prefix(start), after(start, case.clean)
    buffer = model.buffer(
        case.clean, model.activations(case.corrupted, prefix), n_masks=2, prefix=prefix
    )
    of_whole = model.activations(after(start, case.corrupted))
    masks = random_masks(model.graph, 2, density=0.3)
    for row in range(0, len(model.graph.readers), 4):
        masks[:, row] = False
        logits = model.run(buffer, masks, TARGETS)
        close(logits, model(whole, masks, of_whole, TARGETS + START), **TOLERANCE)


def test_the_common_start_ends_where_prompts_differ_and_before_any_target() -> None:
    pairs = few_shot()
    assert pairs.common_start() == START
    pairs.corrupted[2, 5] += 1
    assert pairs.common_start() == 5
    same = random_tokens(1, 8).expand(3, -1)
    targets = torch.tensor([[7, 6], [7, 4], [5, 5]])
    alike = PromptPairs(same, same, torch.tensor([8, 8, 8]), targets, targets)
    assert alike.common_start() == 4


@pytest.mark.parametrize("budget_bytes", [0, 30_000, 2**30])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_batch_gives_the_same_logits_and_gradients(
    case: Case, ablation: Any, budget_bytes: int, without: Any
) -> None:
    """Only interchange makes use of the prefix: elsewhere the mask reaches it."""
    pairs, (mask,) = few_shot(), random_soft_masks(case.model.graph, 1)
    mask.requires_grad_()
    found: list[list[Tensor]] = []
    for begin in (lambda: None, without):
        begin()
        batches = Batches(case.model, pairs, ablation, budget_bytes=budget_bytes)
        expects_prefix = begin is not without and ablation == "interchange"
        assert len(batches.prefix) == (START if expects_prefix else 0)
        batch = batches.batch(torch.tensor([1, 3, 0]))
        assert batch.pairs.clean.shape == (3, START + WIDTH)
        logits = case.model(batch.tokens, mask, batch.ablated, batch.targets, batch.prefix)
        gradient = torch.autograd.grad(logits.square().sum(), mask)[0]
        found.append([batch.full_logits, logits, gradient])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_short_common_start_is_run_with_the_prompts() -> None:
    model = MaskedTransformer(gpt2())
    assert Batches(model, few_shot(start=7), "interchange").prefix is NO_PREFIX
    assert len(Batches(model, few_shot(start=8), "interchange").prefix) == 8


def results(model: MaskedTransformer, task: Task) -> dict[str, Tensor]:
    """What every method finds, and how faithful some circuits are."""

    def generator() -> Generator:
        return torch.Generator().manual_seed(0)

    signed = EAP().discover(model, task, generator=generator()).extra["signed"]
    acdc = ACDC(threshold=0.01).discover(model, task, generator=generator())
    pruning = EdgePruning(steps=6, warmup_steps=2, target_warmup_steps=4, batch_size=3)
    circuit = pruning.discover(model, task, generator=generator())
    assert isinstance(circuit, Circuit)
    circuits = circuits_of(random_masks(model.graph, 5, density=0.5), model.graph)
    metrics = {"kl": KL, "logit_difference": LOGIT_DIFFERENCE}
    values = evaluate(model, task.test, circuits, metrics=metrics, ablation="interchange")
    return {"signed": signed, "acdc": acdc.mask, "edges": circuit.mask, **circuit.extra, **values}


@pytest.mark.parametrize("name", BUILDS)
def test_every_method_and_the_evaluator_find_the_same(name: str, without: Any) -> None:
    model, task = BUILDS[name](), toys.task(few_shot())
    found = results(model, task)
    without()
    expected = results(model, task)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        close(value, expected[key], rtol=1e-5, atol=1e-6, msg=lambda text, key=key: key + text)


def test_a_long_start_costs_next_to_nothing(without: Any) -> None:
    """Forward-equivalents of EAP on prompts of which five tokens in six are the start."""
    model = MaskedTransformer(gpt2(n_positions=64))
    pairs = few_shot([8, 10, 9, 7] * 8, start=48)
    task, work = toys.task(pairs), []
    for begin in (lambda: None, lambda: without()):
        begin()
        model.flops = 0
        EAP().discover(model, task, generator=torch.Generator())
        work.append(model.flops / model.forward_flops(pairs.lengths))
    assert work[0] < work[1] / 4


def test_a_prefix_of_a_model_that_is_not_causal_is_an_error() -> None:
    model = MaskedTransformer(gpt2(), id="both ways")
    model.architecture.causal = False
    with pytest.raises(ValueError, match="a prefix of 3 tokens for both ways; expected"):
        model.prefix(random_tokens(1, 3)[0])
    pairs = few_shot([5, 5])
    assert Batches(model, pairs, "interchange").prefix is NO_PREFIX


def test_an_empty_prefix_is_an_error() -> None:
    with pytest.raises(ValueError, match="a prefix of 0 tokens"):
        MaskedTransformer(gpt2()).prefix(torch.empty(0, dtype=torch.long))


@pytest.mark.parametrize(("hf", "limit"), [(gpt2(), MAX_POSITIONS), (mistral(sliding_window=6), 6)])
def test_the_prefix_counts_towards_the_longest_prompt(hf: Any, limit: int) -> None:
    model = MaskedTransformer(hf)
    prefix = model.prefix(random_tokens(1, 4)[0])
    model(random_tokens(1, limit - 4), prefix=prefix)
    with pytest.raises(ValueError, match=f"prompts of {limit + 1} tokens"):
        model(random_tokens(1, limit - 3), prefix=prefix)
