"""What readers read under fractional masks, by gathering a few edges or by a product with all."""

import pytest
import torch
from torch import Tensor

from edgewise.graph import Graph
from edgewise.masked_run import Run
from edgewise.schedule import Part, schedule
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer
from tests.models import MODES, random_tokens

N_MASKS = 2
SHARES = {"one edge": 0.0, "up to the threshold": 0.25, "above it": 0.25, "all edges": 1.0}
"""Of the edges into a block. On a CPU, gathering pays up to a quarter of them."""


@pytest.fixture(params=["gpt2", "llama, grouped"])
def buffer(request: pytest.FixtureRequest) -> WriterBuffer:
    """One that holds random outputs of all writers."""
    build, options = MODES[request.param]
    model = MaskedTransformer(build().double(), **options)
    tokens = random_tokens(2, 5)
    shape = (*tokens.shape, len(model.graph.writers), model.architecture.d_model)
    buffer = model.buffer(tokens, torch.randn(shape).double(), n_masks=N_MASKS)
    outputs = torch.randn(N_MASKS * len(tokens), *shape[1:]).double()
    every = slice(0, len(model.graph.writers))
    buffer.store(outputs, range(N_MASKS), every, every)
    return buffer


def part_of(graph: Graph, writers: Tensor, masks: Tensor) -> Part:
    """The part that gives both masks these writers of a block, or `out`, which has none."""
    wanted = torch.zeros(N_MASKS, len(graph.writers), dtype=torch.bool)
    wanted[:, writers] = True
    return schedule(graph, wanted, masks != 0, torch.device("cpu"))[0]


def fractional(part: Part, n_edges: int, graph: Graph) -> Tensor:
    """Masks with so many edges into the part, each a different choice, and none elsewhere."""
    masks = torch.zeros(N_MASKS, *graph.legal.shape).double()
    for mask in masks:
        into = torch.zeros(part.n_readers * part.block.n_legal).double()
        chosen = torch.randperm(len(into))[:n_edges]
        into[chosen] = 0.1 + 0.8 * torch.rand(n_edges).double()
        mask[part.readers, : part.block.n_legal] = into.view(part.n_readers, -1)
    return masks


def dense(buffer: WriterBuffer, part: Part, masks: Tensor, delta: Tensor) -> Tensor:
    """What the part's readers get at all tokens."""
    assert buffer.residual is not None
    legal = slice(part.block.n_legal)
    products = torch.einsum("mrw,mtwd->mtrd", masks[:, part.readers, legal], delta[:, :, legal])
    return products + buffer.residual[part.block.index][:, None]


@pytest.mark.parametrize("rows", [None, torch.tensor([7, 0, 3])], ids=["all tokens", "some"])
@pytest.mark.parametrize("readers", ["an MLP", "attention", "a head", "out"])
@pytest.mark.parametrize("amount", SHARES)
def test_a_read_and_its_gradients_are_those_of_the_dense_product(
    amount: str, readers: str, rows: Tensor | None, buffer: WriterBuffer
) -> None:
    graph = buffer.graph
    _, mlp, attention, *_ = (torch.arange(len(graph.writers))[one.writers] for one in graph.blocks)
    writers = {"an MLP": mlp, "attention": attention, "a head": attention[1:2], "out": mlp[:0]}
    whole = part_of(graph, writers[readers], graph.legal.expand(N_MASKS, -1, -1))
    n_edges = max(1, int(SHARES[amount] * whole.n_reads / N_MASKS)) + (amount == "above it")
    masks = fractional(whole, n_edges, graph).requires_grad_()
    part = part_of(graph, writers[readers], masks)
    is_gathered = amount in ("one edge", "up to the threshold")
    assert (part.gathers is not None) == is_gathered

    delta = buffer.delta.clone().requires_grad_()
    expected = dense(buffer, part, masks, delta)[:, slice(None) if rows is None else rows]
    cotangent = torch.randn_like(expected)
    of_masks, of_delta = torch.autograd.grad(expected, (masks, delta), cotangent)
    buffer.delta.requires_grad_(is_gathered)
    found = Run(buffer, buffer.weights(masks), [part]).read(part, rows)
    torch.testing.assert_close(found, expected)
    if is_gathered:  # edges that the masks lack have no gradient
        gradients = torch.autograd.grad(found, (masks, buffer.delta), cotangent)
        of_masks = of_masks * (masks != 0)
    else:  # the writers' gradient is summed in the buffer
        gradients = *torch.autograd.grad(found, masks, cotangent), buffer.gradient()
    torch.testing.assert_close(gradients, (of_masks, of_delta))
