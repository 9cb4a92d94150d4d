"""What the tests of the benchmark share."""

from collections.abc import Callable
from typing import Any, TypeVar

from benchmarks.record import FINISHED, Result
from edgewise import Graph

R = TypeVar("R", bound=Result)

GRAPH = Graph(n_layers=2, n_heads=2)
N_PROMPTS = 12

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


def edited(record: R, edit: Callable[[dict[str, Any]], object]) -> R:
    """The record whose JSON `edit` has changed."""
    fields = record.as_json()
    edit(fields)
    return type(record).model_validate(fields)
