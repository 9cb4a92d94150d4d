"""OLMo 2: readers read the residual stream as it is; norms follow the attention and the MLP.

The norms of queries and keys go over all heads of a layer. How heads that a norm couples are cut is
said in `edgewise/architectures/norms.py`.
"""

from edgewise.architectures.decoder import Decoder, Norms


class Olmo2Architecture(Decoder):
    """Views into an `Olmo2ForCausalLM`."""

    def norms(self, layer: int) -> Norms:
        block = self._layers[layer]
        return Norms(
            attention=None,
            mlp=None,
            q=block.self_attn.q_norm,
            k=block.self_attn.k_norm,
            after_attention=block.post_attention_layernorm,
            after_mlp=block.post_feedforward_layernorm,
        )
