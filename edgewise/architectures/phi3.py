"""Phi-3: Llama with one matrix for q, k and v and one for gate and up; few dimensions may turn.

With longrope, prompts of more than the original length have other rotary speeds; they are refused.
"""

from jaxtyping import Float
from torch import Tensor

from edgewise.architectures.decoder import Decoder, Projection
from edgewise.backward_rules import activated, gated


class Phi3Architecture(Decoder):
    """Views into a `Phi3ForCausalLM`."""

    def projections(self, layer: int) -> tuple[Projection, Projection, Projection]:
        fused = self._layers[layer].self_attn.qkv_proj.weight
        sizes = [count * self.d_head for count in (self.n_heads, self.n_kv_heads, self.n_kv_heads)]
        q, k, v = (self.by_head(rows, None) for rows in fused.split(sizes))
        return q, k, v

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        mlp = self._layers[layer].mlp
        gate, up = mlp.gate_up_proj(x).chunk(2, -1)
        return mlp.down_proj(gated(activated(mlp.activation_fn, gate), up))

    def smallest_window(self) -> int | None:
        return self._config.sliding_window
