"""Gemma 2: norms before and after each block, scaled embeddings, soft caps of scores and logits."""

from collections.abc import Mapping
from typing import Any, ClassVar

from edgewise.architectures.decoder import Decoder, Norms


class Gemma2Architecture(Decoder):
    """Views into a `Gemma2ForCausalLM`."""

    norm_offset: ClassVar[float] = 1.0
    settings: ClassVar[Mapping[str, str]] = {
        **Decoder.settings,
        "activation": "hidden_activation",
        "query_scale": "query_pre_attn_scalar",
        "attention_cap": "attn_logit_softcapping",
        "logit_cap": "final_logit_softcapping",
    }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        if getattr(config, "use_bidirectional_attention", None):
            raise ValueError("use_bidirectional_attention=True is not supported; expected False")
        self.embedding_scale = self.d_model**0.5
        self.scale = config.query_pre_attn_scalar**-0.5
        self.attention_cap = config.attn_logit_softcapping
        self.logit_cap = config.final_logit_softcapping

    def norms(self, layer: int) -> Norms:
        block = self._layers[layer]
        return Norms(
            block.input_layernorm,
            block.pre_feedforward_layernorm,
            after_attention=block.post_attention_layernorm,
            after_mlp=block.post_feedforward_layernorm,
        )
