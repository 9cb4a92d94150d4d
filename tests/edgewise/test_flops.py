"""Work is counted as torch counts it, forward and backward, and as Hugging Face would do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgewise.transformer import MaskedTransformer
from tests.edgewise.conftest import WIDTH, Case
from tests.models import (
    ABLATIONS,
    MODELS,
    HFModel,
    ablated_by,
    random_masks,
    random_soft_masks,
    random_tokens,
)

TARGETS = {
    "all": None,
    "one": torch.tensor([4, 0, 6]),
    "two": torch.tensor([[6, 1], [1, 1], [0, 5]]),
}


def in_place_product(_: Any, left: Any, right: Any, *, out_shape: Any = None, **__: Any) -> int:
    """torch counts `baddbmm` alone, not its in-place form."""
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[-1]


def weighted_sums(table: Any, indices: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """torch does not count gathers: of each of these vectors, a multiple is added to a sum."""
    return 2 * indices[0] * table[1]


@contextmanager
def counted_by_torch() -> Iterator[FlopCounterMode]:
    """The fused attention of CPUs goes uncounted, so attention is written out."""
    mapping = {
        torch.ops.aten.baddbmm_: in_place_product,
        torch.ops.aten._embedding_bag_forward_only: weighted_sums,
    }
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=mapping) as counter,
    ):
        yield counter


@pytest.fixture(params=MODELS)
def hf(request: pytest.FixtureRequest) -> HFModel:
    return MODELS[request.param]()


def test_a_full_pass_costs_what_hugging_faces_forward_pass_costs(hf: HFModel) -> None:
    hf.set_attn_implementation("eager")
    model = MaskedTransformer(hf)
    lengths = [3, 7, 7, 5]
    theirs = 0
    for length in lengths:
        with torch.no_grad(), counted_by_torch() as counter:
            hf(random_tokens(1, length))
        theirs += counter.get_total_flops()
    assert model.forward_flops(torch.tensor(lengths)) == theirs


def test_a_full_pass_is_counted_as_torch_counts_it(hf: HFModel) -> None:
    model, tokens = MaskedTransformer(hf), random_tokens(3, WIDTH)
    for targets in TARGETS.values():
        model.flops = 0
        with counted_by_torch() as counter:
            model(tokens, targets=targets)
        assert model.flops == counter.get_total_flops()
    model.flops = 0
    with counted_by_torch() as counter:
        model.activations(tokens)
    assert model.flops == counter.get_total_flops()


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("n_masks", [1, 3])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_masked_pass_is_counted_as_torch_counts_it(
    case: Case, ablation: Any, n_masks: int, targets: Any
) -> None:
    model = case.model
    ablated = ablated_by(ablation, model, case.corrupted)
    masks = random_soft_masks(model.graph, n_masks)
    model.flops = 0
    with counted_by_torch() as counter:
        model(case.clean, masks, ablated, targets)
    assert model.flops == counter.get_total_flops()


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(("n_masks", "paired"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_backward_pass_is_counted_as_torch_counts_it(
    case: Case, n_masks: int, paired: bool, targets: Any, recompute: bool
) -> None:
    model = case.model
    model.recompute = recompute
    ablated = model.activations(case.corrupted)
    masks = random_soft_masks(model.graph, n_masks).requires_grad_()
    model.flops = 0
    with counted_by_torch() as counter:
        loss = model(case.clean, masks, ablated, targets, paired=paired).square().sum()
    forward = counter.get_total_flops()
    assert model.flops == forward
    with counted_by_torch() as counter:
        loss.backward()
    assert model.flops - forward == counter.get_total_flops() > forward


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_work_after_a_prefix_is_counted_as_torch_counts_it(case: Case, density: float) -> None:
    """The prefix itself, the full and the corrupted run, the masked pass and its gradient."""
    model, targets = case.model, TARGETS["two"]
    model.flops = 0
    with counted_by_torch() as counter:
        prefix = model.prefix(random_tokens(1, 4)[0])
        model(case.clean, targets=targets, prefix=prefix)
        ablated = model.activations(case.corrupted, prefix)
        model(case.clean, random_masks(model.graph, 1, density=density), ablated, None, prefix)
        mask = random_soft_masks(model.graph, 1)[0].requires_grad_()
        model(case.clean, mask, ablated, targets, prefix).square().sum().backward()
    assert model.flops == counter.get_total_flops()


def test_sparse_circuits_are_counted_as_torch_counts_them(case: Case) -> None:
    model, graph = case.model, case.model.graph
    work = set()
    for mask in random_masks(graph, 5, density=0.1):
        model.flops = 0
        with counted_by_torch() as counter:
            model(case.clean, mask)
        assert model.flops == counter.get_total_flops()
        work.add(model.flops)
    assert len(work) > 1


def test_masks_that_run_together_cost_what_each_costs_alone(case: Case) -> None:
    """A mask's dead heads are not run because another's are alive."""
    model, masks = case.model, random_masks(case.model.graph, 5, density=0.1)
    model.flops = 0
    for mask in masks:
        model(case.clean, mask)
    alone, model.flops = model.flops, 0
    model(case.clean, masks)
    assert model.flops == alone


def test_a_run_after_a_change_counts_the_rest_alone(case: Case) -> None:
    """The higher the changed reader, the less depends on it."""
    model, graph = case.model, case.model.graph
    masks = torch.ones(1, *graph.legal.shape)
    buffer = model.buffer(case.clean, None)
    model.run(buffer, masks)
    work = []
    for block in graph.blocks:
        masks = masks.clone()
        masks[:, block.readers.start, 0] = 0
        model.flops = 0
        with counted_by_torch() as counter:
            model.run(buffer, masks)
        assert model.flops == counter.get_total_flops()
        work.append(model.flops)
    assert work == sorted(work, reverse=True)
