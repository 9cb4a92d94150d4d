"""Made-up results."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.store import FINISHED, SCHEMA, Record, Store
from edgewise import Circuit, EdgeScores
from tests.benchmarks.samples import GRAPH, N_PROMPTS


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
        spread = torch.linspace(-0.1, 0.1, N_PROMPTS)
        values = torch.tensor(kl).repeat(draws)[:, None] + spread
        rows: list[Record] = []
        for draw in range(draws):
            for position, edges in enumerate(sizes):
                row: Record = {
                    "edges": edges,
                    "sparsity": 1 - edges / GRAPH.n_edges,
                    "live_sparsity": 1 - edges / GRAPH.n_edges,
                    "metrics": {"kl": kl[position], "accuracy": 0.5},
                }
                if draws > 1:
                    row["draw"] = draw
                elif kind == "scores":
                    row["validation"] = {"kl": (validation or kl)[position]}
                rows.append(row)
        key = "-".join(map(str, [*settings.values(), seed]))
        record: Record = {
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
            "kind": kind,
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
            "rows": rows,
            "seconds": 2.0 + seed,
            "peak_bytes": 3 * 2**20,
            "forward_equivalents": 12.5,
            **changes,
        }
        scores = EdgeScores(torch.zeros(GRAPH.legal.shape), GRAPH)
        found = Circuit(GRAPH.legal, GRAPH) if kind == "circuit" else scores
        store.write(record, found, {"kl": values, "accuracy": torch.full_like(values, 0.5)})
        return record

    return add
