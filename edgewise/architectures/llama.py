"""Llama, Mistral and Qwen2: rotary positions, RMSNorm, gated MLP, grouped-query attention.

The rotary embedding, with any scaling that the configuration asks for, is Hugging Face's module.
"""

from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, arange, stack
from torch.nn import Linear
from torch.nn.functional import rms_norm
from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedConfig,
    Qwen2ForCausalLM,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from edgewise.architectures.attention import attend, combine, project
from edgewise.backward_rules import activated, gated, normalized


class LlamaArchitecture:
    """Views into a Llama-type model; nothing is copied."""

    causal = True
    embeddings: tuple[str, ...] = ("tok",)

    def __init__(self, model: LlamaForCausalLM | MistralForCausalLM | Qwen2ForCausalLM) -> None:
        config = model.config
        self._model = model
        self._layers: list[Any] = list(model.model.layers)
        self.n_layers, self.n_heads = config.num_hidden_layers, config.num_attention_heads
        self.n_kv_heads: int = config.num_key_value_heads or self.n_heads
        self.d_model = config.hidden_size
        self.d_head = self._layers[0].self_attn.head_dim
        self.mlp_parameters = 3 * self.d_model * config.intermediate_size
        self.n_tokens = self.n_outputs = config.vocab_size
        self.max_positions: int | None = _rotary_limit(model.model.rotary_emb)
        self.trained_positions: int | None = config.max_position_embeddings
        self._window = _active_window(model.config, self._layers)

    def weights(self) -> dict[str, Tensor]:
        return dict(self._model.state_dict())

    def configuration(self) -> dict[str, Any]:
        config = self._model.config
        return {
            "type": config.model_type,
            "heads": self.n_heads,
            "key_value_heads": self.n_kv_heads,
            "head_size": self.d_head,
            "activation": config.hidden_act,
            "norm_epsilon": config.rms_norm_eps,
            "rotary": config.rope_parameters,
            "window": self._window,
        }

    def embed(self, tokens: Int[Tensor, "batch position"], start: int = 0) -> list[Tensor]:
        length = start + tokens.shape[1]
        if self._window is not None and length > self._window:
            raise ValueError(
                f"prompts of {length} tokens with an active sliding window of "
                f"{self._window}: sliding-window attention is not supported, use shorter prompts"
            )
        return [self._model.model.embed_tokens(tokens)]

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        attention, chosen, shared = self._layers[layer].self_attn, *self._chosen(heads)
        start, past = (0, None) if past is None else (past.shape[2], past[:, shared])
        z = attend(*self._qkv(layer, x, heads, start), past, scale=attention.scaling)
        output = attention.o_proj
        weight = output.weight.view(-1, self.n_heads, self.d_head).permute(1, 2, 0)[chosen]
        return combine(z, weight, output.bias, self.n_heads)

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        _, k, v = self._qkv(layer, x)
        return stack([k, v]).squeeze(2)

    def _qkv(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        start: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `[projection, batch, position, d_head]` each."""
        block = self._layers[layer]
        attention, chosen, shared = block.self_attn, *self._chosen(heads)
        x = _normalized(block.input_layernorm, x)
        n_heads, readers = self.n_heads if heads is None else len(heads), x.shape[2]
        n_kv = (readers - n_heads) // 2
        parts = (x, x, x) if readers == 1 else x.split([n_heads, n_kv, n_kv], dim=2)
        q = self._project(parts[0], attention.q_proj, chosen)
        k = self._project(parts[1], attention.k_proj, shared)
        v = self._project(parts[2], attention.v_proj, shared)
        cos, sin = self._model.model.rotary_emb(
            x, arange(start, start + x.shape[1], device=x.device)[None]
        )  # [1, position, d_head] each, on the device of the rotary embedding
        return *apply_rotary_pos_emb(q, k, cos.to(x.device), sin.to(x.device)), v

    def _chosen(
        self, heads: Int[Tensor, " head"] | None
    ) -> tuple[slice | Int[Tensor, " head"], slice | Int[Tensor, " head"]]:
        """Indices of query heads, and of the key-value heads that they use."""
        if heads is None:
            return slice(None), slice(None)
        return heads, heads // (self.n_heads // self.n_kv_heads)

    def _project(
        self,
        x: Float[Tensor, "batch position reader d_model"],
        linear: Linear,
        heads: slice | Int[Tensor, " head"],
    ) -> Float[Tensor, "projection batch position d_head"]:
        weight = linear.weight.view(-1, self.d_head, self.d_model).transpose(1, 2)[heads]
        bias = None if linear.bias is None else linear.bias.view(-1, self.d_head)[heads]
        return project(x, weight, bias)

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        block = self._layers[layer]
        mlp, x = block.mlp, _normalized(block.post_attention_layernorm, x)
        return mlp.down_proj(gated(activated(mlp.act_fn, mlp.gate_proj(x)), mlp.up_proj(x)))

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        return self._model.lm_head(_normalized(self._model.model.norm, x))


def _normalized(norm: Any, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Hugging Face's norm; on a GPU torch's, which reads memory once instead of ten times.

    In bfloat16 the two differ by its rounding: torch's rounds once, after the weight.
    """
    weight, epsilon = norm.weight, norm.variance_epsilon
    function = partial(rms_norm, normalized_shape=weight.shape, weight=weight, eps=epsilon)
    own = function if x.is_cuda else norm
    return normalized(own, x, weight=weight, epsilon=epsilon, centred=False)


def _rotary_limit(rotary: Any) -> int | None:
    """The longest prompt for which the logits do not depend on the other prompts of the batch.

    None for scalings that never make them depend on each other.
    """
    if rotary.rope_type == "dynamic":
        return rotary.config.max_position_embeddings
    if rotary.rope_type == "longrope":
        return rotary.config.rope_parameters["original_max_position_embeddings"]
    return None


def _active_window(config: PreTrainedConfig, layers: list[Any]) -> int | None:
    """The smallest sliding window in use: Mistral's is for all layers, Qwen2's for some of them."""
    if config.model_type == "mistral":
        return config.sliding_window
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in layers]
    return min((window for window in windows if window is not None), default=None)
