"""float32, TF32 and bfloat16: how products are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


@contextmanager
def products_in(precision: Precision) -> Iterator[torch.dtype]:
    """The dtype of weights and activations; float32 products in TF32 or not, then as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield torch.bfloat16 if precision == "bfloat16" else torch.float32
    finally:
        torch.set_float32_matmul_precision(before)
