"""StarCoder2: Llama with layer norms and an MLP without a gate."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from edgewise.architectures.decoder import Decoder, two_layers


class Starcoder2Architecture(Decoder):
    """Views into a `Starcoder2ForCausalLM`."""

    mlp_matrices: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, str]] = {**Decoder.settings, "norm_epsilon": "norm_epsilon"}

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        mlp = self._layers[layer].mlp
        return two_layers(mlp.c_fc, mlp.act, mlp.c_proj, x)

    def smallest_window(self) -> int | None:
        return self._config.sliding_window
