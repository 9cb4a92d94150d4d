"""Number formats by name."""

import pytest
import torch

from edgewise.precision import DTYPES, check_products, products_in


def test_every_format_is_a_dtype_and_tf32_is_float32_with_other_products() -> None:
    assert DTYPES[0] == "float32"
    for name in DTYPES:
        with products_in(name) as dtype:
            assert dtype == (torch.float32 if name == "tf32" else getattr(torch, name))
            expected = "high" if name == "tf32" else "highest"
            assert torch.get_float32_matmul_precision() == expected


def test_products_are_computed_as_before_afterwards_whatever_happens() -> None:
    with products_in("tf32"):
        with pytest.raises(RuntimeError), products_in("float64"):
            raise RuntimeError
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_needs_a_gpu() -> None:
    check_products("float32", torch.device("cpu"))
    check_products("tf32", torch.device("cuda"))
    with pytest.raises(ValueError, match=r"dtype 'tf32' on 'cpu'; expected an NVIDIA GPU"):
        check_products("tf32", torch.device("cpu"))
