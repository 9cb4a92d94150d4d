"""Many random circuits one after the other on one buffer: what it held before never shows."""

import pytest
import torch
from torch import Tensor

from edgewise.transformer import MaskedTransformer
from tests.models import MODES, TOLERANCE, llama, random_tokens

CIRCUITS, AT_ONCE = 1_000, 20


def random_circuits(model: MaskedTransformer, seed: int) -> Tensor:
    """Of all densities; each differs from the one before in a few rows or in all."""
    generator = torch.Generator().manual_seed(seed)
    legal, masks = model.graph.legal, []
    mask = torch.zeros_like(legal)
    for _ in range(CIRCUITS):
        density, share = torch.rand(2, generator=generator)
        drawn = torch.rand(legal.shape, generator=generator) < density
        rows = torch.rand(len(legal), 1, generator=generator) < share
        mask = torch.where(rows, drawn, mask)
        masks.append(mask)
    return torch.stack(masks)


def all_run(model: MaskedTransformer, tokens: Tensor, masks: Tensor, ablated: Tensor) -> Tensor:
    """Every component of every circuit, as for a gradient."""
    return model(tokens, masks.float().requires_grad_(), ablated).detach()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_thousand_circuits_on_one_buffer_are_those_of_passes_in_full(
    mode: str, unchecked: None
) -> None:
    build, options = MODES[mode]
    model = MaskedTransformer(build(), **options)
    tokens, corrupted = (random_tokens(2, 3, seed=seed) for seed in (0, 1))
    ablated = model.activations(corrupted)
    masks = random_circuits(model, 0)
    expected = torch.cat([all_run(model, tokens, some, ablated) for some in masks.split(AT_ONCE)])
    one_by_one, together = (model.buffer(tokens, ablated, n_masks=n) for n in (1, AT_ONCE))
    for buffer in (one_by_one, together):
        buffer.delta[:, :, len(model.graph.embeddings) :] = torch.nan
    alone = torch.stack([model.run(one_by_one, mask) for mask in masks])
    torch.testing.assert_close(alone, expected, **TOLERANCE)
    at_once = torch.cat([model.run(together, some) for some in masks.split(AT_ONCE)])
    torch.testing.assert_close(at_once, expected, **TOLERANCE)


def test_heads_that_share_readers_are_stored_only_where_they_are_wanted() -> None:
    """The smallest case that was wrong: a1.h0 is cut off, then it leads to `out`."""
    model = MaskedTransformer(llama(), kv_heads="key-value")
    tokens, corrupted = (random_tokens(2, 5, seed=seed) for seed in (0, 1))
    ablated = model.activations(corrupted)
    edges = ["tok->m0", "m0->a1.h0.q", "tok->a1.h1.q", "tok->a1.kv0.v", "a1.h1->out"]
    first, second = (model.graph.mask_of(chosen) for chosen in (edges, [*edges, "a1.h0->out"]))
    buffer = model.buffer(tokens, ablated)
    model.run(buffer, first)
    torch.testing.assert_close(
        model.run(buffer, second), model(tokens, second, ablated), **TOLERANCE
    )
