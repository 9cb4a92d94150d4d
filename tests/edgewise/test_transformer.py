"""The masked pass against its slow twin, and whatever must make no difference to it."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from edgewise import flops
from edgewise.graph import Block
from edgewise.schedule import Gather, Part, whole
from edgewise.transformer import MaskedTransformer
from tests.edgewise.conftest import WIDTH, Case
from tests.models import (
    ABLATIONS,
    TOLERANCE,
    HFModel,
    ablated_by,
    gpt2,
    llama,
    random_masks,
    random_soft_masks,
    random_tokens,
)
from tests.twin import twin_activations, twin_logits

close = torch.testing.assert_close


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_soft_masks_give_the_logits_of_the_slow_twin(case: Case, ablation: Any) -> None:
    model = case.model
    ablated = ablated_by(ablation, model, case.corrupted)
    for mask in random_soft_masks(model.graph, 2):
        expected = twin_logits(case.hf, model, case.clean, mask, ablated)
        close(model(case.clean, mask, ablated), expected, **TOLERANCE)


def test_activations_are_those_of_the_slow_twin(case: Case) -> None:
    expected = twin_activations(case.hf, case.model, case.clean)
    close(case.model.activations(case.clean), expected, **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_batch_of_prompts_gives_what_each_gives_alone(case: Case, ablation: Any) -> None:
    model, (mask,) = case.model, random_soft_masks(case.model.graph, 1)
    ablated = ablated_by(ablation, model, case.corrupted)
    together = model(case.clean, mask, ablated)
    full, activations = model(case.clean), model.activations(case.clean)
    for one in range(len(case.clean)):
        alone = slice(one, one + 1)
        theirs = ablated[alone] if ablated is not None and ablated.ndim == 4 else ablated
        close(model(case.clean[alone], mask, theirs), together[alone], **TOLERANCE)
        close(model(case.clean[alone]), full[alone], **TOLERANCE)
        close(model.activations(case.clean[alone]), activations[alone], **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_padded_prompts_give_the_same_logits(case: Case, ablation: Any) -> None:
    model, (mask,) = case.model, random_soft_masks(case.model.graph, 1)
    padded, corrupted = (
        torch.cat([tokens, random_tokens(3, 5, seed=9)], 1)
        for tokens in (case.clean, case.corrupted)
    )
    long = ablated_by(ablation, model, corrupted)
    short = ablated_by(ablation, model, case.corrupted)
    close(model(padded)[:, :WIDTH], model(case.clean), **TOLERANCE)
    logits = model(padded, mask, long)[:, :WIDTH]
    close(logits, model(case.clean, mask, short), **TOLERANCE)
    if long is not None and short is not None:
        close(long[..., :WIDTH, :, :], short, **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("targets", [None, [4, 0, 6], [[6, 1], [1, 1], [0, 5]]])
def test_a_batch_of_masks_gives_what_each_gives_alone(
    case: Case, ablation: Any, targets: Any
) -> None:
    model, masks = case.model, random_soft_masks(case.model.graph, 3)
    at = None if targets is None else torch.tensor(targets)
    ablated = ablated_by(ablation, model, case.corrupted)
    together = model(case.clean, masks, ablated, at)
    assert len(together) == len(masks)
    for mask, logits in zip(masks, together, strict=True):
        close(model(case.clean, mask, ablated, at), logits, **TOLERANCE)
    assert model(case.clean, masks[:1], ablated, at).shape == together[:1].shape


def test_targets_restrict_the_logits_to_those_positions(case: Case) -> None:
    model, masks = case.model, random_soft_masks(case.model.graph, 2)
    one = torch.tensor([4, 0, 6])
    several = torch.tensor([[6, 1, 2], [1, 1, 0], [0, 5, 4]])  # a position may come twice
    rows = torch.arange(3)
    for mask in (None, masks[0], masks):
        logits = model(case.clean, mask)
        close(model(case.clean, mask, targets=one), logits[..., rows, one, :], **TOLERANCE)
        expected = logits[..., rows[:, None], several, :]
        close(model(case.clean, mask, targets=several), expected, **TOLERANCE)


def test_entries_that_are_no_edges_are_ignored(case: Case) -> None:
    model, (mask, noise) = case.model, random_soft_masks(case.model.graph, 2)
    noisy = torch.where(model.graph.legal, mask, 100 * noise)
    ablated = model.activations(case.corrupted)
    for removed in (ablated, None):
        assert torch.equal(model(case.clean, noisy, removed), model(case.clean, mask, removed))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_dropping_edges_that_are_not_live_changes_nothing(case: Case, ablation: Any) -> None:
    model, graph = case.model, case.model.graph
    ablated = ablated_by(ablation, model, case.corrupted)
    for density in (0.05, 0.15, 0.4):
        masks = random_masks(graph, 12, density=density)
        live = graph.live(masks, ablation)
        assert live.sum() < (masks & graph.legal).sum()
        logits = model(case.clean, masks, ablated)
        close(model(case.clean, live, ablated), logits, **TOLERANCE)


def test_dropping_a_live_edge_changes_the_logits_under_interchange(case: Case) -> None:
    """Under zero ablation it need not: the pattern of a head whose values are constant, say."""
    model, graph = case.model, case.model.graph
    ablated = model.activations(case.corrupted)
    live = graph.live(random_masks(graph, 1, density=0.3)[0], "interchange")
    edges = live.nonzero()
    without = live.repeat(len(edges), 1, 1)
    without[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    change = model(case.clean, without, ablated) - model(case.clean, live, ablated)
    assert bool((change.abs().flatten(1).amax(1) > 1e-5).all())


def test_a_mask_of_any_type_and_layout_is_taken(case: Case) -> None:
    model, (mask, other) = case.model, random_masks(case.model.graph, 2, density=0.7)
    expected = model(case.clean, mask)
    assert torch.equal(model(case.clean, mask.float()), expected)
    assert torch.equal(model(case.clean, mask.double()), expected)
    assert torch.equal(model(case.clean, mask.T.contiguous().T), expected)
    spread = torch.stack([mask, other, mask, other])[::2]
    close(model(case.clean, spread)[1], expected, **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("targets", [None, torch.tensor([4, 0, 6])], ids=["all", "some"])
@pytest.mark.parametrize("density", [0.12, 0.9])
def test_a_run_in_a_used_buffer_equals_one_in_an_empty_buffer(
    case: Case, ablation: Any, targets: Any, density: float
) -> None:
    """Masks of which one row, or every row, differs from the last, some with dead components."""
    model, graph = case.model, case.model.graph
    ablated = ablated_by(ablation, model, case.corrupted)
    buffer = model.buffer(case.clean, ablated, n_masks=2)
    masks = random_masks(graph, 2, density=density)
    for row in range(-1, len(graph.readers), 3):
        if row >= 0:
            masks[:, row] ^= random_masks(graph, 2, density=0.5, seed=row)[:, row]
        logits = model.run(buffer, masks, targets)
        close(logits, model(case.clean, masks, ablated, targets), **TOLERANCE)
    others = random_soft_masks(graph, 2)
    close(
        model.run(buffer, others, targets),
        model(case.clean, others, ablated, targets),
        **TOLERANCE,
    )


def test_a_used_buffer_serves_other_targets(case: Case) -> None:
    model, mask = case.model, random_masks(case.model.graph, 1, density=0.5)[0]
    buffer = model.buffer(case.clean, None)
    for targets in (torch.tensor([4, 0, 6]), torch.tensor([1, 5, 2]), None):
        logits = model.run(buffer, mask, targets)
        close(logits, model(case.clean, mask, targets=targets), **TOLERANCE)


def reading(block: Block, n_edges: int) -> Part:
    edges = torch.zeros(n_edges, dtype=torch.int64)
    return replace(whole(block), gathers=(Gather(edges, edges, torch.zeros(1, dtype=torch.int64)),))


def test_only_what_depends_on_a_changed_edge_is_run_again(case: Case) -> None:
    model, graph, tokens = case.model, case.model.graph, case.clean.numel()
    first, second = graph.mask_of(["m0->m1", "m1->out", "a0.h0->out"]), graph.mask_of(["m1->out"])
    mask = first | graph.mask_of([f"{graph.embeddings[0]}->m1"])
    buffer = model.buffer(case.clean, None)
    model.run(buffer, first)
    model.flops = 0
    model.run(buffer, mask)  # m1 reads another writer
    m1, out = graph.blocks[-2:]
    again = [reading(m1, 2), reading(out, 2)]
    expected = sum(flops.block_flops(model.architecture, part.block, 1, tokens) for part in again)
    expected += sum(flops.read_flops(model.architecture, part, tokens) for part in again)
    assert model.flops == expected
    model.flops = 0
    model.run(buffer, mask & ~(first & ~second))  # and now neither m0 nor, at the output, a0.h0
    few = [reading(m1, 1), reading(out, 1)]
    expected = sum(flops.block_flops(model.architecture, part.block, 1, tokens) for part in few)
    expected += sum(flops.read_flops(model.architecture, part, tokens) for part in few)
    assert model.flops == expected


def test_components_that_cannot_reach_the_output_are_not_run(case: Case) -> None:
    model, graph, tokens = case.model, case.model.graph, case.clean.numel()
    path = [f"{graph.embeddings[0]}->m1", "m1->out"]
    dead = graph.mask_of([*path, "m0->a1.h1.q", "a0.h0->m0"])
    model.flops = 0
    logits = model(case.clean, dead)
    expected = 0
    for block in graph.blocks[-2:]:  # each reads one writer
        expected += flops.block_flops(model.architecture, block, 1, tokens)
        expected += flops.read_flops(model.architecture, reading(block, 1), tokens)
    assert model.flops == expected
    all_run = dead.float().requires_grad_()  # for a gradient, all must run
    close(model(case.clean, all_run), logits, **TOLERANCE)
    close(model(case.clean, graph.mask_of(path)), logits, **TOLERANCE)


def test_weights_are_frozen_in_place_and_shared_with_hugging_faces_model(case: Case) -> None:
    ours, theirs = case.model.architecture.weights(), case.hf.state_dict()
    assert {name: weight.data_ptr() for name, weight in ours.items()} == {
        name: weight.data_ptr() for name, weight in theirs.items()
    }
    assert not any(weight.requires_grad for weight in case.hf.parameters())
    assert not case.hf.training
    assert not case.model(case.clean).requires_grad


@pytest.mark.parametrize("build", [gpt2, llama])
def test_the_weight_hash_follows_the_weights_alone(build: Any) -> None:
    first, second = build(), build()
    expected = MaskedTransformer(first).weight_hash
    options: dict[str, Any] = dict(embeddings="joint", kv_heads="key-value", id="other")
    assert MaskedTransformer(second, **options).weight_hash == expected
    assert len(expected) == 64
    changed: HFModel = build()
    next(changed.parameters()).data[0, 7] += 1e-6
    assert MaskedTransformer(changed).weight_hash != expected
    assert MaskedTransformer(build().to(torch.bfloat16)).weight_hash != expected


def test_unknown_options_are_errors_that_list_the_known_ones(unchecked: None) -> None:
    options: Any
    for options in (dict(embeddings="apart"), dict(kv_heads="kv")):
        with pytest.raises(ValueError, match=r"='(apart|kv)'; expected '\w+' or '[\w-]+'"):
            MaskedTransformer(gpt2(), **options)


def test_masks_of_a_wrong_shape_are_errors_that_show_the_right_one(
    case: Case, unchecked: None
) -> None:
    readers, writers = case.model.graph.legal.shape
    for shape in ((readers, writers - 1), (writers, readers), (1, 1, readers, writers), (writers,)):
        with pytest.raises(
            ValueError, match=rf"expected \[reader, writer\] = \[{readers}, {writers}"
        ):
            case.model(case.clean, torch.ones(shape))


def test_tokens_that_are_no_batch_are_an_error(case: Case, unchecked: None) -> None:
    for tokens in (case.clean[0], case.clean[None]):
        for attempt in (case.model, case.model.activations):
            with pytest.raises(ValueError, match=r"expected \[batch, position\]"):
                attempt(tokens)


def test_token_ids_that_the_model_does_not_know_are_an_error(case: Case) -> None:
    for wrong in (-1, case.model.architecture.n_tokens):
        tokens = case.clean.index_fill(1, torch.tensor(0), wrong)
        for attempt in (case.model, case.model.activations):
            with pytest.raises(ValueError, match=rf"token ids from .*{wrong}.* knows 0 to"):
                attempt(tokens)


def test_ablated_activations_of_a_wrong_shape_are_an_error(case: Case, unchecked: None) -> None:
    mask = torch.ones(case.model.graph.legal.shape)
    ablated = case.model.activations(case.corrupted)
    for wrong in (ablated[:2], ablated[:, 1:], ablated[:, :, 1:], ablated[..., 1:], ablated[None]):
        with pytest.raises(ValueError, match=r"ablated activations of shape .* expected \[batch"):
            case.model(case.clean, mask, wrong)


def test_targets_that_do_not_fit_the_prompts_are_errors(case: Case, unchecked: None) -> None:
    for mask in (None, torch.ones(case.model.graph.legal.shape)):
        for wrong in (torch.tensor([0, 1]), torch.tensor(0), torch.zeros(3, 1, 1).long()):
            with pytest.raises(ValueError, match=r"targets of shape .* for 3 prompts"):
                case.model(case.clean, mask, targets=wrong)
        for outside in ([-1, 0, 0], [0, 0, WIDTH]):
            with pytest.raises(ValueError, match=r"expected positions from 0 to 6"):
                case.model(case.clean, mask, targets=torch.tensor(outside))


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("density", [0.1, 0.6])
def test_a_store_padded_as_on_an_accelerator_gives_the_same(
    case: Case, ablation: Any, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ablated = case.model, ablated_by(ablation, case.model, case.corrupted)
    masks = random_masks(model.graph, 3, density=density)
    soft = random_soft_masks(model.graph, 2)

    def results() -> list[torch.Tensor]:
        buffer = model.buffer(case.clean, ablated, n_masks=3)
        logits = [model.run(buffer, masks), model.run(buffer, masks.flip(0))]
        trained = soft.clone().requires_grad_()
        model.run(buffer, trained).square().mean().backward()
        assert trained.grad is not None
        return [*logits, trained.grad, model.run(buffer, masks)]

    expected = results()
    monkeypatch.setattr("edgewise.writers.alignment", lambda device: 8)
    for ours, theirs in zip(results(), expected, strict=True):
        close(ours, theirs, **TOLERANCE)
