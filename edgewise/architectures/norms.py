"""Every kind of norm: of a reader's input, of queries and keys, and of what a layer's heads write.

`offset` is added to a norm's weight: Gemma stores weights minus one.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import LayerNorm
from torch.nn.functional import rms_norm

from edgewise.backward_rules import inverse_mean_square_root, normalized


def normed(
    norm: Any, x: Float[Tensor, "... d_model"], offset: float = 0.0
) -> Float[Tensor, "... d_model"]:
    """Hugging Face's norm of the last axis; `x` itself where the model has none.

    On a GPU a norm by the root mean square is torch's, which reads memory once instead of ten
    times. In bfloat16 the two differ by its rounding: torch's rounds once, after the weight.
    """
    if norm is None:
        return x
    if isinstance(norm, LayerNorm):
        weight = x.new_ones(x.shape[-1]) if norm.weight is None else norm.weight
        return normalized(norm, x, weight=weight, epsilon=norm.eps, centred=True)
    weight, epsilon = norm.weight, epsilon_of(norm)
    function = partial(rms_norm, normalized_shape=weight.shape, weight=weight, eps=epsilon)
    own = function if x.is_cuda and not offset else norm
    weight = weight + offset if offset else weight
    return normalized(own, x, weight=weight, epsilon=epsilon, centred=False)


def normed_projections(
    norm: Any, x: Float[Tensor, "projection batch position d_head"], offset: float = 0.0
) -> Float[Tensor, "projection batch position d_head"]:
    """Queries or keys after their norm: each head's own, or one over all heads of the layer.

    The second takes the projections that are there, each of its own reader's input. So a norm over
    key-value heads also takes the keys of all query heads: where their inputs are equal, these are
    copies in equal numbers, which leave the mean square as it is.
    """
    if not is_of_all_heads(norm, x.shape[-1]):
        return normed(norm, x, offset)
    weight = norm.weight.view(-1, 1, x.shape[-1]) + offset
    weight = weight.repeat_interleave(len(x) // len(weight), 0).flatten()
    epsilon = epsilon_of(norm)
    whole = partial(_normed_by_mean_square, weight=weight, epsilon=epsilon)
    row = x.permute(1, 2, 0, 3).flatten(2)
    row = normalized(whole, row, weight=weight, epsilon=epsilon, centred=False)
    return row.unflatten(2, (len(x), -1)).permute(2, 0, 1, 3)


def shared_norm(
    norm: Any, parts: Float[Tensor, "batch position head d_model"], offset: float = 0.0
) -> Float[Tensor, "batch position head d_model"]:
    """Each head's share of a norm of the sum of what all heads of a layer write.

    A norm after the attention divides the sum by its root mean square, so no head's contribution is
    a function of that head alone. Here a head's share is what it wrote itself, times the norm's
    weight, over the root mean square of the layer's sum in this very pass. The shares add up to the
    norm of the sum, so masks of ones and of zeros are exact; readers add shares up, so everything
    in between is additive; and the gradient at a mask of ones is the model's own gradient.

    The root mean square of the clean run, held fixed, would make each share a function of its head.
    But a head that receives nothing clean would then not give back what it gives on the corrupted
    prompt, as that was divided by another number: removed edges would leave a trace. And each mask
    would need a clean run of the same prompts. So it is not offered.

    `Graph.coupled_heads` tells the rest of the engine that a head's share depends on all heads.
    """
    whole = parts.sum(2, keepdim=True)
    scale = inverse_mean_square_root(_wide(whole), epsilon_of(norm))
    return (_wide(parts) * scale * (_wide(norm.weight) + offset)).to(parts.dtype)


def is_of_all_heads(norm: Any, d_head: int) -> bool:
    """Whether a norm of queries or keys is one over all heads of a layer."""
    return norm is not None and norm.weight.numel() > d_head


def epsilon_of(norm: Any) -> float:
    return norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps


def _normed_by_mean_square(
    x: Float[Tensor, "... d_model"], weight: Float[Tensor, " d_model"], epsilon: float
) -> Float[Tensor, "... d_model"]:
    scale = (_wide(x).square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return (_wide(x) * scale * _wide(weight)).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least, in which models compute their norms."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
