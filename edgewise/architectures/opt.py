"""OPT: learned positions, which begin at row 2 of their table, layer norms, a ReLU MLP, biases."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Linear, Module

from edgewise.architectures.decoder import Decoder, Norms, two_layers


class OPTArchitecture(Decoder):
    """Views into an `OPTForCausalLM`.

    Raises ValueError for OPT-350m's shape, whose norms act on the residual stream itself and whose
    embeddings are narrower than it.
    """

    embeddings: tuple[str, ...] = ("tok", "pos")
    mlp_matrices: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, str]] = {"activation": "activation_function"}

    def __init__(self, model: Any) -> None:
        config = model.config
        if not config.do_layer_norm_before:
            raise ValueError("do_layer_norm_before=False is not supported; expected True")
        if config.word_embed_proj_dim != config.hidden_size:
            raise ValueError(
                f"word_embed_proj_dim={config.word_embed_proj_dim} is not supported; expected "
                f"hidden_size, {config.hidden_size}"
            )
        super().__init__(model)
        self.mlp_parameters = self.mlp_matrices * self.d_model * config.ffn_dim

    def layers(self) -> list[Any]:
        return list(self._body.decoder.layers)

    def final_norm(self) -> Module | None:
        return self._body.decoder.final_layer_norm

    def norms(self, layer: int) -> Norms:
        block = self._layers[layer]
        return Norms(block.self_attn_layer_norm, block.final_layer_norm)

    def output(self, layer: int) -> Linear:
        return self._layers[layer].self_attn.out_proj

    def learned(self, places: Int[Tensor, "prompt position"]) -> Tensor:
        table = self._body.decoder.embed_positions
        return table.weight[table.offset + places]

    def feed_forward(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        block = self._layers[layer]
        return two_layers(block.fc1, block.activation_fn, block.fc2, x)
