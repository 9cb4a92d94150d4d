"""Every family of models beyond GPT-2 and Llama: masks, gradients and reuse, in several shapes."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.architectures import ARCHITECTURES
from edgewise.graph import Ablation
from edgewise.trace import Trace
from edgewise.transformer import MaskedTransformer
from tests.families import FAMILIES, ORDINARY, family
from tests.family_twin import twin_of_family
from tests.models import HFModel, random_masks, random_soft_masks, random_tokens

CLEAN, CORRUPTED = random_tokens(2, 6, seed=1), random_tokens(2, 6, seed=2)
SINGLE = {"gpt_neo", "olmo2", "gemma2", "gemma3_text"}
"""Hugging Face computes parts of these in float32 where the engine does not."""
LEARNED = {"gpt_neo", "opt", "gpt_bigcode"}
"""The others take rotary angles, and some norms, from Hugging Face, which has them in float32."""
close = partial(torch.testing.assert_close, rtol=0)


@pytest.fixture(params=FAMILIES)
def hf(request: pytest.FixtureRequest) -> HFModel:
    return FAMILIES[request.param]()


@pytest.fixture(params=ORDINARY)
def ordinary(request: pytest.FixtureRequest, unchecked: None) -> HFModel:
    return FAMILIES[request.param]()


def every_mode(hf: HFModel) -> list[MaskedTransformer]:
    model = MaskedTransformer(hf)
    if model.architecture.n_kv_heads == model.architecture.n_heads:
        return [model]
    return [model, MaskedTransformer(hf, kv_heads="key-value")]


def hf_logits(hf: HFModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return hf(tokens).logits


def test_all_types_are_tested() -> None:
    types = {build().config.model_type for build in FAMILIES.values()}
    assert types == set(ARCHITECTURES) - {"gpt2", "llama", "mistral", "qwen2"}


def test_masks_of_ones_and_of_zeros_are_hugging_faces_logits(hf: HFModel) -> None:
    tolerance = 1e-4
    for model in (*every_mode(hf), MaskedTransformer(hf.double())):
        if model.dtype == torch.float64:
            tolerance = 1e-5 if hf.config.model_type in SINGLE else 1e-9
        ablated = model.activations(CORRUPTED)
        ones = torch.ones(model.graph.legal.shape)
        close(model(CLEAN), hf_logits(hf, CLEAN), atol=tolerance)
        close(model(CLEAN, ones, ablated), hf_logits(hf, CLEAN), atol=tolerance)
        close(model(CLEAN, 0 * ones, ablated), hf_logits(hf, CORRUPTED), atol=tolerance)


def test_random_masks_give_the_logits_of_the_slow_twin(hf: HFModel, unchecked: None) -> None:
    hf = hf.double()
    tolerance = 1e-9 if hf.config.model_type in LEARNED else 1e-5
    for model in every_mode(hf):
        ablated = model.activations(CORRUPTED[:1])
        (soft,) = random_soft_masks(model.graph, 1)
        (binary,) = random_masks(model.graph, 1, density=0.3)
        for mask, removed in ((soft, ablated), (binary, None)):
            ours = model(CLEAN[:1], mask, removed)[0]
            theirs = None if removed is None else removed[0]
            expected = twin_of_family(hf, model, CLEAN[0], mask.double(), theirs)
            close(ours, expected, atol=tolerance)


def test_the_masks_gradient_is_that_of_finite_differences(ordinary: HFModel) -> None:
    model = MaskedTransformer(ordinary.double())
    ablated, (mask, direction) = model.activations(CORRUPTED), random_soft_masks(model.graph, 2)
    at, step = torch.tensor([3, 5]), 1e-3

    def value(mask: Tensor) -> Tensor:
        return model(CLEAN, mask, ablated, at).log_softmax(-1)[:, 3].sum()

    mask = mask.double().requires_grad_()
    (gradient,) = torch.autograd.grad(value(mask), mask)
    with torch.no_grad():
        slope = (value(mask + step * direction) - value(mask - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-3, atol=1e-4)


def test_attribution_is_minus_the_masks_gradient_at_the_full_model(ordinary: HFModel) -> None:
    model = MaskedTransformer(ordinary)
    ablated, at = model.activations(CORRUPTED), torch.tensor([[3], [5]])
    ones = torch.ones(model.graph.legal.shape).requires_grad_()
    loss = model(CLEAN, ones, ablated, at)[:, 0, 3].sum()
    (gradient,) = torch.autograd.grad(loss, ones)
    trace = Trace(model, CLEAN, at)
    difference = ablated.transpose(1, 2) - trace.written
    scores = trace.scores(trace.logits[:, 0, 3], difference).sum(0)
    torch.testing.assert_close(-scores, gradient, rtol=1e-3, atol=1e-4)


def test_a_run_in_a_used_buffer_and_of_live_edges_gives_the_same(ordinary: HFModel) -> None:
    """Masks of which one row differs from the last, in which whole heads are dead."""
    for model in every_mode(ordinary):
        graph, ablated = model.graph, model.activations(CORRUPTED)
        buffer = model.buffer(CLEAN, ablated, n_masks=2)
        masks = random_masks(graph, 2, density=0.15)
        for row in range(0, len(graph.readers), 4):
            masks[:, row] ^= random_masks(graph, 2, density=0.5, seed=row)[:, row]
            fresh = model(CLEAN, masks, ablated)
            close(model.run(buffer, masks), fresh, atol=1e-4)
        removals: dict[Ablation, Any] = {"interchange": ablated, "zero": None}
        for ablation, removed in removals.items():
            live = graph.live(masks, ablation)
            assert live.sum() < (masks & graph.legal).sum()
            close(model(CLEAN, live, removed), model(CLEAN, masks, removed), atol=1e-4)


def test_shared_beginnings_and_padding_change_nothing(ordinary: HFModel) -> None:
    model = MaskedTransformer(ordinary)
    (mask,) = random_soft_masks(model.graph, 1)
    clean, corrupted = CLEAN.clone(), CORRUPTED.clone()
    clean[:, :2] = corrupted[:, :2] = torch.tensor([7, 9])
    whole = model(clean, mask, model.activations(corrupted))
    prefix = model.prefix(clean[0, :2])
    ablated = model.activations(corrupted[:, 2:], prefix)
    close(model(clean[:, 2:], mask, ablated, prefix=prefix), whole[:, 2:], atol=1e-4)
    padded, noise = (torch.cat([t, random_tokens(2, 2, seed=5)], 1) for t in (clean, corrupted))
    close(model(padded, mask, model.activations(noise))[:, :6], whole, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "limit"),
    [
        (partial(family, "gpt_neo", window_size=5), 5),
        (partial(family, "phi3", sliding_window=5), 5),
        (FAMILIES["phi3 with longrope"], 16),
        (partial(family, "gemma2", sliding_window=5), 5),
        (partial(family, "gemma3_text", sliding_window=5), 5),
        (partial(family, "starcoder2", sliding_window=5), 5),
        (partial(family, "opt"), 16),
        (
            partial(
                family, "qwen3", use_sliding_window=True, sliding_window=5, max_window_layers=1
            ),
            5,
        ),
    ],
    ids=["gpt_neo", "phi3", "longrope", "gemma2", "gemma3", "starcoder2", "opt", "qwen3"],
)
def test_prompts_longer_than_a_window_are_refused_and_the_longest_is_exact(
    build: Any, limit: int, unchecked: None
) -> None:
    hf = build()
    model, longest = MaskedTransformer(hf), random_tokens(2, limit)
    close(model(longest), hf_logits(hf, longest), atol=1e-4)
    with pytest.raises(ValueError, match=f"prompts of {limit + 1} tokens"):
        model(random_tokens(2, limit + 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(do_layer_norm_before=False), "do_layer_norm_before=False is not supported"),
        (dict(word_embed_proj_dim=12), "word_embed_proj_dim=12 is not supported; .* 24"),
    ],
)
def test_the_shape_of_opt_350m_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedTransformer(family("opt", **changes))
