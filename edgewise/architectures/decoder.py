"""What the decoders of most families share. A family's file says where its parts are.

A layer reads the residual stream, x, in its attention and in its MLP:

    attention adds  after_attention(Σ_h attend(q_h, k_h, v_h) W_h),  q_h = q(norm_attention(x)), ...
    the MLP adds    after_mlp(mlp(norm_mlp(x)))

Each norm may be missing. Queries and keys may have a norm of their own and may be turned by a
rotary embedding, in all dimensions or the first ones. The embeddings, what the layers write and the
logits may be scaled, and attention scores and logits capped softly. Where `parallel` is true, the
MLP reads what the attention reads. All this is done here, for every family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, stack
from torch.nn import Linear, Module
from torch.nn.functional import embedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from edgewise.architectures.attention import attend, combine, positions, project, soft_capped
from edgewise.architectures.norms import (
    is_of_all_heads,
    normed,
    normed_projections,
    shared_norm,
)
from edgewise.backward_rules import activated, gated


class Projection(NamedTuple):
    """The matrix and bias of all heads' queries, keys or values."""

    weight: Float[Tensor, "head d_head d_model"]
    bias: Float[Tensor, "head d_head"] | None


@dataclass(frozen=True)
class Norms:
    """The norms of one layer; None where the family has none."""

    attention: Module | None
    mlp: Module | None
    q: Module | None = None
    k: Module | None = None
    after_attention: Module | None = None
    after_mlp: Module | None = None


class Decoder:
    """Views into a Hugging Face model; nothing is copied.

    A family overrides what differs from Llama: settings in its constructor, and the methods that
    find modules.
    """

    causal = True
    embeddings: tuple[str, ...] = ("tok",)
    parallel: bool = False
    norm_offset: ClassVar[float] = 0.0
    """Added to the weight of every norm but a layer norm."""
    mlp_matrices: ClassVar[int] = 3
    settings: ClassVar[Mapping[str, str]] = {
        "activation": "hidden_act",
        "norm_epsilon": "rms_norm_eps",
        "rotary": "rope_parameters",
    }
    """What shapes the logits besides weights: names in `configuration` and in the model's own."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self._model, self._config = model, config
        self._body: Any = model.base_model
        self._layers: list[Any] = self.layers()
        self.n_layers, self.n_heads = config.num_hidden_layers, config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.d_model = config.hidden_size
        self.d_head: int = getattr(config, "head_dim", None) or self.d_model // self.n_heads
        width = getattr(config, "intermediate_size", None) or 4 * self.d_model
        self.mlp_parameters = self.mlp_matrices * self.d_model * width
        self.n_tokens = self.n_outputs = config.vocab_size
        self._rotary: Any = getattr(self._body, "rotary_emb", None)
        self.trained_positions: int | None = config.max_position_embeddings
        self.max_positions: int | None = self.trained_positions
        if "pos" not in self.embeddings:
            self.max_positions = None if self._rotary is None else _rotary_limit(self._rotary)
        self.window = self.smallest_window()
        self.scale: float = self.d_head**-0.5
        self.embedding_scale: float | None = None
        self.write_scale: float | None = None
        self.logit_scale: float | None = None
        self.attention_cap: float | None = None
        self.logit_cap: float | None = None
        norms = self.norms(0)
        couples = norms.after_attention is not None or is_of_all_heads(norms.q, self.d_head)
        self.coupled_heads: bool = couples

    # Where the parts are; as in Llama.

    def layers(self) -> list[Any]:
        return list(self._body.layers)

    def final_norm(self) -> Module | None:
        return self._body.norm

    def norms(self, layer: int) -> Norms:
        block = self._layers[layer]
        return Norms(block.input_layernorm, block.post_attention_layernorm)

    def projections(self, layer: int) -> tuple[Projection, Projection, Projection]:
        """Those of q, k and v."""
        attention = self._layers[layer].self_attn
        q, k, v = (
            self.by_head(linear.weight, linear.bias)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return q, k, v

    def output(self, layer: int) -> Linear:
        return self._layers[layer].self_attn.o_proj

    def learned(self, places: Int[Tensor, "prompt position"]) -> Tensor:
        """Position embeddings `[prompt, position, d_model]`, if `embeddings` has `pos`."""
        raise NotImplementedError

    def rotary(
        self, layer: int, x: Tensor, places: Int[Tensor, "prompt position"]
    ) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines `[prompt, position, turned]`; None in a family without them."""
        return None if self._rotary is None else self._rotary(x, places)

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        """The MLP between its norms."""
        mlp = self._layers[layer].mlp
        return mlp.down_proj(gated(activated(mlp.act_fn, mlp.gate_proj(x)), mlp.up_proj(x)))

    def smallest_window(self) -> int | None:
        """The smallest sliding window in use. Longer prompts are refused."""
        attentions = [getattr(layer, "self_attn", None) for layer in self._layers]
        windows = [getattr(attention, "sliding_window", None) for attention in attentions]
        return min((window for window in windows if window is not None), default=None)

    def by_head(self, weight: Tensor, bias: Tensor | None) -> Projection:
        """A projection whose rows come head by head."""
        bias = None if bias is None else bias.view(-1, self.d_head)
        return Projection(weight.view(-1, self.d_head, self.d_model), bias)

    def fused_by_head(self, fused: Linear) -> tuple[Projection, Projection, Projection]:
        """Those of one matrix that holds, head by head, q, k and v."""
        shape = self.n_heads, 3, self.d_head
        weights = fused.weight.view(*shape, self.d_model).unbind(1)
        biases = (None,) * 3 if fused.bias is None else fused.bias.view(shape).unbind(1)
        q, k, v = (Projection(*part) for part in zip(weights, biases, strict=True))
        return q, k, v

    # What the engine asks for; the same in every family.

    def weights(self) -> dict[str, Tensor]:
        return dict(self._model.state_dict())

    def configuration(self) -> dict[str, Any]:
        return {
            "type": self._config.model_type,
            "heads": self.n_heads,
            "key_value_heads": self.n_kv_heads,
            "head_size": self.d_head,
            **{name: getattr(self._config, field) for name, field in self.settings.items()},
            "window": self.window,
        }

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        start: int = 0,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> list[Tensor]:
        length = start + tokens.shape[1]
        if self.window is not None and length > self.window:
            raise ValueError(
                f"prompts of {length} tokens with an active sliding window of "
                f"{self.window}: sliding-window attention is not supported, use shorter prompts"
            )
        weight = self._model.get_input_embeddings().weight
        written = [scaled(embedding(tokens, weight), _rounded(self.embedding_scale, weight))]
        if "pos" in self.embeddings:
            places = positions(start, tokens.shape[1], forks, tokens.device)
            written.append(self.learned(places).expand_as(written[0]))
        return written

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        assert heads is None or not self.coupled_heads
        chosen, shared = self._chosen(heads)
        start, past = (0, None) if past is None else (past.shape[2], past[:, shared])
        qkv = self._qkv(layer, x, heads, positions(start, x.shape[1], forks, x.device))
        z = attend(*qkv, past, forks, scale=self.scale, cap=self.attention_cap)
        output, norm = self.output(layer), self.norms(layer).after_attention
        weight = output.weight.view(-1, self.n_heads, self.d_head).permute(1, 2, 0)[chosen]
        written = combine(z, weight, output.bias, self.n_heads)
        if norm is not None:
            written = shared_norm(norm, written, self.norm_offset)
        return scaled(written, self.write_scale)

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        _, k, v = self._qkv(layer, x, None, positions(0, x.shape[1], None, x.device))
        return stack([k, v]).squeeze(2)

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        norms = self.norms(layer)
        written = self.feed_forward(layer, normed(norms.mlp, x, self.norm_offset))
        return scaled(normed(norms.after_mlp, written, self.norm_offset), self.write_scale)

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        head = self._model.get_output_embeddings()
        logits = head(normed(self.final_norm(), x, self.norm_offset))
        return soft_capped(scaled(logits, self.logit_scale), self.logit_cap)

    def _qkv(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None,
        places: Int[Tensor, "prompt position"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `[projection, batch, position, d_head]` each."""
        norms, (chosen, shared) = self.norms(layer), self._chosen(heads)
        x = normed(norms.attention, x, self.norm_offset)
        n_heads, readers = self.n_heads if heads is None else len(heads), x.shape[2]
        n_kv = (readers - n_heads) // 2
        inputs = (x, x, x) if readers == 1 else x.split([n_heads, n_kv, n_kv], dim=2)
        q, k, v = (
            project(part, weight.transpose(1, 2)[index], None if bias is None else bias[index])
            for part, (weight, bias), index in zip(
                inputs, self.projections(layer), (chosen, shared, shared), strict=True
            )
        )
        q = q if norms.q is None else normed_projections(norms.q, q, self.norm_offset)
        k = k if norms.k is None else normed_projections(norms.k, k, self.norm_offset)
        turns = self.rotary(layer, x, places)
        if turns is not None:  # on the device of the rotary embedding
            q, k = _turned(q, k, turns[0].to(x.device), turns[1].to(x.device))
        return q, k, v

    def _chosen(
        self, heads: Int[Tensor, " head"] | None
    ) -> tuple[slice | Int[Tensor, " head"], slice | Int[Tensor, " head"]]:
        """Indices of query heads, and of the key-value heads that they use."""
        if heads is None:
            return slice(None), slice(None)
        return heads, heads // (self.n_heads // self.n_kv_heads)


def two_layers(
    first: Linear, activation: Any, second: Linear, x: Float[Tensor, "batch position d_model"]
) -> Float[Tensor, "batch position d_model"]:
    """An MLP without a gate."""
    return second(activated(activation, first(x)))


def scaled(x: Float[Tensor, "..."], factor: float | None) -> Float[Tensor, "..."]:
    return x if factor is None else x * factor


def _rounded(factor: float | None, weight: Tensor) -> float | None:
    """The factor in the weights' number format, in which models store it."""
    return None if factor is None else float(torch.tensor(factor).to(weight.dtype))


def _turned(
    q: Float[Tensor, "projection batch position d_head"],
    k: Float[Tensor, "reader batch position d_head"],
    cos: Float[Tensor, "prompt position turned"],
    sin: Float[Tensor, "prompt position turned"],
) -> tuple[Tensor, Tensor]:
    """Queries and keys whose first dimensions are turned by their position; the rest stay."""
    width = cos.shape[-1]
    turned = apply_rotary_pos_emb(q[..., :width], k[..., :width], cos, sin, unsqueeze_dim=0)
    turned = turned[0].to(q.dtype), turned[1].to(k.dtype)  # OLMo's angles stay in float32
    if width == q.shape[-1]:
        return turned
    q, k = (
        torch.cat([first, whole[..., width:]], -1)
        for first, whole in zip(turned, (q, k), strict=True)
    )
    return q, k


def _rotary_limit(rotary: Any) -> int | None:
    """The longest prompt for which the logits do not depend on the other prompts of the batch.

    None for scalings that never make them depend on each other.
    """
    kinds = rotary.rope_type if isinstance(rotary.rope_type, dict) else {None: rotary.rope_type}
    parameters, limits = rotary.config.rope_parameters, []
    if "dynamic" in kinds.values():
        limits.append(rotary.config.max_position_embeddings)
    for layers, kind in kinds.items():
        if kind == "longrope":
            of_layers = parameters if layers is None else parameters[layers]
            limits.append(of_layers["original_max_position_embeddings"])
    return min(limits, default=None)
