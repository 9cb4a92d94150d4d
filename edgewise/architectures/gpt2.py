"""GPT-2: learned positions, LayerNorm, one fused matrix for q, k and v."""

from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import gelu
from transformers import GPT2LMHeadModel
from transformers.activations import NewGELUActivation

from edgewise.architectures.attention import attend, combine, positions, project
from edgewise.architectures.norms import normed
from edgewise.backward_rules import activated


class GPT2Architecture:
    """Views into a `GPT2LMHeadModel`; nothing is copied."""

    causal = True
    parallel = coupled_heads = False
    embeddings: tuple[str, ...] = ("tok", "pos")

    def __init__(self, model: GPT2LMHeadModel) -> None:
        config = model.config
        if config.add_cross_attention:
            raise ValueError("add_cross_attention=True: cross-attention is not supported")
        self._model = model
        self._layers: list[Any] = list(model.transformer.h)
        self.n_layers, self.n_heads = config.n_layer, config.n_head
        self.n_kv_heads = self.n_heads
        self.d_model, self.d_head = config.n_embd, config.n_embd // config.n_head
        self.mlp_parameters = 2 * self.d_model * (config.n_inner or 4 * self.d_model)
        self.n_tokens = self.n_outputs = config.vocab_size
        self.max_positions: int | None = config.n_positions
        self.trained_positions: int | None = self.max_positions

    def weights(self) -> dict[str, Tensor]:
        return dict(self._model.state_dict())

    def configuration(self) -> dict[str, Any]:
        config = self._model.config
        return {
            "type": config.model_type,
            "heads": config.n_head,
            "activation": config.activation_function,
            "norm_epsilon": config.layer_norm_epsilon,
            "scale_attention": config.scale_attn_weights,
            "scale_attention_by_layer": config.scale_attn_by_inverse_layer_idx,
        }

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        start: int = 0,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> list[Tensor]:
        transformer = self._model.transformer
        position = transformer.wpe(positions(start, tokens.shape[1], forks, tokens.device))
        return [transformer.wte(tokens), position.expand(*tokens.shape, -1)]

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        output = self._layers[layer].attn.c_proj
        chosen = slice(None) if heads is None else heads
        past = None if past is None else past[:, chosen]
        q, k, v = self._qkv(layer, x, chosen)
        z = attend(q, k, v, past, forks, scale=self._scale(layer))
        weight = output.weight.view(self.n_heads, self.d_head, -1)
        return combine(z, weight[chosen], output.bias, self.n_heads)

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        return self._qkv(layer, x, slice(None))[1:].squeeze(2)

    def _qkv(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: slice | Int[Tensor, " head"],
    ) -> Float[Tensor, "3 projection batch position d_head"]:
        block, shape = self._layers[layer], (self.n_heads, self.d_head)
        fused = block.attn.c_attn
        weight = fused.weight.view(-1, 3, *shape)
        if not isinstance(heads, slice):  # several times as fast as an index
            weight = weight.index_select(2, heads.to(weight.device))
        weight = weight.flatten(1, 2).transpose(0, 1)
        bias = fused.bias.view(3, *shape)[:, heads].flatten(0, 1)
        qkv = project(normed(block.ln_1, x), weight, bias)
        return qkv.view(3, -1, *qkv.shape[1:])

    def _scale(self, layer: int) -> float:
        config = self._model.config
        scale = self.d_head**-0.5 if config.scale_attn_weights else 1.0
        return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        block = self._layers[layer]
        act = block.mlp.act
        if isinstance(act, NewGELUActivation):
            act = partial(gelu, approximate="tanh")  # the same formula, once through the memory
        hidden = block.mlp.c_fc(normed(block.ln_2, x))
        return block.mlp.c_proj(activated(act, hidden))

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        return self._model.lm_head(normed(self._model.transformer.ln_f, x))
