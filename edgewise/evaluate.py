"""How faithful circuits are on prompt pairs, and how close they are to a true circuit.

All circuits are evaluated in the same pass over the prompts: the full and the corrupted run are
shared. Consecutive circuits share all outputs that do not depend on an edge in which they differ.
Dead components are not run. If there are few prompts, several masks go through the model at once.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.batches import Batches
from edgewise.circuit import Circuit
from edgewise.graph import Ablation
from edgewise.metrics import Metric
from edgewise.progress import note, track
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer


@torch.no_grad()
def evaluate(
    model: MaskedTransformer,
    pairs: PromptPairs,
    circuits: Sequence[Circuit],
    *,
    metrics: Mapping[str, Metric],
    ablation: Ablation,
    mean_over: PromptPairs | None = None,
) -> dict[str, Float[Tensor, "circuit prompt"]]:
    """Every metric of every circuit on every prompt, in the prompts' own order.

    `mean_over` gives the prompts over which the mean is taken under mean ablation (default:
    `pairs`).
    Raises ValueError for no circuits, for a circuit of another graph, and under mean ablation for a
    prompt longer than those of `mean_over`.
    """
    if not circuits:
        raise ValueError("no circuits to evaluate; expected at least one")
    for circuit in circuits:
        if circuit.graph != model.graph:
            raise ValueError(
                f"a circuit of a graph with {circuit.graph.convention}; the model has "
                f"{model.graph.convention}"
            )
    masks = torch.stack([circuit.mask for circuit in circuits])
    batches = Batches(model, pairs, ablation, budget_bytes=0, mean_over=mean_over)
    values = {name: torch.empty(len(circuits), len(pairs)) for name in metrics}
    for index in track(batches.indices(), "evaluating"):
        batch = batches.batch(index)
        at_once = batches.n_masks_at_once(batch.pairs)
        buffer: WriterBuffer | None = None
        for circuit in torch.arange(len(masks)).split(at_once):
            some = masks[circuit]
            if buffer is None:
                given = batch.tokens, batch.ablated
                buffer = model.buffer(*given, n_masks=len(some), prefix=batch.prefix)
            logits = model.run(buffer, some, batch.targets)
            note(partial(_circuits_done, circuit, len(masks)))
            for name, metric in metrics.items():
                result = metric(logits, batch.full_logits, batch.pairs)
                values[name][circuit[:, None], index.cpu()] = result.float().cpu()
    return values


def evaluate_circuit(
    model: MaskedTransformer,
    task: Task,
    circuit: Circuit,
    *,
    on: Literal["train", "validation", "test"] = "test",
) -> dict[str, float]:
    """Every metric of the task, a mean over prompts, for one circuit of one's own.

    Ablation is the task's; `evaluate` gives values per prompt, of many circuits in one pass. Raises
    ValueError for a circuit of another graph.
    """
    pairs: PromptPairs = getattr(task, on)
    values = evaluate(
        model,
        pairs,
        [circuit],
        metrics=task.metrics,
        ablation=task.ablation,
        mean_over=task.train,
    )
    return {name: float(of_prompts.double().mean()) for name, of_prompts in values.items()}


def solved(model: MaskedTransformer, task: Task) -> Bool[Tensor, " prompt"] | None:
    """On which test prompts the full model is right.

    The first of the task's metrics that can tell decides. None if no metric can.
    """
    full = Circuit(model.graph.legal, model.graph)
    for name, metric in task.metrics.items():
        if metric.right_above is not None:
            found = evaluate(model, task.test, [full], metrics={name: metric}, ablation="zero")
            return found[name][0] > metric.right_above
    return None


def _circuits_done(circuits: Int[Tensor, " circuit"], total: int) -> dict[str, str]:
    return {"circuits": f"{int(circuits[-1]) + 1:,}/{total:,}"}


class Comparison(TypedDict):
    """A circuit against the nearest of a program's true circuits."""

    precision: float
    recall: float
    missing: int
    extra: int
    exact: bool


def nearest_truth(
    circuit: Circuit, truths: Sequence[Bool[Tensor, "reader writer"]]
) -> Bool[Tensor, "reader writer"]:
    """The true circuit from which the circuit differs in the fewest edges."""
    if not truths:
        raise ValueError("no true circuit to compare with")
    return min(truths, key=lambda truth: int((truth ^ circuit.mask).sum()))


def compare_with_truth(
    circuit: Circuit, truths: Sequence[Bool[Tensor, "reader writer"]]
) -> Comparison:
    """Precision and recall of the circuit's edges against the nearest true circuit's."""
    truth = nearest_truth(circuit, truths)
    hits = int((truth & circuit.mask).sum())
    missing, extra = int(truth.sum()) - hits, circuit.n_edges - hits
    return Comparison(
        precision=hits / circuit.n_edges if circuit.n_edges else 1.0,
        recall=hits / int(truth.sum()),
        missing=missing,
        extra=extra,
        exact=missing == extra == 0,
    )
