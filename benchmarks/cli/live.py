"""The progress of a run: one live view in a terminal, and elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from edgewise.progress import Facts, Observer, observed_by

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY_SECONDS = 0.25
"""How often what is said of a loop is looked at in a terminal."""
LINE_SECONDS = 60.0
"""How often there is a line where there is no terminal."""


@dataclass
class Loop:
    """A loop that is going on."""

    label: str
    total: int | None
    done: int
    facts: dict[str, float | str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Its facts in words."""
        return ", ".join(f"{name} {_shown(value)}" for name, value in self.facts.items())

    def __str__(self) -> str:
        of = "" if self.total is None else f"/{self.total:,}"
        return f"{self.label} {self.done:,}{of}" + (f" ({self.said})" if self.facts else "")


class Loops(Observer):
    """Keeps the loops that go on; what shows them looks at `every` so many seconds."""

    def __init__(self, every: float, show: Callable[["Loops"], None]) -> None:
        self.loops: list[Loop] = []
        self._every, self._show = every, show
        self._last = time.monotonic()

    def begin(self, label: str, total: int | None, done: int) -> None:
        self.loops.append(Loop(label, total, done))
        self._look()

    def step(self) -> None:
        self.loops[-1].done += 1
        self._look()

    def note(self, facts: Callable[[], Facts]) -> None:
        if self.loops and self._is_due():
            self.loops[-1].facts.update(facts())
            self._look()

    def end(self) -> None:
        self.loops.pop()

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= self._every

    def _look(self) -> None:
        if self._is_due():
            self._show(self)
            self._last = time.monotonic()


@contextmanager
def shown() -> Iterator[None]:
    """Within the block, it is shown how far the loops are."""
    if sys.stderr.isatty():
        with _live() as loops, observed_by(loops):
            yield
    else:
        with observed_by(Loops(LINE_SECONDS, lambda loops: click.echo(line(loops), err=True))):
            yield


def line(loops: Loops) -> str:
    """Where the loops are, from the outermost inwards."""
    return " > ".join(map(str, loops.loops))


@contextmanager
def _live() -> Iterator[Loops]:
    """One bar for each loop, with the time left, what is said of it, and the memory in use."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        yield Loops(EVERY_SECONDS, _Bars(progress))


class _Bars:
    """Brings the bars up to date with the loops."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._bars: list[tuple[Loop, TaskID]] = []

    def __call__(self, loops: Loops) -> None:
        alive = loops.loops
        for loop, bar in self._bars:
            if not any(loop is one for one in alive):
                self._progress.remove_task(bar)
        self._bars = [(loop, bar) for loop, bar in self._bars if any(loop is one for one in alive)]
        known = [loop for loop, _ in self._bars]
        for loop in alive:
            if not any(loop is one for one in known):
                given = {"total": loop.total, "completed": loop.done, "said": ""}
                self._bars.append((loop, self._progress.add_task(loop.label, **given)))
        for place, (loop, bar) in enumerate(self._bars):
            said = [loop.said, memory_in_use()] if place == 0 else [loop.said]
            self._progress.update(bar, completed=loop.done, said=", ".join(filter(None, said)))


def memory_in_use() -> str:
    """This process's resident memory, and the accelerator's, if it has one."""
    import psutil
    import torch

    used = [f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB"]
    if torch.accelerator.is_available():
        module = torch.get_device_module()
        if hasattr(module, "memory_allocated"):
            used.append(f"{module.memory_allocated() / 2**30:.1f} GiB of the accelerator's")
    return f"memory {' and '.join(used)}"


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
