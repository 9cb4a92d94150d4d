"""Backward rules: other gradients than the true ones, for the same forward pass.

Methods such as GIM and RelP change how a gradient passes a norm, an activation, a product or an
attention pattern. What the model computes stays the same to the bit. Every architecture calls the
functions of this file at those places, and inside `BackwardRules.applied` they give the value of
the usual formula with the gradient of another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class BackwardRules:
    """Which gradients are changed, and how. The defaults change none."""

    frozen_norms: bool = False
    """A norm's denominator counts as a constant; subtracting the mean keeps its gradient."""
    secant_activations: bool = False
    """The slope of an activation is φ(x) / x, the secant's, instead of the tangent's."""
    stabiliser: float = 1e-6
    """Added to x in the secant's denominator, with the sign of x."""
    half_products: bool = False
    """Both factors of a gated product get half of their gradient."""
    softmax_temperature: float = 1.0
    """T: the softmax of scores s has the Jacobian that it has at s / T, without a factor 1 / T."""
    detached_patterns: bool = False
    """Attention patterns count as constants, so queries and keys get no gradient."""
    queries: float = 1.0
    """What the gradients of queries are multiplied with."""
    keys: float = 1.0
    values: float = 1.0

    @property
    def changes_patterns(self) -> bool:
        return self.detached_patterns or self.softmax_temperature != 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rules hold for the forward passes inside, and for the gradients through them."""
        token = _RULES.set(self)
        try:
            yield
        finally:
            _RULES.reset(token)


TRUE_GRADIENTS = BackwardRules()
_RULES = ContextVar("backward rules", default=TRUE_GRADIENTS)


def normalized(
    norm: Callable[[Tensor], Tensor],
    x: Float[Tensor, "... d_model"],
    *,
    weight: Float[Tensor, " d_model"],
    epsilon: float,
    centred: bool,
) -> Float[Tensor, "... d_model"]:
    """`norm(x)`: a layer norm if `centred`, else one by the root mean square."""
    if not _RULES.get().frozen_norms:
        return norm(x)
    direction = x - x.mean(-1, keepdim=True) if centred else x
    scale = (direction.detach().square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return _with_gradient_of(norm(x.detach()), direction * scale * weight)


def inverse_mean_square_root(
    x: Float[Tensor, "... d_model"], epsilon: float
) -> Float[Tensor, "... 1"]:
    """What a norm by the root mean square multiplies `x` with, besides its weight."""
    x = x.detach() if _RULES.get().frozen_norms else x
    return (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()


def activated(
    activation: Callable[[Tensor], Tensor], x: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`activation(x)`."""
    rules = _RULES.get()
    if not rules.secant_activations:
        return activation(x)
    fixed = x.detach()
    value = activation(fixed)
    denominator = fixed + torch.where(fixed < 0, -rules.stabiliser, rules.stabiliser)
    return _with_gradient_of(value, x * (value / denominator))


def gated(gate: Float[Tensor, "..."], x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The product of an activated gate and what it lets through."""
    product = gate * x
    return _scaled_gradient(product, 0.5) if _RULES.get().half_products else product


def attended(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    q: Float[Tensor, "head batch position d_head"],
    k: Float[Tensor, "head batch key d_head"],
    v: Float[Tensor, "head batch key d_head"],
    *,
    scores: Callable[[Tensor, Tensor], Tensor],
    visible: Callable[[], Bool[Tensor, "*batch position key"] | None],
) -> Float[Tensor, "head batch position d_head"]:
    """`attend(q, k, v)`: softmax attention.

    `scores` gives the scores of queries and keys, `visible` which keys each query sees.
    """
    rules = _RULES.get()
    q, k, v = (
        _scaled_gradient(x, factor)
        for x, factor in zip((q, k, v), (rules.queries, rules.keys, rules.values), strict=True)
    )
    if not rules.changes_patterns:
        return attend(q, k, v)
    logits = scores(q, k)
    shown = visible()
    if shown is not None:
        logits = logits.masked_fill(~shown, -torch.inf)
    pattern = logits.softmax(-1).detach()
    if not rules.detached_patterns:
        temperature = rules.softmax_temperature
        pattern = _with_gradient_of(pattern, temperature * (logits / temperature).softmax(-1))
    return _with_gradient_of(attend(q.detach(), k.detach(), v.detach()), pattern @ v)


def _scaled_gradient(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else _with_gradient_of(x.detach(), factor * x)


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """The value, with the gradient of another tensor of its shape."""
    return _GradientOf.apply(value, other)


class _GradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient
