"""GPT-NeoX and Pythia: attention and MLP read the same stream, each through a norm of its own.

Only the first dimensions of queries and keys turn. One matrix holds, head by head, q, k and v.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import Linear, Module

from edgewise.architectures.decoder import Decoder, Projection, two_layers


class GPTNeoXArchitecture(Decoder):
    """Views into a `GPTNeoXForCausalLM`."""

    mlp_matrices: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, str]] = {
        **Decoder.settings,
        "norm_epsilon": "layer_norm_eps",
        "parallel": "use_parallel_residual",
    }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.parallel = model.config.use_parallel_residual

    def final_norm(self) -> Module:
        return self._body.final_layer_norm

    def projections(self, layer: int) -> tuple[Projection, Projection, Projection]:
        return self.fused_by_head(self._layers[layer].attention.query_key_value)

    def output(self, layer: int) -> Linear:
        return self._layers[layer].attention.dense

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        mlp = self._layers[layer].mlp
        return two_layers(mlp.dense_h_to_4h, mlp.act, mlp.dense_4h_to_h, x)
