"""Intervals of means over prompts."""

from functools import cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

RESAMPLES = 2000


def bootstrap_intervals(
    values: Float[Tensor, "row prompt"], *, level: float = 0.95
) -> list[list[float]]:
    """Percentile bootstrap of each row's mean over prompts: its lower and its upper end.

    All rows share the resamples, so that rows on the same prompts vary together. The ends have
    eight digits: those after the twelfth depend on the number of threads that add up.
    """
    means = _weights(values.shape[1]) @ values.double().numpy().T
    tail = 50 * (1 - level)
    ends = np.percentile(means, [tail, 100 - tail], axis=0)
    return [[float(f"{end:.8g}") for end in of_row] for of_row in ends.T]


@cache
def _weights(n_prompts: int) -> NDArray[np.float64]:
    """How often each prompt is drawn in each resample, over their number."""
    generator = np.random.default_rng(0)
    counts = generator.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=RESAMPLES)
    return counts / n_prompts
