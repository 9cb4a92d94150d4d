"""Tiny random models of the families beyond GPT-2 and Llama, in shapes that show what they have."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM

from tests.models import MAX_POSITIONS, VOCAB, Build, HFModel, randomised, rope

_ROTARY: dict[str, Any] = dict(
    hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4
)
_GROUPED: dict[str, Any] = _ROTARY | dict(num_key_value_heads=2, head_dim=6)
_SIZES: dict[str, dict[str, Any]] = {
    "gpt_neox": _ROTARY,
    "gpt_neo": dict(
        hidden_size=24, num_heads=3, num_layers=2, attention_types=[[["global", "local"], 1]]
    ),
    "opt": dict(
        hidden_size=24,
        word_embed_proj_dim=24,
        ffn_dim=20,
        num_hidden_layers=2,
        num_attention_heads=3,
    ),
    "qwen3": _GROUPED,
    "phi3": _GROUPED,
    "olmo2": _GROUPED,
    "gemma2": _GROUPED,
    "gemma3_text": _GROUPED,
    "gpt_bigcode": dict(n_embd=24, n_layer=2, n_head=3, n_positions=MAX_POSITIONS),
    "starcoder2": _GROUPED,
    "granite": _GROUPED,
    "phi": _ROTARY,
}


def family(model_type: str, **changes: Any) -> HFModel:
    sizes = _SIZES[model_type]
    if "n_positions" not in sizes:
        sizes = sizes | dict(max_position_embeddings=MAX_POSITIONS)
    ends = dict(bos_token_id=0, eos_token_id=0, pad_token_id=None, vocab_size=VOCAB)
    config = AutoConfig.for_model(model_type, **(ends | sizes | changes))
    # In some releases of transformers the default is sdpa, which leaves out Gemma 2's score cap.
    attention = "eager" if model_type == "gemma2" else None
    return randomised(AutoModelForCausalLM.from_config(config, attn_implementation=attention))


_LONG = dict(short_factor=[1.0, 1.5, 2.0], long_factor=[2.0, 4.0, 6.0])
_PARTIAL: dict[str, Any] = rope("default", partial_rotary_factor=0.34)  # 2 of 6 dimensions
_SLIDING = ["sliding_attention", "full_attention"]

FAMILIES: Mapping[str, Build] = {
    "gpt_neox": partial(family, "gpt_neox", **_PARTIAL),
    "gpt_neox, serial": partial(
        family, "gpt_neox", use_parallel_residual=False, num_attention_heads=3
    ),
    "gpt_neox without biases": partial(
        family, "gpt_neox", attention_bias=False, **rope("default", partial_rotary_factor=0.67)
    ),
    "gpt_neo": partial(family, "gpt_neo", window_size=8),
    "gpt_neo, wide": partial(family, "gpt_neo", intermediate_size=30, num_heads=2),
    "opt": partial(family, "opt"),
    "opt without biases": partial(
        family, "opt", enable_bias=False, activation_function="gelu", ffn_dim=30
    ),
    "opt without weights of norms": partial(family, "opt", layer_norm_elementwise_affine=False),
    "qwen3": partial(family, "qwen3"),
    "qwen3 with wide heads": partial(family, "qwen3", head_dim=10, num_key_value_heads=1),
    "phi3": partial(family, "phi3", **_PARTIAL),
    "phi3 with longrope": partial(
        family,
        "phi3",
        original_max_position_embeddings=MAX_POSITIONS,
        max_position_embeddings=4 * MAX_POSITIONS,
        **rope("longrope", factor=4.0, original_max_position_embeddings=MAX_POSITIONS, **_LONG),
    ),
    "olmo2": partial(family, "olmo2"),
    "olmo2 ungrouped": partial(family, "olmo2", num_key_value_heads=4),
    "gemma2": partial(
        family,
        "gemma2",
        query_pre_attn_scalar=4,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        sliding_window=8,
        layer_types=_SLIDING,
    ),
    "gemma2 without caps": partial(
        family,
        "gemma2",
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        head_dim=10,
        num_key_value_heads=4,
    ),
    "gemma3": partial(family, "gemma3_text", sliding_window=8, layer_types=_SLIDING),
    "gemma3 with a cap": partial(
        family, "gemma3_text", final_logit_softcapping=3.0, num_key_value_heads=1
    ),
    "gpt_bigcode": partial(family, "gpt_bigcode"),
    "gpt_bigcode ungrouped": partial(family, "gpt_bigcode", multi_query=False),
    "starcoder2": partial(family, "starcoder2"),
    "granite": partial(
        family,
        "granite",
        embedding_multiplier=3.0,
        attention_multiplier=0.3,
        residual_multiplier=0.7,
        logits_scaling=2.0,
    ),
    "phi": partial(family, "phi", **_PARTIAL),
    "phi with norms of queries": partial(family, "phi", qk_layernorm=True, **_PARTIAL),
}
"""By name."""
ORDINARY = [name for name in FAMILIES if " " not in name]
"""One of each type."""
