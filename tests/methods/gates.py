"""Two heads and a gate: models in which removing one edge shows a head only for some gates.

Both heads write 1 on clean prompts and 0 on corrupted ones. The MLP is a gate of their sum x, and
its output decides between two answers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewise.metrics import negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from tests.methods import toys

SIGNAL, SUM, GATED = range(3)
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "AND": lambda x: torch.relu(x - 1),
    "OR": lambda x: 1 - torch.relu(1 - x),
    "ADDER": lambda x: torch.relu(x),
}
EDGES = ("a0.h0->m0", "a0.h1->m0")


class Gate:
    """One layer of two heads without a norm; position 0 alone is used."""

    causal = True
    embeddings: tuple[str, ...] = ("tok",)
    parallel = coupled_heads = False
    n_layers, n_heads, n_kv_heads, d_model, d_head = 1, 2, 2, 3, 1
    mlp_parameters, n_tokens, n_outputs = 3, 2, 2
    max_positions: int | None = None
    trained_positions: int | None = None

    def __init__(self, gate: str) -> None:
        self._gate = GATES[gate]
        self._weights = {"scale": torch.ones(1, dtype=torch.float64)}

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def configuration(self) -> dict[str, Any]:
        return {"type": "gate"}

    def embed(self, tokens: Tensor, start: int = 0, forks: Tensor | None = None) -> list[Tensor]:
        return [_only(tokens.double()[..., None], SIGNAL)]

    def attention(
        self,
        layer: int,
        x: Tensor,
        heads: Tensor | None = None,
        past: Tensor | None = None,
        forks: Tensor | None = None,
    ) -> Tensor:
        chosen = 2 if heads is None else len(heads)
        values = x.expand(-1, -1, 3 * chosen, -1)[:, :, -chosen:, SIGNAL : SIGNAL + 1]
        return _only(values, SUM)

    def keys_values(self, layer: int, x: Tensor) -> Tensor:
        raise NotImplementedError("prompts of the tests share no beginning")

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        return _only(self._gate(x[..., SUM : SUM + 1]), GATED)

    def unembed(self, x: Tensor) -> Tensor:
        return torch.stack([-x[..., GATED], x[..., GATED]], -1)


def _only(values: Tensor, place: int) -> Tensor:
    """Vectors that are 0 but at one place."""
    zero = torch.zeros_like(values)
    return torch.cat([values if place == other else zero for other in range(Gate.d_model)], -1)


def gate(name: str) -> tuple[MaskedTransformer, Task]:
    one = torch.ones(1, 1, dtype=torch.long)
    pairs = PromptPairs(one, 0 * one, one[0], 0 * one, one, 0 * one)
    task = toys.task(pairs, training_loss=negative_logit_difference)
    return MaskedTransformer(Gate(name)), task
