"""What every architecture's attention shares: projections per reader, outputs per head."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def project(
    x: Float[Tensor, "batch position reader d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"] | None,
) -> Float[Tensor, "projection batch position d_head"]:
    """Each reader's input times its head's matrix.

    One reader for several heads is shared by all; several readers per head (query heads of one
    key-value head) each use that head's matrix.
    """
    batch, position, readers, d_model = x.shape
    heads, _, d_head = weight.shape
    if readers == 1:
        x = x.expand(batch, position, heads, d_model)
    elif readers > heads:
        weight = weight.repeat_interleave(readers // heads, 0)
        bias = None if bias is None else bias.repeat_interleave(readers // heads, 0)
    y = _Project.apply(x.flatten(0, 1), weight, bias)
    return y.view(-1, batch, position, d_head)


class _Project(torch.autograd.Function):
    """A product per reader whose gradient is stored token by token, like what is read.

    Autograd's own would come reader by reader, to be copied before the norm can use it. Weights
    are frozen and take no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "token reader d_model"],
        weight: Float[Tensor, "reader d_model d_head"],
        bias: Float[Tensor, "reader d_head"] | None,
    ) -> Float[Tensor, "reader token d_head"]:
        ctx.save_for_backward(weight)
        rows = x.transpose(0, 1)
        return (
            torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        readers, tokens, _ = gradient.shape
        by_token = gradient.new_empty(tokens, readers, weight.shape[1])
        torch.bmm(gradient, weight.transpose(1, 2), out=by_token.transpose(0, 1))
        return by_token, None, None


def combine(
    z: Float[Tensor, "head batch position d_head"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, " d_model"] | None,
    n_heads: int,
) -> Float[Tensor, "batch position head d_model"]:
    """Each head's contribution to the residual stream.

    The output bias is shared evenly among the layer's `n_heads`, here or left out, so that it goes
    with them (Edge Pruning's convention; it matters under zero ablation).
    """
    heads, batch, position, _ = z.shape
    rows = z.flatten(1, 2)
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias / n_heads, rows, weight)
    return y.view(heads, batch, position, -1).permute(1, 2, 0, 3)


def repeat_heads(
    x: Float[Tensor, "reader batch position d_head"], heads: int
) -> Float[Tensor, "head batch position d_head"]:
    """Key or value heads, one for each query head."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), 0)
