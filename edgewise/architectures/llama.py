"""Llama, Mistral and Qwen2: rotary positions, RMSNorm, gated MLP, grouped-query attention.

The rotary embedding, with any scaling that the configuration asks for, is Hugging Face's module.
"""

from edgewise.architectures.decoder import Decoder


class LlamaArchitecture(Decoder):
    """Views into a Llama-type model; nothing is copied."""

    def smallest_window(self) -> int | None:
        """Mistral's is for all layers, Qwen2's for some of them."""
        if self._config.model_type == "mistral":
            return self._config.sliding_window
        return super().smallest_window()
