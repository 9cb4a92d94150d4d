"""Gemma 3, its text models: Gemma 2 with norms of queries and keys, and no cap of scores.

Layers with a sliding window turn queries and keys at other speeds than those without one.
"""

from dataclasses import replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from edgewise.architectures.decoder import Norms
from edgewise.architectures.gemma2 import Gemma2Architecture


class Gemma3Architecture(Gemma2Architecture):
    """Views into a `Gemma3ForCausalLM`."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.attention_cap = None  # in its configuration, but not used

    def norms(self, layer: int) -> Norms:
        attention = self._layers[layer].self_attn
        return replace(super().norms(layer), q=attention.q_norm, k=attention.k_norm)

    def rotary(
        self, layer: int, x: Tensor, places: Int[Tensor, "prompt position"]
    ) -> tuple[Tensor, Tensor]:
        return self._rotary(x, places, self._config.layer_types[layer])
