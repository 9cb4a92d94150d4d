"""Number formats by name, and TF32: float32 weights whose products a GPU rounds to ten bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DTYPES = ("float32", "tf32", "float64", "bfloat16", "float16")
"""The first is the default."""


def dtype_of(name: str) -> torch.dtype:
    """The dtype of weights and activations."""
    return torch.float32 if name == "tf32" else getattr(torch, name)


def set_products(name: str) -> None:
    """From now on, compute float32 matrix products in TF32, or in full precision."""
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")


@contextmanager
def products_in(name: str) -> Iterator[torch.dtype]:
    """Gives the dtype of this name and sets the precision of products within the block."""
    before = torch.get_float32_matmul_precision()
    set_products(name)
    try:
        yield dtype_of(name)
    finally:
        torch.set_float32_matmul_precision(before)


def check_products(name: str, device: torch.device) -> None:
    """Raises ValueError where the device has no such products."""
    if name == "tf32" and device.type != "cuda":
        raise ValueError(
            f"dtype 'tf32' on {device.type!r}; expected an NVIDIA GPU; other devices have no TF32"
        )
