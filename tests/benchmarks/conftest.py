"""Made-up results."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.store import FINISHED, SCHEMA, Record, Store
from edgewise import Circuit, EdgeScores
from tests.benchmarks.samples import GRAPH, N_PROMPTS

AGREES = 0.5
"""The accuracy of every made-up circuit."""


def _rows(
    sizes: Sequence[int], kl: Sequence[float], draws: int, validation: Sequence[float] | None
) -> list[Record]:
    """A row per draw and size; `validation` is the KL on the validation prompts, if it is known."""
    rows: list[Record] = []
    for draw, (position, edges) in product(range(draws), enumerate(sizes)):
        row: Record = {
            "edges": edges,
            "sparsity": 1 - edges / GRAPH.n_edges,
            "live_sparsity": 1 - edges / GRAPH.n_edges,
            "metrics": {"kl": kl[position], "accuracy": AGREES},
        }
        if draws > 1:
            row["draw"] = draw
        elif validation is not None:
            row["validation"] = {"kl": validation[position]}
        rows.append(row)
    return rows


def _record(method: str, settings: dict[str, Any], task: str, seed: int) -> Record:
    """All but the rows."""
    key = "-".join(map(str, [*settings.values(), seed]))
    return {
        "schema": SCHEMA,
        "name": f"{task}-{method}-{key}",
        "status": FINISHED,
        "definition": {
            "method": method,
            "method_version": 1,
            "settings": settings,
            "sparsities": [],
            "task": task,
            "seed": seed,
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
        "environment": {"device_name": "a processor", "jobs": 1},
        "seconds": 2.0 + seed,
        "peak_bytes": 3 * 2**20,
        "forward_equivalents": 12.5,
    }


@pytest.fixture
def add_cell(tmp_path: Path) -> Callable[..., Record]:
    """Writes a made-up finished cell into tmp_path/results; `kl` is per size, and per prompt."""
    store = Store(tmp_path / "results")
    store.prepare()

    def add(
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
        **changes: Any,
    ) -> Record:
        on_validation = (validation or kl) if kind == "scores" else None
        rows = _rows(sizes, kl, draws, on_validation)
        record = {**_record(method, settings, task, seed), "kind": kind, "rows": rows, **changes}
        scores = EdgeScores(torch.zeros(GRAPH.legal.shape), GRAPH)
        found = Circuit(GRAPH.legal, GRAPH) if kind == "circuit" else scores
        values = torch.tensor(kl).repeat(draws)[:, None] + torch.linspace(-0.1, 0.1, N_PROMPTS)
        store.write(record, found, {"kl": values, "accuracy": torch.full_like(values, AGREES)})
        return record

    return add
