"""Masks of ones and of zeros are Hugging Face's own forward pass, in every shape of every model."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaForSequenceClassification,
)

from edgewise.architectures import ARCHITECTURES
from edgewise.graph import Graph
from edgewise.transformer import MaskedTransformer
from tests.models import (
    ABLATIONS,
    MODELS,
    TOLERANCE,
    HFModel,
    ablated_by,
    gpt2,
    llama,
    mistral,
    qwen2,
    random_masks,
    random_tokens,
    rope,
)

SIZES: dict[str, Any] = dict(
    vocab_size=30, hidden_size=24, num_hidden_layers=1, num_attention_heads=3
)
ENDS: dict[str, Any] = dict(bos_token_id=0, eos_token_id=0)
UNSUPPORTED: dict[str, Callable[[], HFModel]] = {
    "bloom": lambda: BloomForCausalLM(BloomConfig(**SIZES, **ENDS)),
    "falcon": lambda: FalconForCausalLM(FalconConfig(**SIZES, **ENDS)),
}


def hf_logits(hf: HFModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return hf(tokens).logits


@pytest.fixture(params=MODELS)
def hf(request: pytest.FixtureRequest) -> HFModel:
    return MODELS[request.param]()


def every_mode(hf: HFModel) -> list[MaskedTransformer]:
    options: list[dict[str, Any]] = [{}]
    options += [dict(embeddings="joint")] if hf.config.model_type == "gpt2" else []
    options += [dict(kv_heads="key-value")] if hf.config.model_type != "gpt2" else []
    return [MaskedTransformer(hf, **some) for some in options]


def test_without_a_mask_the_logits_are_hugging_faces(hf: HFModel) -> None:
    tokens = random_tokens(3, 7)
    for model in every_mode(hf):
        torch.testing.assert_close(model(tokens), hf_logits(hf, tokens), **TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_mask_of_ones_is_the_model_under_every_ablation(hf: HFModel, ablation: Any) -> None:
    clean, corrupted = random_tokens(3, 7, seed=1), random_tokens(3, 7, seed=2)
    for model in every_mode(hf):
        ones = torch.ones(model.graph.legal.shape)
        logits = model(clean, ones, ablated_by(ablation, model, corrupted))
        torch.testing.assert_close(logits, hf_logits(hf, clean), **TOLERANCE)


def test_an_empty_mask_under_interchange_is_the_model_on_the_corrupted_prompt(
    hf: HFModel,
) -> None:
    clean, corrupted = random_tokens(3, 7, seed=1), random_tokens(3, 7, seed=2)
    for model in every_mode(hf):
        empty = torch.zeros(model.graph.legal.shape)
        logits = model(clean, empty, model.activations(corrupted))
        torch.testing.assert_close(logits, hf_logits(hf, corrupted), **TOLERANCE)


def test_the_writers_add_up_to_hugging_faces_residual_stream(hf: HFModel) -> None:
    tokens = random_tokens(3, 7)
    with torch.no_grad():
        streams = hf(tokens, output_hidden_states=True).hidden_states
    for model in every_mode(hf):
        activations = model.activations(tokens)
        for block in model.graph.blocks[:-1]:
            if block.kind == "attention":  # the last stream comes after the final norm
                ours = activations[:, :, : block.n_legal].sum(2)
                torch.testing.assert_close(ours, streams[block.layer], **TOLERANCE)
        torch.testing.assert_close(
            model.architecture.unembed(activations.sum(2)), hf_logits(hf, tokens), **TOLERANCE
        )


def test_gpt2_small_has_the_papers_numbers_of_edges() -> None:
    with torch.device("meta"):  # shapes without weights
        hf = GPT2LMHeadModel(GPT2Config())
    assert MaskedTransformer(hf).graph.n_edges == 32_936
    assert MaskedTransformer(hf, embeddings="joint").graph.n_edges == 32_491


def test_the_graph_follows_the_model_and_the_options() -> None:
    grouped: dict[str, Any] = dict(kv_heads="key-value")
    joint: dict[str, Any] = dict(embeddings="joint")
    for hf, options, graph in [
        (gpt2(), {}, Graph(2, 3, ("tok", "pos"))),
        (gpt2(), joint, Graph(2, 3, ("embed",))),
        (gpt2(), grouped, Graph(2, 3, ("tok", "pos"))),
        (llama(), {}, Graph(2, 4, ("tok",))),
        (llama(), joint, Graph(2, 4, ("tok",))),
        (llama(), grouped, Graph(2, 4, ("tok",), n_kv_heads=2)),
        (qwen2(num_key_value_heads=1), grouped, Graph(2, 4, ("tok",), n_kv_heads=1)),
        (mistral(num_key_value_heads=4), grouped, Graph(2, 4, ("tok",))),
    ]:
        assert MaskedTransformer(hf, **options).graph == graph


@pytest.mark.parametrize("build", [gpt2, llama, qwen2])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-6), (torch.bfloat16, 0.15), (torch.float16, 0.02)],
    ids=str,
)
def test_every_float_type_is_run_as_loaded(
    build: Callable[[], HFModel], dtype: torch.dtype, tolerance: float
) -> None:
    hf = build().to(dtype)
    model = MaskedTransformer(hf)
    clean, corrupted = random_tokens(3, 7, seed=1), random_tokens(3, 7, seed=2)
    ablated, shape = model.activations(corrupted), model.graph.legal.shape
    close = partial(torch.testing.assert_close, rtol=0, atol=tolerance)
    assert model.dtype == ablated.dtype == model(clean).dtype == dtype
    close(model(clean), hf_logits(hf, clean))
    close(model(clean, torch.ones(shape), ablated), hf_logits(hf, clean))
    close(model(clean, torch.zeros(shape), ablated), hf_logits(hf, corrupted))
    (sparse,) = random_masks(model.graph, 1, density=0.1)
    by_products = model(clean, sparse.float().requires_grad_(), ablated).detach()
    close(model(clean, sparse, ablated), by_products)


def test_a_model_is_loaded_from_a_folder_as_hugging_face_loads_it(tmp_path: Path) -> None:
    hf = llama(tie_word_embeddings=True)
    hf.save_pretrained(tmp_path)
    model = MaskedTransformer.from_pretrained(tmp_path, kv_heads="key-value")
    tokens = random_tokens(3, 7)
    torch.testing.assert_close(model(tokens), hf_logits(hf, tokens), **TOLERANCE)
    assert model.id == str(tmp_path)
    assert model.weight_hash == MaskedTransformer(hf).weight_hash
    assert "a0.kv1.k" in model.graph.readers
    assert MaskedTransformer.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_stories15m_is_hugging_faces_model(stories: Path) -> None:
    hf = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    clean, corrupted = torch.randint(3, 32000, (2, 4, 20))
    model = MaskedTransformer.from_pretrained(stories)
    assert model.graph.n_edges == 2188
    ablated, mask = model.activations(corrupted), torch.ones(model.graph.legal.shape)
    for logits, tokens in [
        (model(clean), clean),
        (model(clean, mask, ablated), clean),
        (model(clean, mask), clean),
        (model(clean, 0 * mask, ablated), corrupted),
    ]:
        torch.testing.assert_close(logits, hf_logits(hf, tokens), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_model_is_an_error_that_names_it_and_the_supported_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not supported") as error:
        MaskedTransformer(UNSUPPORTED[name]())
    assert all(supported in str(error.value) for supported in ARCHITECTURES)


def test_an_unsupported_folder_is_an_error_before_any_weight_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dict(model_type="bloom")))
    with pytest.raises(ValueError, match=f"'bloom' of {tmp_path} is not supported"):
        MaskedTransformer.from_pretrained(tmp_path)


def test_a_model_without_its_head_is_an_error() -> None:
    with pytest.raises(ValueError, match="GPT2Model has no language-modelling head"):
        MaskedTransformer(GPT2Model(gpt2().config))
    config = llama().config
    with pytest.raises(ValueError, match="has no language-modelling head"):
        MaskedTransformer(LlamaForSequenceClassification(config))


def test_cross_attention_is_an_error() -> None:
    with pytest.raises(ValueError, match="cross-attention is not supported"):
        MaskedTransformer(gpt2(add_cross_attention=True))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_a_quantised_weight_is_an_error_that_names_it(dtype: torch.dtype) -> None:
    hf = llama()
    layer = hf.model.layers[1].mlp.up_proj
    layer.weight = nn.Parameter(layer.weight.to(dtype), requires_grad=False)
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj.weight is .*not supported"):
        MaskedTransformer(hf)


def test_a_quantised_folder_is_an_error_before_any_weight_is_read(tmp_path: Path) -> None:
    quantisation = dict(quant_method="gptq", bits=4)
    config = dict(model_type="llama", quantization_config=quantisation)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"weights of {tmp_path} are quantised"):
        MaskedTransformer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("build", "limit", "message"),
    [
        (gpt2, 16, "prompts of 17 tokens; unnamed takes up to 16"),
        (
            partial(mistral, sliding_window=6),
            6,
            "prompts of 7 tokens with an active sliding window of 6",
        ),
        (
            partial(qwen2, use_sliding_window=True, sliding_window=5, max_window_layers=1),
            5,
            "prompts of 6 tokens with an active sliding window of 5",
        ),
        (partial(llama, **rope("dynamic", factor=4.0)), 16, "prompts of 17 tokens"),
    ],
    ids=["learned positions", "mistral's window", "qwen2's window", "dynamic rope"],
)
def test_prompts_that_are_too_long_are_refused_and_the_longest_is_exact(
    build: Callable[[], HFModel], limit: int, message: str
) -> None:
    hf = build()
    model = MaskedTransformer(hf)
    longest = random_tokens(2, limit)
    torch.testing.assert_close(model(longest), hf_logits(hf, longest), **TOLERANCE)
    too_long = random_tokens(2, limit + 1)
    for attempt in (model, model.activations):
        with pytest.raises(ValueError, match=message):
            attempt(too_long)
    with pytest.raises(ValueError, match=message):
        model(too_long, torch.ones(model.graph.legal.shape))


def test_an_inactive_window_sets_no_limit() -> None:
    for hf in (
        qwen2(sliding_window=5, max_window_layers=1),
        qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=2),
        mistral(sliding_window=None),
    ):
        tokens = random_tokens(2, 9)
        torch.testing.assert_close(
            MaskedTransformer(hf)(tokens), hf_logits(hf, tokens), **TOLERANCE
        )
