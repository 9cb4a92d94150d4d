"""What the tests of the benchmark share."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

import torch

from benchmarks.record import FINISHED, Finished, Result
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores, Graph

R = TypeVar("R", bound=Result)

GRAPH = Graph(n_layers=2, n_heads=2)
N_PROMPTS = 12
AGREES = 0.5
"""The accuracy of every made-up circuit."""

SMALL_SUITE = """
name = "small"
tasks = ["tracr-xproportion"]
sparsities = [0.0, 0.5, 0.8, 0.9]

[[method]]
name = "random"
draws = 3

[[method]]
name = "eap"
selection = ["top-absolute", "greedy-signed"]

[[method]]
name = "acdc"
threshold = 0.01

[[method]]
name = "edge-pruning"
steps = 60
warmup_steps = 10
target_warmup_steps = 40
target_sparsity = 0.6
"""


def record_fields(method: str, settings: dict[str, Any], task: str, seed: int) -> dict[str, Any]:
    """A made-up finished cell's record, but for its kind and its rows."""
    key = "-".join(map(str, [*settings.values(), seed]))
    return {
        "name": f"{task}-{method}-{key}",
        "status": FINISHED,
        "definition": {
            "method": method,
            "method_version": 1,
            "settings": settings,
            "sparsities": [],
            "task": task,
            "task_version": 1,
            "seed": seed,
            "sizes": {"train": None, "validation": None, "test": None},
            "model": None,
            "weights": "a hash",
            "architecture": {"type": "none"},
            "tokenizer": None,
            "ablation": None,
            "dtype": "float32",
        },
        "model": "a/model",
        "dtype": "float32",
        "graph": GRAPH.convention,
        "n_edges": GRAPH.n_edges,
        "ablation": "interchange",
        "n_prompts": {"train": 7, "validation": 8, "test": N_PROMPTS},
        "metrics": {
            "kl": {"better": "lower", "unit": "KL(full ‖ circuit), nats"},
            "accuracy": {"better": "higher", "unit": "accuracy"},
        },
        "primary_metric": "kl",
        "true_circuits": [],
        "notes": {},
        "environment": {
            "device": "cpu",
            "device_name": "a processor",
            "platform": "a platform",
            "python": "3",
            "packages": {},
            "commit": None,
        },
        "seconds": 2.0 + seed,
        "flops": 1000,
        "peak_bytes": 3 * 2**20,
        "peak_memory_source": "a source",
        "forward_equivalents": 12.5,
    }


def estimated(metrics: dict[str, float]) -> dict[str, Any]:
    """These means and made-up intervals of theirs, as a row has them."""
    return {
        "metrics": metrics,
        "intervals": {name: [value - 0.05, value + 0.05] for name, value in metrics.items()},
    }


def _rows(
    sizes: Sequence[int], kl: Sequence[float], draws: int, validation: Sequence[float] | None
) -> list[dict[str, Any]]:
    """A row per draw and size; `validation` is the KL on the validation prompts, if it is known."""
    rows: list[dict[str, Any]] = []
    for draw, (position, edges) in product(range(draws), enumerate(sizes)):
        row: dict[str, Any] = {
            "edges": edges,
            "sparsity": 1 - edges / GRAPH.n_edges,
            "live_sparsity": 1 - edges / GRAPH.n_edges,
            **estimated({"kl": kl[position], "accuracy": AGREES}),
        }
        if draws > 1:
            row["draw"] = draw
        elif validation is not None:
            row["validation"] = {"kl": validation[position]}
        rows.append(row)
    return rows


def write_cell(
    store: Store,
    method: str,
    settings: dict[str, Any],
    sizes: Sequence[int],
    kl: Sequence[float],
    *,
    kind: str = "scores",
    task: str = "ioi",
    seed: int = 0,
    draws: int = 1,
    validation: Sequence[float] | None = None,
    prompt_ids: Sequence[str] | None = None,
    defined: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Finished:
    """Store a made-up finished cell; `kl` is per size, and about that on every prompt.

    `defined` changes its definition.
    """
    on_validation = (validation or kl) if kind == "scores" else None
    rows = _rows(sizes, kl, draws, on_validation)
    fields = record_fields(method, settings, task, seed)
    fields["definition"] |= defined or {}
    record = Finished.model_validate({**fields, "kind": kind, "rows": rows, **changes})
    scores = EdgeScores(torch.zeros(GRAPH.legal.shape), GRAPH)
    found = Circuit(GRAPH.legal, GRAPH) if kind == "circuit" else scores
    values = torch.tensor(kl).repeat(draws)[:, None] + torch.linspace(-0.1, 0.1, N_PROMPTS)
    store.write(record, found, values, prompt_ids)
    return record


def edited(record: R, edit: Callable[[dict[str, Any]], object]) -> R:
    """The record whose JSON `edit` has changed."""
    fields = record.as_json()
    edit(fields)
    return type(record).model_validate(fields)
