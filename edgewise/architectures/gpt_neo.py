"""GPT-Neo, as in TinyStories: learned positions, attention scores without a scale.

In every second layer of most models attention is local: prompts longer than its window are refused.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Linear, Module

from edgewise.architectures.decoder import Decoder, Norms, Projection, two_layers


class GPTNeoArchitecture(Decoder):
    """Views into a `GPTNeoForCausalLM`."""

    embeddings: tuple[str, ...] = ("tok", "pos")
    mlp_matrices: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, str]] = {
        "activation": "activation_function",
        "norm_epsilon": "layer_norm_epsilon",
    }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.scale = 1.0

    def layers(self) -> list[Any]:
        return list(self._body.h)

    def final_norm(self) -> Module:
        return self._body.ln_f

    def norms(self, layer: int) -> Norms:
        return Norms(self._layers[layer].ln_1, self._layers[layer].ln_2)

    def projections(self, layer: int) -> tuple[Projection, Projection, Projection]:
        attention = self._layers[layer].attn.attention
        q, k, v = (
            self.by_head(linear.weight, linear.bias)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return q, k, v

    def output(self, layer: int) -> Linear:
        return self._layers[layer].attn.attention.out_proj

    def learned(self, places: Int[Tensor, "prompt position"]) -> Tensor:
        return self._body.wpe.weight[places]

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        mlp = self._layers[layer].mlp
        return two_layers(mlp.c_fc, mlp.act, mlp.c_proj, x)

    def smallest_window(self) -> int | None:
        return self._config.window_size if "local" in self._config.attention_layers else None
