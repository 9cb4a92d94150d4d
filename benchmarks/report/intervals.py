"""Intervals over prompts."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def bootstrap_interval(
    values: NDArray[np.floating], *, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap of the mean over the last axis: lower and upper ends, per row.

    `values` is `[row, prompt]`. All rows share the resamples, so that rows on the same prompts vary
    together.
    """
    means = _weights(values.shape[1]) @ values.T.astype(np.float64)
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return _steady(low), _steady(high)


def _steady(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To twelve digits: those after depend on the number of threads that add up."""
    return np.array([float(f"{value:.12g}") for value in values])


@cache
def _weights(n_prompts: int) -> NDArray[np.float64]:
    """How often each prompt is drawn in each resample, over their number."""
    generator = np.random.default_rng(0)
    counts = generator.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=RESAMPLES)
    return counts / n_prompts
