"""Granite: Llama with scaled embeddings, attention scores, contributions and logits."""

from collections.abc import Mapping
from typing import Any, ClassVar

from edgewise.architectures.decoder import Decoder


class GraniteArchitecture(Decoder):
    """Views into a `GraniteForCausalLM`."""

    settings: ClassVar[Mapping[str, str]] = {
        **Decoder.settings,
        "embedding_scale": "embedding_multiplier",
        "query_scale": "attention_multiplier",
        "write_scale": "residual_multiplier",
        "logit_divisor": "logits_scaling",
    }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        self.scale = config.attention_multiplier
        self.embedding_scale = config.embedding_multiplier
        self.write_scale = config.residual_multiplier
        self.logit_scale = 1 / config.logits_scaling
