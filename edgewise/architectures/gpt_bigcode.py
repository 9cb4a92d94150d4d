"""GPT-BigCode, as in SantaCoder: GPT-2's parts, with heads that may share one key-value head."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch.nn import Linear

from edgewise.architectures.decoder import Projection
from edgewise.architectures.gpt_neo import GPTNeoArchitecture


class GPTBigCodeArchitecture(GPTNeoArchitecture):
    """Views into a `GPTBigCodeForCausalLM`, whose parts have GPT-Neo's names."""

    settings: ClassVar[Mapping[str, str]] = {
        **GPTNeoArchitecture.settings,
        "scale_attention": "scale_attn_weights",
    }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        if config.add_cross_attention:
            raise ValueError("add_cross_attention=True: cross-attention is not supported")
        self.n_kv_heads = 1 if config.multi_query else self.n_heads
        self.mlp_parameters = 2 * self.d_model * (config.n_inner or 4 * self.d_model)
        self.scale = self.d_head**-0.5 if config.scale_attn_weights else 1.0

    def projections(self, layer: int) -> tuple[Projection, Projection, Projection]:
        """One matrix: all q, then k and v; or q, k and v head by head if each has its own."""
        fused = self._layers[layer].attn.c_attn
        if not self._config.multi_query:
            return self.fused_by_head(fused)
        sizes = [self.d_model, self.d_head, self.d_head]
        parts = zip(fused.weight.split(sizes), fused.bias.split(sizes), strict=True)
        q, k, v = (self.by_head(*part) for part in parts)
        return q, k, v

    def output(self, layer: int) -> Linear:
        return self._layers[layer].attn.c_proj

    def smallest_window(self) -> None:
        return None
