"""Models whose layers lie on several devices.

Inputs move to the layer's device, outputs move back.

The residual stream's writers stay together on the device of the embedding, where masks and their
gradients are too; only one block's inputs and outputs travel at a time. So that device needs room
for the writers' outputs, beside its share of the weights.
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Module

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Spread:
    """An architecture around another whose layers lie on `devices`; `home` is where outputs go.

    Everything else is delegated to the inner architecture. Embeddings and the unembedding are moved
    by the hooks that Hugging Face's `device_map` installs.
    """

    def __init__(self, inner: Any, home: torch.device, devices: list[torch.device]) -> None:
        self._inner, self._home, self._devices = inner, home, devices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        start: int = 0,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> list[Tensor]:
        return [output.to(self._home) for output in self._inner.embed(tokens, start, forks)]

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        device = self._devices[layer]
        heads = None if heads is None else heads.to(device)
        forks = None if forks is None else forks.to(device)
        return self._inner.attention(layer, x.to(device), heads, past, forks).to(self._home)

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        """They stay on the layer's device, where they are wanted."""
        return self._inner.keys_values(layer, x.to(self._devices[layer]))

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        return self._inner.mlp(layer, x.to(self._devices[layer])).to(self._home)

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        return self._inner.unembed(x).to(self._home)


def spread(architecture: Any, model: "PreTrainedModel") -> Any:
    """The architecture, following the model's weights if they lie on several devices.

    Raises ValueError for single weights that a device map has left off every device, and for a
    layer on more than one.
    """
    if len({weight.device for weight in model.parameters()}) == 1:
        return architecture
    for name, weight in model.named_parameters():
        if weight.device.type == "meta":
            raise ValueError(
                f"weight {name} is offloaded; expected a device map that puts every layer on a "
                "device that computes it"
            )
    layers = [
        _device_of(layer, name) for name, layer in model.named_modules() if _is_layer(layer, model)
    ]
    return Spread(architecture, next(iter(architecture.weights().values())).device, layers)


def _is_layer(module: Module, model: "PreTrainedModel") -> bool:
    """Whether the model's authors ask for this module to be kept on one device."""
    return type(module).__name__ in (model._no_split_modules or ())


def _device_of(layer: Module, name: str) -> torch.device:
    devices = {weight.device for weight in layer.parameters()}
    if len(devices) > 1:
        raise ValueError(
            f"{name} lies on {' and '.join(sorted(map(str, devices)))}; expected one device"
        )
    return devices.pop()
