"""The tokens that all prompts share at the start, run once for all of them.

In a causal model these tokens' activations do not depend on later tokens. Under interchange
ablation a prompt and its corrupted twin give the same activations there, so
clean_w − ablated_w = 0 for every writer, whatever the mask: every reader's input is the full
model's, and no mask has a gradient there. Later tokens see a prefix only through its keys
and values. Under zero and mean ablation, the outputs of a masked pass there do depend on the mask.

After it, the prompts of a batch may fork: from some position on, each token is a continuation of
its own.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """Each layer's keys and values at the positions before a prompt's first token.

    `MaskedTransformer.prefix` makes one; one without layers stands for no prefix. `forks` are those
    of a batch's prompts (`PromptPairs.forks`), counted from the prefix's end.
    """

    keys_values: tuple[Float[Tensor, "2 kv_head position d_head"], ...] = ()
    forks: Int[Tensor, " prompt"] | None = None

    def __len__(self) -> int:
        """Its number of tokens."""
        return self.keys_values[0].shape[2] if self.keys_values else 0

    def past(self, layer: int) -> Float[Tensor, "2 kv_head position d_head"] | None:
        """What the layer's attention sees of it."""
        return self.keys_values[layer] if self.keys_values else None

    def before(self, forks: Int[Tensor, " prompt"] | None) -> "Prefix":
        """The prefix before prompts that fork at these positions, counted from its start."""
        return self if forks is None else replace(self, forks=forks - len(self))

    def forks_of(self, n_rows: int) -> Int[Tensor, " row"] | None:
        """The forks of `n_rows` rows, which are all prompts in order, once or several times."""
        return None if self.forks is None else self.forks.repeat(n_rows // len(self.forks))


NO_PREFIX = Prefix()
