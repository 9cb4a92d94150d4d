"""The cost of a search, estimated from a short one on a few prompts, stopped after some seconds.

The number of passes of a search depends on what it removes, and little on the number of prompts. A
short search therefore predicts it better than any bound. The cost of the part that was not reached
is extrapolated from the part before, in proportion to the share of the model that each test would
run if nothing were removed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from edgewise import MaskedTransformer, Method, Task
from edgewise.progress import Facts, observed_by
from edgewise.wrapper import Wrapper

PROMPTS = 8
SECONDS = 10.0


@dataclass(frozen=True)
class SearchCost:
    """The passes of a search, the most that it says it needs, and the seconds of a short search."""

    passes: float
    most: float
    seconds: float


def searches_of(method: Method) -> list[Method]:
    """The searches that a method runs: itself, or those inside a wrapper, as often as they run."""
    inner = method.runs * method.inner if isinstance(method, Wrapper) else (method,)
    return [one for one in inner if one.family == "search"]


def probe_search(search: Method, model: MaskedTransformer, task: Task) -> SearchCost | None:
    """Run it on the first prompts. None where it gives no bound, or ends in an error.

    The run itself will report the error.
    """
    prompts = task.train[:PROMPTS]
    short = replace(task, train=prompts, validation=prompts, test=prompts)
    most = search.most_passes(model.graph, len(short.train))
    if most is None:
        return None
    clock, flops, started, fraction = _Clock(SECONDS), model.flops, time.perf_counter(), 1.0
    try:
        with observed_by(clock):
            search.discover(model, short, generator=torch.Generator(model.device).manual_seed(0))
    except _Enough:
        fraction = _fraction(model, clock.done)
    except Exception:  # whatever it is, the run will meet it, too
        return None
    passes = (model.flops - flops) / model.forward_flops(short.train.lengths) / fraction
    seconds = (time.perf_counter() - started) / fraction
    return SearchCost(min(most, passes), most, seconds)


def _fraction(model: MaskedTransformer, n_readers: int) -> float:
    """The share of a search that has passed the last `n_readers`, by what its tests would run."""
    work = model.graph.legal.sum(1) * model.graph.rerun_shares
    return float(work.flip(0)[:n_readers].sum() / work.sum())


class _Enough(Exception):
    """The time is over."""


class _Clock:
    """Counts the steps of the outermost loop, and ends it when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.perf_counter() + seconds
        self._depth, self.done = 0, 0

    def begin(self, label: str, total: int | None, done: int) -> None:
        self._depth += 1
        if self._depth == 1:
            self.done = 0

    def step(self) -> None:
        if self._depth > 1:
            return
        self.done += 1
        if time.perf_counter() > self._ends:
            raise _Enough

    def note(self, facts: Callable[[], Facts]) -> None:
        return None

    def end(self) -> None:
        self._depth -= 1
