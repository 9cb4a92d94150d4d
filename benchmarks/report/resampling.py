"""How sure a mean over test prompts is: a paired bootstrap over prompts, and Holm's correction."""

from collections.abc import Hashable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, Int

DRAWS = 10_000

Values = Float[np.ndarray, " prompt"]


class Prompts:
    """The distinct prompts behind values that several seeds gave, one seed after the other.

    A prompt that several seeds have counts as often as it was evaluated, but is drawn as one:
    copies of a prompt say nothing new about other prompts.
    """

    def __init__(self, prompts: Sequence[Hashable]) -> None:
        """`prompts` names the prompt of each value."""
        places: dict[Hashable, int] = {}
        of_values = [places.setdefault(prompt, len(places)) for prompt in prompts]
        self._places: Int[np.ndarray, " value"] = np.array(of_values)
        self._times: Values = np.bincount(self._places).astype(float)

    def averaged(self, values: Float[np.ndarray, " value"]) -> Values:
        """The mean of each distinct prompt's values."""
        return np.bincount(self._places, weights=values) / self._times

    def interval(self, values: Values) -> tuple[float, float]:
        """The 95 % interval of the mean of values per distinct prompt."""
        low, high = np.percentile(self._means(values), (2.5, 97.5)).tolist()
        return low, high

    def p_values(self, differences: Float[np.ndarray, "method prompt"]) -> list[float]:
        """For each method, the one-sided p-value of the hypothesis that its mean is at most 0."""
        return ((1 + (self._means(differences) <= 0).sum(0)) / (1 + DRAWS)).tolist()

    def _means(self, values: Float[np.ndarray, "*method prompt"]) -> Float[np.ndarray, "draw ..."]:
        """The mean in every draw."""
        drawn = _drawn(len(self._times))
        total = drawn @ (values * self._times).T
        return (total.T / (drawn @ self._times)).T


@cache
def _drawn(n_prompts: int) -> Float[np.ndarray, "draw prompt"]:
    """How often each prompt is in each draw of the bootstrap; the same for all methods."""
    picked = np.random.default_rng(0).integers(n_prompts, size=(DRAWS, n_prompts))
    offsets = np.arange(DRAWS)[:, None] * n_prompts
    counts = np.bincount((picked + offsets).ravel(), minlength=DRAWS * n_prompts)
    return counts.reshape(DRAWS, n_prompts).astype(float)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: each is at most the level where its hypothesis is rejected."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected
