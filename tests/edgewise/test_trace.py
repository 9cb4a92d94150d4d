"""A trace is the model's own pass, and its scores are the gradient of the mask."""

import pytest
import torch
from torch import Tensor

from edgewise.trace import Trace
from edgewise.transformer import MaskedTransformer
from tests.methods import toys
from tests.methods.test_eap import MODELS
from tests.models import random_pairs

EACH_MODEL = pytest.mark.parametrize("model", MODELS)
PAIRS = random_pairs([7, 7, 7])


def losses(logits: Tensor) -> Tensor:
    """One for each prompt, not linear in the logits."""
    return logits.tanh().cumsum(-1).flatten(1).sum(1)


def transposed(written: Tensor) -> Tensor:
    return written.transpose(1, 2)


@EACH_MODEL
def test_logits_and_outputs_are_those_of_the_full_pass(model: str) -> None:
    toy = MODELS[model]()
    for gradient in (True, False):
        trace = Trace(toy, PAIRS.clean, PAIRS.targets, gradient=gradient)
        assert trace.logits.requires_grad == gradient
        torch.testing.assert_close(trace.logits.detach(), toy(PAIRS.clean, targets=PAIRS.targets))
        written = toy.activations(PAIRS.clean)
        torch.testing.assert_close(transposed(trace.written), written)


@EACH_MODEL
def test_scores_are_minus_the_gradient_of_the_mask(model: str) -> None:
    """Prompt by prompt, at a mask of ones."""
    toy = MODELS[model]()
    ablated = toy.activations(PAIRS.corrupted)
    mask = torch.ones(3, *toy.graph.legal.shape, dtype=torch.float64, requires_grad=True)
    logits = toy(PAIRS.clean, mask, ablated, PAIRS.targets, paired=True)
    (expected,) = torch.autograd.grad(losses(logits).sum(), mask)
    trace = Trace(toy, PAIRS.clean, PAIRS.targets)
    found = trace.scores(losses(trace.logits), transposed(ablated) - trace.written)
    torch.testing.assert_close(found, -expected * toy.graph.legal)


@EACH_MODEL
def test_embeddings_and_outputs_can_be_given(model: str) -> None:
    """Those of the corrupted prompt, for all that feeds `out`, give its logits."""
    toy = MODELS[model]()
    corrupted = toy.activations(PAIRS.corrupted)
    n_embeddings = len(toy.graph.embeddings)
    moved = Trace(toy, PAIRS.clean, PAIRS.targets, embedded=corrupted[:, :, :n_embeddings])
    expected = toy(PAIRS.corrupted, targets=PAIRS.targets)
    torch.testing.assert_close(moved.logits.detach(), expected)
    outputs = {block.index: corrupted[:, :, block.writers] for block in toy.graph.blocks[:-1]}
    clean = toy.activations(PAIRS.clean)[:, :, :n_embeddings]
    replaced = Trace(toy, PAIRS.clean, PAIRS.targets, outputs=outputs)
    residual = clean.sum(2) + corrupted[:, :, n_embeddings:].sum(2)
    rows = torch.arange(3)[:, None], PAIRS.targets
    torch.testing.assert_close(replaced.logits.detach(), toy.architecture.unembed(residual)[rows])
    found = replaced.scores(losses(replaced.logits), replaced.written)
    assert (found[:, :-1] == 0).all()
    assert found[:, -1].abs().min() > 0


def test_a_layer_that_is_cut_off_passes_no_gradient() -> None:
    """As if what it writes were constant; the same trace is differentiated several times."""
    toy = toys.gpt2()
    trace, blocks = Trace(toy, PAIRS.clean, PAIRS.targets), toy.graph.blocks
    difference = torch.randn_like(trace.written)
    loss = losses(trace.logits)
    for layer in range(toy.graph.n_layers):
        own = {
            block.index: transposed(trace.written[:, block.writers])
            for block in blocks
            if block.layer == layer
        }
        constant = Trace(toy, PAIRS.clean, PAIRS.targets, outputs=own)
        expected = constant.scores(losses(constant.logits), difference)
        found = trace.scores(loss, difference, without_layer=layer, again=True)
        torch.testing.assert_close(found, expected)
    whole = Trace(toy, PAIRS.clean, PAIRS.targets)
    expected = whole.scores(losses(whole.logits), difference)
    torch.testing.assert_close(trace.scores(loss, difference), expected)


def test_recomputed_blocks_keep_nothing_and_count_twice() -> None:
    toy = toys.llama()
    kept = _scores(toy)
    toy.recompute = True
    assert torch.equal(_scores(toy), kept)


def _scores(toy: MaskedTransformer) -> Tensor:
    trace = Trace(toy, PAIRS.clean, PAIRS.targets)
    return trace.scores(losses(trace.logits), trace.written)
