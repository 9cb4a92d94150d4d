"""Small models of every architecture, with random weights drawn on the CPU and then moved."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Generator
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.speed.random_models import SPREAD
from edgewise.attribution import Attribution
from edgewise.mask_training import MaskMethod
from edgewise.transformer import MaskedTransformer
from methods import METHODS

Config = dict[str, Any]
CPU = torch.device("cpu")
TOKENS: Config = dict(vocab_size=40, bos_token_id=0, eos_token_id=0)
GPT2: Config = dict(n_positions=16, n_embd=24, n_layer=2, n_head=3)
WIDTHS: Config = dict(hidden_size=24, intermediate_size=36, head_dim=8, max_position_embeddings=16)
HEADS: Config = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
BANDS: Config = dict(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8)
ROPE: Config = dict(rope_parameters=dict(rope_type="llama3", rope_theta=1e4, factor=8.0, **BANDS))
PARTIAL: Config = dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.34)
WINDOWS: Config = dict(sliding_window=16, layer_types=["sliding_attention", "full_attention"])
LAYERS = [[["global", "local"], 1]]
UNGROUPED: Config = dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, **ROPE)


@dataclass(frozen=True, eq=False)
class Shape:
    """A small model of a type, and the options by which it becomes a graph."""

    name: str
    model_type: str
    config: Config = field(default_factory=dict)
    options: Config = field(default_factory=dict)

    def build(self) -> Any:
        """The model with random weights, biases and norms too, which a fresh one leaves alone."""
        sizes = GPT2 if self.model_type == "gpt2" else WIDTHS | HEADS
        config = AutoConfig.for_model(self.model_type, **(TOKENS | sizes | self.config))
        # Gemma 2's cap of attention scores is missing from sdpa, the default of some releases.
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation="eager" if self.model_type == "gemma2" else None,
        )
        generator = Generator().manual_seed(0)
        for name, weight in model.named_parameters():
            norm = weight.ndim == 1 and name.endswith("weight")
            weight.data = torch.randn(weight.shape, generator=generator) * SPREAD + norm
        model.tie_weights()
        return model.eval()


ATTRIBUTION = tuple(one() for one in METHODS.values() if issubclass(one, Attribution))
SCHEDULE: dict[str, Any] = dict(steps=10, warmup_steps=0, target_warmup_steps=5, batch_size=4)
MASKS = tuple(
    one(**{key: value for key, value in {**SCHEDULE, "circuits": 4}.items() if hasattr(one, key)})
    for one in METHODS.values()
    if issubclass(one, MaskMethod)
)
"""Every method that trains masks, for ten steps."""
FEW = (Shape("gpt2", "gpt2"), Shape("llama", "llama"))
ALL = (
    *FEW,
    Shape("gpt2, joint embeddings", "gpt2", options=dict(embeddings="joint")),
    Shape("gpt2 scaled by layer", "gpt2", dict(scale_attn_by_inverse_layer_idx=True, n_layer=3)),
    Shape("llama, key-value readers", "llama", options=dict(kv_heads="key-value")),
    Shape("llama ungrouped with biases and llama3 rope", "llama", UNGROUPED),
    Shape("mistral", "mistral", dict(sliding_window=None)),
    Shape("qwen2", "qwen2"),
    Shape("qwen3", "qwen3"),
    Shape("gpt_neox", "gpt_neox", dict(num_attention_heads=3, rope_parameters=PARTIAL)),
    Shape("gpt_neo", "gpt_neo", dict(num_attention_heads=3, attention_types=LAYERS)),
    Shape("opt", "opt", dict(num_attention_heads=3, ffn_dim=36, word_embed_proj_dim=24)),
    Shape("phi3", "phi3", dict(rope_parameters=PARTIAL, pad_token_id=None)),
    Shape("olmo2", "olmo2", dict(pad_token_id=None)),
    Shape("gemma2", "gemma2", dict(final_logit_softcapping=3.0, **WINDOWS)),
    Shape("gemma3_text", "gemma3_text", WINDOWS),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A shape's model in one type on one device, as Hugging Face's and as ours."""

    shape: Shape
    hf: Any
    model: MaskedTransformer

    @property
    def tolerance(self) -> float:
        # Of the others, Hugging Face computes norms and rotary angles in float32 whatever the type
        # of the weights, and float32 is rounded differently on every device.
        exact = self.shape.model_type == "gpt2" and self.model.dtype == torch.float64
        return 1e-9 if exact else 1e-4

    @property
    def reference(self) -> MaskedTransformer:
        """What numbers are held against: the same in float64 on the CPU."""
        return case_of(self.shape, torch.float64, CPU).model


@cache
def case_of(shape: Shape, dtype: torch.dtype, device: torch.device) -> Case:
    hf = shape.build().to(device, dtype)
    return Case(shape, hf, MaskedTransformer(hf, **shape.options))
