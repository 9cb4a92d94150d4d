"""Models whose layers lie on several devices, made-up ones where the machine has no two."""

from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from edgewise.architectures.spread import Spread
from edgewise.prefix import NO_PREFIX
from edgewise.transformer import MaskedTransformer
from tests import models
from tests.edgewise.places import made_up_devices

FIRST, SECOND = "lazy:0", "lazy:1"
TINY = Path(__file__).parents[1] / "data" / "tiny-gpt2"
BUILDS: dict[str, tuple[models.Build, dict[str, Any]]] = {
    "gpt2": (
        models.gpt2,
        {
            "transformer.wte": FIRST,
            "transformer.wpe": FIRST,
            "transformer.h.0": FIRST,
            "transformer.h.1": SECOND,
            "transformer.ln_f": SECOND,
            "lm_head": FIRST,
        },
    ),
    "llama": (
        partial(models.llama, attention_bias=True),
        {
            "model.embed_tokens": FIRST,
            "model.rotary_emb": FIRST,
            "model.layers.0": FIRST,
            "model.layers.1": SECOND,
            "model.norm": SECOND,
            "lm_head": SECOND,
        },
    ),
}


def dispatched(build: models.Build, device_map: dict[str, Any]) -> Any:
    return accelerate.dispatch_model(build(), device_map)


def masked_pass(model: MaskedTransformer, n_prefix: int = 0) -> list[Tensor]:
    """Logits and the mask's gradient, and the logits of circuits in which heads are left out."""
    clean, corrupted, shared = (
        models.random_tokens(prompts, width, seed=seed).to(model.device)
        for seed, (prompts, width) in enumerate([(3, 5), (3, 5), (1, n_prefix)])
    )
    prefix = model.prefix(shared[0]) if n_prefix else NO_PREFIX
    ablated = model.activations(corrupted, prefix)
    soft = models.random_soft_masks(model.graph, 1)[0].to(model.device).requires_grad_()
    logits = model(clean, soft, ablated, prefix=prefix)
    (gradient,) = torch.autograd.grad(logits.square().sum(), soft)
    circuits = models.random_masks(model.graph, 2, density=0.1).to(model.device)
    return [logits.detach(), gradient, model(clean, circuits, ablated, prefix=prefix)]


@pytest.mark.parametrize("n_prefix", [0, 4])
@pytest.mark.parametrize("name", BUILDS)
def test_the_masked_pass_follows_the_layers_from_device_to_device(name: str, n_prefix: int) -> None:
    """An operation over two devices would fail; numbers and gradients are those of one device."""
    build, device_map = BUILDS[name]
    expected = masked_pass(MaskedTransformer(build()), n_prefix)
    with made_up_devices():
        model = MaskedTransformer(dispatched(build, device_map))
        found = masked_pass(model, n_prefix)
        assert {str(weight.device) for weight in model.architecture.weights().values()} == {
            FIRST,
            SECOND,
        }
        for tensor, one_device in zip(found, expected, strict=True):
            assert str(tensor.device) == FIRST
            torch.testing.assert_close(tensor.cpu(), one_device, rtol=1e-5, atol=1e-4)


def test_without_the_moves_the_pass_would_fail() -> None:
    """The made-up devices are as strict as real ones."""
    build, device_map = BUILDS["gpt2"]
    with made_up_devices():
        model = MaskedTransformer(dispatched(build, device_map))
        assert isinstance(model.architecture, Spread)
        model.architecture = model.architecture._inner
        with pytest.raises(RuntimeError, match=f"over {FIRST} and {SECOND}"):
            masked_pass(model)


def test_a_layer_on_two_devices_is_an_error() -> None:
    build, device_map = BUILDS["gpt2"]
    split = {**device_map, "transformer.h.1.attn": FIRST}
    del split["transformer.h.1"]
    split |= {f"transformer.h.1.{name}": SECOND for name in ("ln_1", "ln_2", "mlp")}
    with made_up_devices():
        model = dispatched(build, split)
        with pytest.raises(ValueError, match=r"transformer\.h\.1 lies on lazy:0 and lazy:1"):
            MaskedTransformer(model)


def test_offloaded_weights_are_an_error() -> None:
    model = models.gpt2()
    model.transformer.h[1].mlp.c_fc.weight = Parameter(torch.empty(24, 96, device="meta"))
    with pytest.raises(ValueError, match=r"transformer\.h\.1\.mlp\.c_fc\.weight is offloaded"):
        MaskedTransformer(model)


@pytest.mark.parametrize("device_map", ["auto", {"transformer": "cpu", "lm_head": "cpu"}])
def test_a_device_map_of_one_device_changes_nothing(device_map: Any) -> None:
    if device_map == "auto" and torch.accelerator.is_available():
        pytest.skip("auto would use the accelerator")
    plain = MaskedTransformer.from_pretrained(TINY)
    mapped = MaskedTransformer.from_pretrained(TINY, device_map=device_map)
    assert mapped.weight_hash == plain.weight_hash
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(mapped(tokens), plain(tokens))


def test_without_accelerate_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_accelerate_available", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'edgewise\[large\]'"):
        MaskedTransformer.from_pretrained(TINY, device_map="auto")
