"""Each rule against its formula, and that none changes the forward pass or outlives its context."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import LayerNorm
from torch.nn.functional import gelu, relu, scaled_dot_product_attention, silu

from edgewise.architectures.attention import attend
from edgewise.backward_rules import (
    TRUE_GRADIENTS,
    BackwardRules,
    activated,
    gated,
    normalized,
)
from edgewise.trace import Trace
from tests.edgewise.test_trace import PAIRS, losses
from tests.methods.test_eap import MODELS

RULES = {
    "norms": BackwardRules(frozen_norms=True),
    "activations": BackwardRules(secant_activations=True),
    "products": BackwardRules(half_products=True),
    "softmax": BackwardRules(softmax_temperature=2.0),
    "patterns": BackwardRules(detached_patterns=True),
    "factors": BackwardRules(queries=0.25, keys=0.25, values=0.5),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rule", RULES)
def test_the_forward_pass_stays_the_same_to_the_bit_and_the_gradient_changes(
    rule: str, model: str
) -> None:
    toy = MODELS[model]()
    plain = Trace(toy, PAIRS.clean, PAIRS.targets)
    changed = Trace(toy, PAIRS.clean, PAIRS.targets, rules=RULES[rule])
    assert torch.equal(changed.logits, plain.logits)
    assert torch.equal(changed.written, plain.written)
    before, after = (
        trace.scores(losses(trace.logits), trace.written) for trace in (plain, changed)
    )
    gateless = rule == "products" and model.startswith("gpt2")
    assert torch.equal(before, after) == gateless


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_ends_with_its_context(rule: str) -> None:
    toy = MODELS["llama"]()
    before = Trace(toy, PAIRS.clean, PAIRS.targets)
    with pytest.raises(KeyError), RULES[rule].applied():
        raise KeyError
    Trace(toy, PAIRS.clean, PAIRS.targets, rules=RULES[rule])
    after = Trace(toy, PAIRS.clean, PAIRS.targets)
    expected, found = (
        trace.scores(losses(trace.logits), trace.written) for trace in (before, after)
    )
    assert torch.equal(found, expected)


def test_a_frozen_norm_is_linear_around_its_input() -> None:
    """weight · (g − mean of g) / σ for a layer norm."""
    norm = LayerNorm(6, dtype=torch.float64)
    norm.weight.data = random(6, seed=1).detach()
    x, gradient = random(2, 6), random(2, 6, seed=2).detach()
    with RULES["norms"].applied():
        y = normalized(norm, x, weight=norm.weight, epsilon=norm.eps, centred=True)
    assert torch.equal(y, norm(x))
    (found,) = torch.autograd.grad(y, x, gradient)
    scaled = gradient * norm.weight / (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(found, (scaled - scaled.mean(-1, keepdim=True)).detach())


@pytest.mark.parametrize("function", [gelu, silu])
def test_an_activations_slope_is_the_secants(function: Callable[[Tensor], Tensor]) -> None:
    x = random(20)
    with RULES["activations"].applied():
        y = activated(function, x)
    (found,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(found, (y / x).detach(), rtol=1e-3, atol=1e-5)


def test_the_secant_at_zero_is_finite() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    with RULES["activations"].applied():
        (found,) = torch.autograd.grad(activated(relu, x).sum(), x)
    assert torch.equal(found, torch.zeros_like(found))


def test_both_factors_of_a_gated_product_get_half() -> None:
    gate, x = random(5), random(5, seed=1)
    with RULES["products"].applied():
        product = gated(gate, x)
    assert torch.equal(product, gate * x)
    for_gate, for_x = torch.autograd.grad(product.sum(), (gate, x))
    torch.testing.assert_close(for_gate, x.detach() / 2)
    torch.testing.assert_close(for_x, gate.detach() / 2)


def heads() -> tuple[Tensor, Tensor, Tensor]:
    return random(2, 1, 5, 3), random(2, 1, 5, 3, seed=1), random(2, 1, 5, 3, seed=2)


def gradients(rules: BackwardRules) -> tuple[Tensor, ...]:
    q, k, v = heads()
    with rules.applied():
        z = attend(q, k, v)
    torch.testing.assert_close(z, scaled_dot_product_attention(q, k, v, is_causal=True))
    return torch.autograd.grad((z * random(*z.shape, seed=3).detach()).sum(), (q, k, v))


def test_a_softmax_has_the_jacobian_of_its_temperature() -> None:
    """p ∘ (g − Σ p g), with the pattern p at scores / T, and no factor 1 / T."""
    q, k, v = (x.detach() for x in heads())
    upstream, scale = random(2, 1, 5, 3, seed=3).detach(), 3**-0.5
    hidden = torch.ones(5, 5).triu(1).bool()
    scores = (q @ k.transpose(-2, -1) * scale).masked_fill(hidden, -torch.inf)
    pattern, at_pattern = (scores / 2).softmax(-1), upstream @ v.transpose(-2, -1)
    at_scores = pattern * (at_pattern - (pattern * at_pattern).sum(-1, keepdim=True))
    for_q, for_k, for_v = gradients(RULES["softmax"])
    torch.testing.assert_close(for_q, at_scores @ k * scale)
    torch.testing.assert_close(for_k, at_scores.transpose(-2, -1) @ q * scale)
    torch.testing.assert_close(for_v, gradients(TRUE_GRADIENTS)[2])


def test_at_a_temperature_of_one_the_gradient_is_the_true_one() -> None:
    """Through the branch that other temperatures take, with patterns that are nearly detached."""
    near = BackwardRules(softmax_temperature=1 + 1e-12)
    for found, expected in zip(gradients(near), gradients(TRUE_GRADIENTS), strict=True):
        torch.testing.assert_close(found, expected)


def test_factors_scale_the_gradients_of_queries_keys_and_values() -> None:
    expected = gradients(TRUE_GRADIENTS)
    for found, true, factor in zip(
        gradients(RULES["factors"]), expected, (0.25, 0.25, 0.5), strict=True
    ):
        torch.testing.assert_close(found, factor * true)


def test_detached_patterns_leave_queries_and_keys_without_a_gradient() -> None:
    q, k, v = heads()
    with RULES["patterns"].applied():
        z = attend(q, k, v)
    for_q, for_k, for_v = torch.autograd.grad(z.sum(), (q, k, v), allow_unused=True)
    assert for_q is None
    assert for_k is None
    true = torch.autograd.grad(attend(q, k, v).sum(), v)
    torch.testing.assert_close(for_v, true[0])
