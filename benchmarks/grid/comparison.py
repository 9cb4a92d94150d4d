"""A comparison of methods on one's own model: a suite that is made from a few words.

What each method is given depends on the budget (budgets.toml).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.grid.cell import BUNDLED
from benchmarks.grid.overrides import Overrides
from benchmarks.grid.settings import Settings
from benchmarks.grid.tables import builder_of, method_of
from edgewise.own_code import is_reference
from tasks import PREFIX, TASKS

BUDGETS = ("small", "medium", "large")
METHODS = ("random", "eap", "eap-ig", "gim", "acdc", "edge-pruning")
"""What is compared if nothing else is said."""
_NO_NAME = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Comparison:
    """Methods on tasks of one model. `sizes` and `sparsities` are those asked for, if any."""

    tasks: Sequence[str]
    methods: Sequence[str] = METHODS
    model: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    sparsities: Sequence[float] = ()
    seeds: Sequence[int] = (0,)
    name: str = ""
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """By method, the settings that replace the budget's."""

    def __post_init__(self) -> None:
        """Raises ValueError for methods and tasks that do not exist, and for an idle model."""
        for method in self.methods:
            method_of(method)
        own = [task for task in self.tasks if builder_of(task).owns_model]
        if self.model is not None and len(own) == len(self.tasks):
            raise ValueError(
                f"all tasks have their own model: {', '.join(own)}; leave {self.model!r} out"
            )

    @property
    def title(self) -> str:
        """The suite's name, which names the folder of the results."""
        where = "programs" if self._given() == [] else Path(self.model or BUNDLED).name
        return self.name or f"compare-{_NO_NAME.sub('-', where)[:_LONGEST_NAME]}"

    def table(self, budget: str) -> dict[str, Any]:
        """The suite's table under one of the `BUDGETS`."""
        presets = budgets()[budget]
        table: dict[str, Any] = {
            "name": self.title,
            "description": f"Made by edgewise compare with the {budget} budget",
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
        }
        if self._given():
            table["model"] = self.model or BUNDLED
        if self.sparsities:  # the full model always stands beside the circuits
            table["sparsities"] = sorted({0.0, *self.sparsities})
        sizes = {task: {**self._prompts(task, presets), **self.sizes} for task in self.tasks}
        table["task"] = {task: own for task, own in sizes.items() if own}
        table["method"] = [entry for name in self.methods for entry in self._entries(name, presets)]
        return Overrides(settings=self.settings).applied(table)

    def _given(self) -> list[str]:
        """The tasks that run on the model."""
        return [task for task in self.tasks if not builder_of(task).owns_model]

    def _prompts(self, task: str, presets: Mapping[str, Settings]) -> Settings:
        """Only of tasks whose prompts are made, as many as one likes."""
        is_made = task in TASKS and not TASKS[task].owns_model
        return presets.get("prompts", {}) if is_made else {}

    def _entries(self, method: str, presets: Mapping[str, Settings]) -> list[dict[str, Any]]:
        """One, or two where tasks with a model of their own have other settings."""
        settings = presets.get(method, {})
        given = self._given()
        own = [task for task in self.tasks if task not in given]
        if not own or not settings or method_of(method)[0].family not in ("search", "masks"):
            return [{"name": method, **settings}]
        entries: list[dict[str, Any]] = [{"name": method, "tasks": own}]
        return [{"name": method, "tasks": given, **settings}, *entries] if given else entries


@cache
def budgets() -> Mapping[str, Mapping[str, Settings]]:
    """By budget, the numbers of `prompts` and every method's settings."""
    return tomllib.loads((Path(__file__).parent / "budgets.toml").read_text(encoding="utf-8"))


def as_written(name: str, folder: Path) -> str:
    """A task's file with its full path, so that a saved suite can be run from anywhere."""
    if name.startswith(PREFIX) and not is_reference(name):
        return f"{PREFIX}{(folder / Path(name.removeprefix(PREFIX)).expanduser()).resolve()}"
    return name
