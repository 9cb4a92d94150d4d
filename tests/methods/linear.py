"""A model that is linear in every reader's input: on it, all attributions are exact."""

from typing import Any

import torch
from torch import Tensor

from edgewise.transformer import MaskedTransformer
from tests.models import VOCAB


class Linear:
    """Two layers of two heads, whose patterns are fixed; no norm, no activation.

    Queries and keys enter the heads' outputs by matrices of their own, so that they matter too.
    """

    causal = True
    embeddings: tuple[str, ...] = ("tok", "pos")
    parallel = coupled_heads = False
    n_layers, n_heads, n_kv_heads, d_model, d_head = 2, 2, 2, 6, 3
    mlp_parameters, n_tokens, n_outputs = 36, VOCAB, VOCAB
    max_positions: int | None = 16
    trained_positions: int | None = 16

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        size = self.d_model
        shapes = {
            "tok": (VOCAB, size),
            "pos": (16, size),
            "heads": (self.n_layers, 3, self.n_heads, size, size),
            "mlp": (self.n_layers, size, size),
            "unembed": (size, VOCAB),
        }
        self._weights = {
            name: 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in shapes.items()
        }

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def configuration(self) -> dict[str, Any]:
        return {"type": "linear"}

    def embed(self, tokens: Tensor, start: int = 0, forks: Tensor | None = None) -> list[Tensor]:
        positions = self._weights["pos"][start : start + tokens.shape[1]]
        return [self._weights["tok"][tokens], positions.expand(*tokens.shape, -1)]

    def attention(
        self,
        layer: int,
        x: Tensor,
        heads: Tensor | None = None,
        past: Tensor | None = None,
        forks: Tensor | None = None,
    ) -> Tensor:
        chosen = slice(None) if heads is None else heads
        matrices = self._weights["heads"][layer][:, chosen]
        x = x.expand(-1, -1, matrices[..., 0, 0].numel(), -1).unflatten(2, matrices.shape[:2])
        q, k, v = torch.einsum("bprhd,rhde->rbphe", x, matrices)
        seen = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype).tril()
        pattern = seen / seen.sum(1, keepdim=True)
        return q + torch.einsum("pk,bkhd->bphd", pattern, k + v)

    def keys_values(self, layer: int, x: Tensor) -> Tensor:
        raise NotImplementedError("prompts of the tests share no beginning")

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        return x @ self._weights["mlp"][layer]

    def unembed(self, x: Tensor) -> Tensor:
        return x @ self._weights["unembed"]


class LinearButForSoftmax(Linear):
    """With the usual attention: linear in values, and in all that follows the last attention."""

    def attention(
        self,
        layer: int,
        x: Tensor,
        heads: Tensor | None = None,
        past: Tensor | None = None,
        forks: Tensor | None = None,
    ) -> Tensor:
        chosen = slice(None) if heads is None else heads
        matrices = self._weights["heads"][layer][:, chosen]
        x = x.expand(-1, -1, matrices[..., 0, 0].numel(), -1).unflatten(2, matrices.shape[:2])
        q, k, v = torch.einsum("bprhd,rhde->rbhpe", x, matrices)
        unseen = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        scores = (4 * q @ k.transpose(-2, -1)).masked_fill(unseen, -torch.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2)


def linear() -> MaskedTransformer:
    return MaskedTransformer(Linear())
