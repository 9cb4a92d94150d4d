"""Phi-1 and Phi-2: attention and MLP read the same stream through one norm; few dimensions turn."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import Linear, Module

from edgewise.architectures.decoder import Decoder, Norms, two_layers


class PhiArchitecture(Decoder):
    """Views into a `PhiForCausalLM`."""

    parallel: bool = True
    mlp_matrices: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, str]] = {**Decoder.settings, "norm_epsilon": "layer_norm_eps"}

    def final_norm(self) -> Module:
        return self._body.final_layernorm

    def norms(self, layer: int) -> Norms:
        block: Any = self._layers[layer]
        q, k = (getattr(block.self_attn, name, None) for name in ("q_layernorm", "k_layernorm"))
        return Norms(block.input_layernorm, block.input_layernorm, q=q, k=k)

    def output(self, layer: int) -> Linear:
        return self._layers[layer].self_attn.dense

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        mlp = self._layers[layer].mlp
        return two_layers(mlp.fc1, mlp.activation_fn, mlp.fc2, x)
