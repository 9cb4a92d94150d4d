"""Qwen3: Llama with a norm of each head's queries and keys, which belongs to their readers."""

from edgewise.architectures.decoder import Decoder, Norms


class Qwen3Architecture(Decoder):
    """Views into a `Qwen3ForCausalLM`."""

    def norms(self, layer: int) -> Norms:
        block = self._layers[layer]
        attention = block.self_attn
        return Norms(
            block.input_layernorm,
            block.post_attention_layernorm,
            q=attention.q_norm,
            k=attention.k_norm,
        )
