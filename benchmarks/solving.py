"""How many prompts of a task the full model solves, overall and for each template."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.warnings import SOLVED
from edgewise import MaskedTransformer, Task
from edgewise.evaluate import solved


@dataclass(frozen=True)
class Accuracy:
    """The share of some test prompts on which the full model does what the task asks."""

    template: str
    """The text that the prompts are made from; empty for all prompts of a task."""
    n_prompts: int
    share: float


def accuracies(model: MaskedTransformer, task: Task) -> list[Accuracy]:
    """The accuracy on all test prompts, then on those of each template that has some.

    A prompt is solved if the first of the task's metrics that has a bound is above it, such as a
    logit difference above 0. Empty for a task without such a metric. Cost: one pass of the prompts.
    """
    right = solved(model, task)
    if right is None:
        return []
    found = [Accuracy("", len(right), float(right.double().mean()))]
    which = task.test.templates
    for number, template in enumerate(() if which is None else task.templates):
        own = right[which == number]
        if len(own):
            found.append(Accuracy(template, len(own), float(own.double().mean())))
    return found


def table(task: Task, accuracies: Sequence[Accuracy]) -> str:
    """A line on the task, marked if it is not solved, and one for each template."""
    if not accuracies:
        return f"{task.name}: no metric says whether the full model is right"
    whole, *parts = accuracies
    verdict = "solved" if whole.share >= SOLVED else f"NOT SOLVED, less than {100 * SOLVED:.0f} %"
    head = (
        f"{task.name}: the full model is right on {100 * whole.share:.1f} % of "
        f"{whole.n_prompts:,} test prompts: {verdict}"
    )
    lines = [
        {
            "template": part.template,
            "prompts": part.n_prompts,
            "right, %": f"{100 * part.share:.1f}",
            "": "" if part.share >= SOLVED else "not solved",
        }
        for part in parts
    ]
    return f"{head}\n\n{tabulate(lines, 'keys')}" if lines else head
