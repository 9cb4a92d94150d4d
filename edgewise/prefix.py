"""The tokens that all prompts share at the start, run once for all of them.

In a causal model nothing there depends on what follows. Under interchange ablation a prompt and its
corrupted twin give the same activations there, so clean_w − ablated_w = 0 for every writer,
whatever the mask: every reader's input is the full model's, and no mask has a gradient there. Later
tokens see a prefix by its keys and values alone. Under zero and mean ablation, what a masked pass
gives there does depend on the mask.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """Each layer's keys and values at the positions before a prompt's first token.

    `MaskedTransformer.prefix` makes one; without layers it is no prefix at all.
    """

    keys_values: tuple[Float[Tensor, "2 kv_head position d_head"], ...] = ()

    def __len__(self) -> int:
        """Its number of tokens."""
        return self.keys_values[0].shape[2] if self.keys_values else 0

    def past(self, layer: int) -> Float[Tensor, "2 kv_head position d_head"] | None:
        """What the layer's attention sees of it."""
        return self.keys_values[layer] if self.keys_values else None


NO_PREFIX = Prefix()
