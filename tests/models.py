"""Tiny random models of every supported architecture in many shapes, and prompts for them.

All weights are random, biases and norms too, which a fresh model leaves at zero and one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from edgewise.circuit import Circuit
from edgewise.graph import Ablation, Graph
from edgewise.prompts import PromptPairs
from edgewise.transformer import MaskedTransformer

TINY_GPT2 = Path(__file__).parent / "data" / "tiny-gpt2"
"""A stored random GPT-2, and what other tools give on it."""
TINY_LLAMA = Path(__file__).parent / "data" / "tiny-llama"
"""A stored random Llama with grouped keys and values, and what other tools give on it."""
VOCAB = 40
MAX_POSITIONS = 16
TOLERANCE: dict[str, Any] = dict(rtol=1e-5, atol=1e-5)

HFModel = Any  # a loaded Hugging Face model; its own types know no attribute of its modules
Build = Callable[[], HFModel]


def gpt2(**changes: Any) -> HFModel:
    sizes = dict(vocab_size=VOCAB, n_positions=MAX_POSITIONS, n_embd=24, n_layer=2, n_head=3)
    config = GPT2Config(**{**sizes, "bos_token_id": 0, "eos_token_id": 0, **changes})
    return randomised(GPT2LMHeadModel(config))


def llama(**changes: Any) -> HFModel:
    return randomised(LlamaForCausalLM(LlamaConfig(**{**_rotary_sizes(), **changes})))


def mistral(**changes: Any) -> MistralForCausalLM:
    config = MistralConfig(**{**_rotary_sizes(), "sliding_window": None, **changes})
    return randomised(MistralForCausalLM(config))


def qwen2(**changes: Any) -> Qwen2ForCausalLM:
    return randomised(Qwen2ForCausalLM(Qwen2Config(**{**_rotary_sizes(), **changes})))


def _rotary_sizes() -> dict[str, Any]:
    return dict(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
    )


def rope(rope_type: str, **parameters: Any) -> dict[str, Any]:
    return dict(rope_parameters=dict(rope_type=rope_type, rope_theta=10000.0, **parameters))


def randomised(model: Any) -> Any:
    """The model in evaluation mode, its weights the same each time."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        norm = weight.ndim == 1 and name.endswith("weight")
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2 + norm
    model.tie_weights()
    return model.eval()


_LLAMA3 = dict(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8)

MODELS: Mapping[str, Build] = {
    "gpt2": gpt2,
    "gpt2 with an untied head": partial(gpt2, tie_word_embeddings=False),
    "gpt2 with a narrow relu MLP": partial(gpt2, n_inner=10, activation_function="relu"),
    "gpt2 scaled by layer": partial(gpt2, scale_attn_by_inverse_layer_idx=True, n_layer=3),
    "gpt2 unscaled": partial(gpt2, scale_attn_weights=False),
    "gpt2 scaled by layer alone": partial(
        gpt2, scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True
    ),
    "gpt2 with one head": partial(gpt2, n_head=1, n_layer=1),
    "llama": llama,
    "llama with a tied head": partial(llama, tie_word_embeddings=True),
    "llama ungrouped": partial(llama, num_key_value_heads=4),
    "llama with one key-value head": partial(llama, num_key_value_heads=1),
    "llama with one head": partial(llama, num_attention_heads=1, num_key_value_heads=1),
    "llama with biases": partial(llama, attention_bias=True, mlp_bias=True),
    "llama with wide heads": partial(llama, head_dim=10, attention_bias=True),
    "llama with narrow heads": partial(llama, head_dim=2),
    "llama with linear rope": partial(llama, **rope("linear", factor=4.0)),
    "llama with dynamic rope": partial(llama, **rope("dynamic", factor=4.0)),
    "llama with yarn": partial(
        llama, **rope("yarn", factor=4.0, original_max_position_embeddings=4)
    ),
    "llama with llama3 rope": partial(llama, **rope("llama3", factor=8.0, **_LLAMA3)),
    "llama with longrope": partial(
        llama,
        **rope(
            "longrope",
            factor=2.0,
            short_factor=[1.0, 1.5, 2.0],
            long_factor=[2.0, 4.0, 6.0],
            original_max_position_embeddings=8,
        ),
    ),
    "mistral": mistral,
    "mistral with a window that holds the prompt": partial(mistral, sliding_window=7),
    "mistral with wide heads": partial(mistral, head_dim=10, tie_word_embeddings=True),
    "qwen2": qwen2,
    "qwen2 with a tied head": partial(qwen2, tie_word_embeddings=True, num_key_value_heads=1),
    "qwen2 with a window that holds the prompt": partial(
        qwen2, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
}

MODES: Mapping[str, tuple[Build, dict[str, Any]]] = {
    "gpt2": (gpt2, {}),
    "gpt2, joint embeddings": (gpt2, dict(embeddings="joint")),
    "llama": (partial(llama, attention_bias=True), {}),
    "llama, grouped": (partial(llama, attention_bias=True), dict(kv_heads="key-value")),
}
"""The ways in which a model becomes a graph: how to build it, and how to wrap it."""

ABLATIONS: tuple[Ablation, ...] = ("interchange", "zero", "mean")


def ablated_by(ablation: Ablation, model: MaskedTransformer, corrupted: Tensor) -> Tensor | None:
    """What removed edges carry, for prompts of one length."""
    if ablation == "zero":
        return None
    activations = model.activations(corrupted)
    return activations if ablation == "interchange" else activations.mean(0)


def random_tokens(prompts: int, width: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (prompts, width), generator=generator)


def random_pairs(lengths: list[int], *, n_targets: int = 2, seed: int = 0) -> PromptPairs:
    """Prompts of these lengths, padded with noise; the last target is the last position."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    ends = torch.tensor(lengths)
    answers, distractors = torch.randint(
        0, VOCAB, (2, len(lengths), n_targets), generator=generator
    )
    return PromptPairs(
        clean=torch.randint(0, VOCAB, shape, generator=generator),
        corrupted=torch.randint(0, VOCAB, shape, generator=generator),
        lengths=ends,
        targets=ends[:, None] - torch.arange(n_targets, 0, -1),
        answers=answers,
        distractors=distractors,
    )


def tiny_pairs(folder: Path) -> PromptPairs:
    """The prompts beside a stored tiny model, scored at their last position."""
    prompts = load_file(folder / "prompts.safetensors")
    shape = prompts["clean"].shape
    return PromptPairs(
        clean=prompts["clean"],
        corrupted=prompts["corrupted"],
        lengths=torch.full(shape[:1], shape[1]),
        targets=torch.full((shape[0], 1), shape[1] - 1),
        answers=prompts["answer"][:, None],
        distractors=prompts["distractor"][:, None],
    )


def random_masks(graph: Graph, n_masks: int, *, density: float, seed: int = 0) -> Tensor:
    """Masks with about this share of the edges, and of the entries that are no edges."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_masks, *graph.legal.shape, generator=generator) < density


def random_soft_masks(graph: Graph, n_masks: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_masks, *graph.legal.shape, generator=generator)


def circuits_of(masks: Tensor, graph: Graph) -> list[Circuit]:
    return [Circuit(mask, graph) for mask in masks]
