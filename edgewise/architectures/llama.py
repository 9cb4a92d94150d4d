"""Llama, Mistral and Qwen2: rotary positions, RMSNorm, gated MLP, grouped-query attention.

The rotary embedding, with any scaling that the configuration asks for, is Hugging Face's module.
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, arange
from torch.nn import Linear
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedConfig,
    Qwen2ForCausalLM,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from edgewise.architectures.attention import combine, project, repeat_heads


class LlamaArchitecture:
    """Views into a Llama-type model; nothing is copied."""

    causal = True
    embeddings: tuple[str, ...] = ("tok",)

    def __init__(self, model: LlamaForCausalLM | MistralForCausalLM | Qwen2ForCausalLM) -> None:
        config = model.config
        self._model = model
        self._layers: list[Any] = list(model.model.layers)
        self.n_layers, self.n_heads = config.num_hidden_layers, config.num_attention_heads
        self.n_kv_heads = config.num_key_value_heads
        self.d_model = config.hidden_size
        self.d_head = self._layers[0].self_attn.head_dim
        self.mlp_parameters = 3 * self.d_model * config.intermediate_size
        self.n_outputs = config.vocab_size
        self.max_positions: int | None = None
        self._window = _active_window(model.config, self._layers)

    def weights(self) -> dict[str, Tensor]:
        return dict(self._model.state_dict())

    def embed(self, tokens: Int[Tensor, "batch position"]) -> list[Tensor]:
        if self._window is not None and tokens.shape[1] > self._window:
            raise ValueError(
                f"prompts of {tokens.shape[1]} tokens with an active sliding window of "
                f"{self._window}: sliding-window attention is not supported, use shorter prompts"
            )
        return [self._model.model.embed_tokens(tokens)]

    def attention(
        self, layer: int, x: Float[Tensor, "batch position reader d_model"]
    ) -> Float[Tensor, "batch position head d_model"]:
        block = self._layers[layer]
        attention, heads = block.self_attn, self.n_heads
        x = block.input_layernorm(x)
        readers = x.shape[2]
        n_kv = (readers - heads) // 2
        parts = (x, x, x) if readers == 1 else x.split([heads, n_kv, n_kv], dim=2)
        linears = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (self._project(part, linear) for part, linear in zip(parts, linears, strict=True))
        cos, sin = self._model.model.rotary_emb(
            x, arange(x.shape[1], device=x.device)[None]
        )  # [1, position, d_head] each
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        k, v = repeat_heads(k, heads), repeat_heads(v, heads)
        z = scaled_dot_product_attention(q, k, v, is_causal=True, scale=attention.scaling)
        output = attention.o_proj
        weight = output.weight.view(-1, heads, self.d_head).permute(1, 2, 0)
        return combine(z, weight, output.bias)

    def _project(
        self, x: Float[Tensor, "batch position reader d_model"], linear: Linear
    ) -> Float[Tensor, "projection batch position d_head"]:
        weight = linear.weight.view(-1, self.d_head, self.d_model).transpose(1, 2)
        return project(
            x, weight, None if linear.bias is None else linear.bias.view(-1, self.d_head)
        )

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        block = self._layers[layer]
        return block.mlp(block.post_attention_layernorm(x))

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        return self._model.lm_head(self._model.model.norm(x))


def _active_window(config: PreTrainedConfig, layers: list[Any]) -> int | None:
    """The smallest sliding window in use: Mistral's is for all layers, Qwen2's for some of them."""
    if config.model_type == "mistral":
        return config.sliding_window
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in layers]
    return min((window for window in windows if window is not None), default=None)
