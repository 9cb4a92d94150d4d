"""A search for the setting at which a method finds circuits of one sparsity.

Every trial is an ordinary cell. An interval of settings is halved on a log scale: a trial becomes
its lower end where the circuit is not sparse enough, and else its upper end. So the settings follow
from the trials before, and a search that was killed finds these in the store and goes on. It ends
at the first trial within the tolerance, at the last one allowed, or where no setting is left in
between; the nearest trial counts, whether or not sparsity rises steadily with the setting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.grid.cell import Cell, name_of
from benchmarks.record import Trial

DIGITS = 5
"""Of a trial's setting."""


@dataclass(frozen=True, eq=False)
class Search:
    """`cell` with its `setting` anywhere from `low` to `high`, the end where circuits are sparser.

    Sought is a circuit whose sparsity differs from `sparsity` by no more than `tolerance`.
    """

    cell: Cell
    setting: str
    low: float
    high: float
    sparsity: float
    tolerance: float = 0.001
    trials: int = 12

    @property
    def label(self) -> str:
        bench = self.cell.bench
        return f"{bench.label}, seed {bench.seed}: {self.cell.method} at {100 * self.sparsity:g} %"

    @property
    def name(self) -> str:
        return name_of(self.definition())

    def definition(self) -> dict[str, Any]:
        definition = self.cell.definition()
        del definition["settings"][self.setting]
        definition["search"] = {
            "setting": self.setting,
            "interval": [self.low, self.high],
            "sparsity": self.sparsity,
            "tolerance": self.tolerance,
            "trials": self.trials,
        }
        return definition

    def trial(self, value: float) -> Cell:
        """The cell that tries a value of the setting."""
        return replace(self.cell, settings={**self.cell.settings, self.setting: value})

    def nearest(self, trials: Sequence[Trial]) -> Trial:
        """Ties go to the earliest trial."""
        return min(trials, key=lambda trial: abs(trial.sparsity - self.sparsity))

    def is_found(self, trials: Sequence[Trial]) -> bool:
        """Whether a trial is within the tolerance, give or take rounding."""
        return any(abs(t.sparsity - self.sparsity) <= self.tolerance + 1e-9 for t in trials)

    def next_value(self, trials: Sequence[Trial]) -> float | None:
        """The setting to try after these, or None if the search has ended."""
        if self.is_found(trials) or len(trials) >= self.trials:
            return None
        low, high = self.low, self.high
        for trial in trials:
            if trial.sparsity < self.sparsity:
                low = trial.value
            else:
                high = trial.value
        value = float(f"{math.sqrt(low * high):.{DIGITS}g}")
        return None if value in {trial.value for trial in trials} else value
