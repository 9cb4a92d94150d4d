"""Warnings about results that may mislead."""

from weakref import WeakKeyDictionary

from benchmarks.record import Finished
from edgewise import MaskedTransformer, Task
from edgewise.evaluate import solved
from methods import METHODS

SOLVED = 0.75
"""With a smaller share of right test prompts, the full model does not do the task."""
FAR = 0.02
"""A circuit's sparsity is missed if it is farther than this from the one that was aimed at."""
_ASKED: WeakKeyDictionary[Task, WeakKeyDictionary[MaskedTransformer, list[str]]]
_ASKED = WeakKeyDictionary()


def warnings_of(record: Finished) -> list[str]:
    """All that is to be said of a cell, a line each."""
    return [*record.warnings, *_missed_target(record), *_nothing_live(record)]


def warnings_about(model: MaskedTransformer, task: Task) -> list[str]:
    """What is to be said of a task on a model, whatever the circuit."""
    asked = _ASKED.setdefault(task, WeakKeyDictionary())
    if model not in asked:  # it takes a pass over the test prompts
        asked[model] = _not_solved(model, task)
    return [*asked[model], *_long_prompts(model, task)]


def _not_solved(model: MaskedTransformer, task: Task) -> list[str]:
    right = solved(model, task)
    if right is None or (share := float(right.double().mean())) >= SOLVED:
        return []
    return [f"the full model is right on only {100 * share:.0f} % of the test prompts"]


def _long_prompts(model: MaskedTransformer, task: Task) -> list[str]:
    limit = model.architecture.trained_positions
    longest = max(int(pairs.lengths.max()) for pairs in (task.train, task.validation, task.test))
    if limit is None or longest <= limit:
        return []
    return [f"prompts of up to {longest} tokens; the model was trained on {limit}"]


def _missed_target(record: Finished) -> list[str]:
    method = METHODS.get(record.definition.method)
    if record.kind != "circuit" or method is None or method.aims_at is None:
        return []
    target, found = record.definition.settings.get(method.aims_at), record.rows[0].sparsity
    if not isinstance(target, int | float):
        return []
    if target >= 1 or abs(found - target) <= FAR:  # from 1 on it only adds pressure
        return []
    return [f"{100 * found:.1f} % of the edges are removed; {method.aims_at} is {target:g}"]


def _nothing_live(record: Finished) -> list[str]:
    """Rankings are skipped: cut to few enough edges, every ranking has no live edge."""
    if record.kind == "scores" or record.rows[0].live_sparsity < 1:
        return []
    return ["no edge is live: none lies on a path to out along which something changes"]
