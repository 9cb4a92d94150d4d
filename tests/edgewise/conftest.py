"""Models and prompts that the engine's tests share."""

from dataclasses import dataclass

import pytest
from torch import Tensor

from edgewise.transformer import MaskedTransformer
from tests.models import MODES, HFModel, random_tokens

WIDTH = 7


@dataclass(frozen=True)
class Case:
    """A wrapped model, the Hugging Face model that it wraps, and three pairs of prompts."""

    model: MaskedTransformer
    hf: HFModel
    clean: Tensor
    corrupted: Tensor


@pytest.fixture(params=MODES)
def case(request: pytest.FixtureRequest) -> Case:
    build, options = MODES[request.param]
    hf = build()
    model = MaskedTransformer(hf, **options)
    return Case(model, hf, random_tokens(3, WIDTH, seed=1), random_tokens(3, WIDTH, seed=2))
