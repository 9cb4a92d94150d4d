"""Made-up devices for a machine that has one: tensors that say where they are.

A tensor on a made-up device holds an ordinary one. Every operation gives what it gives there, and
fails if its tensors lie on different devices, as between two GPUs; only a copy changes the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

KIND = "lazy"
"""A kind of device that torch knows by name and that runs its backward passes on the CPU."""
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


class Placed(Tensor):
    """An ordinary tensor on a made-up device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "Placed":
        placed = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        placed.held = held
        return placed

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


class _Places(TorchDispatchMode):
    """Lets factories make tensors on made-up devices."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


@contextmanager
def made_up_devices() -> Iterator[None]:
    """Within it, tensors can be made on and moved to `lazy:0`, `lazy:1`, ..."""
    with _Places():
        yield


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    # As for a GPU, numbers may be on the CPU, and indices.
    indexed = args[:1] + args[2:] if function in _INDEXING else args
    devices = {
        leaf.device
        for leaf in tree_leaves((indexed, kwargs))
        if isinstance(leaf, Tensor) and (leaf.ndim or leaf.device.type == KIND)
    }
    target = kwargs.get("device")
    copies = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    if len(devices) > 1 and not copies:
        raise RuntimeError(f"{function} over {' and '.join(sorted(map(str, devices)))}")
    if target is not None:
        device = torch.device(target)
        kwargs = {**kwargs, "device": "cpu" if device.type == KIND else device}
    else:
        device = tensors[0].device if copies else next(iter(devices), torch.device("cpu"))
    plain = tree_map_only(Placed, lambda tensor: tensor.held, (args, kwargs))
    result = function(*plain[0], **plain[1])
    if device.type != KIND:
        return result
    # An operation in place gives back the tensor that it was given.
    known = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, Placed)}
    return tree_map_only(
        Tensor,
        lambda tensor: known[id(tensor)] if id(tensor) in known else Placed(tensor, device),
        result,
    )
