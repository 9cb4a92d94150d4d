"""Made-up results."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.record import Finished
from benchmarks.store import Store
from edgewise import Circuit, EdgeScores
from tests.benchmarks.samples import GRAPH, N_PROMPTS, record_fields

AGREES = 0.5
"""The accuracy of every made-up circuit."""


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
            "metrics": {"kl": kl[position], "accuracy": AGREES},
        }
        if draws > 1:
            row["draw"] = draw
        elif validation is not None:
            row["validation"] = {"kl": validation[position]}
        rows.append(row)
    return rows


@pytest.fixture
def add_cell(tmp_path: Path) -> Callable[..., Finished]:
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
    ) -> Finished:
        on_validation = (validation or kl) if kind == "scores" else None
        rows = _rows(sizes, kl, draws, on_validation)
        fields = record_fields(method, settings, task, seed)
        record = Finished.model_validate({**fields, "kind": kind, "rows": rows, **changes})
        scores = EdgeScores(torch.zeros(GRAPH.legal.shape), GRAPH)
        found = Circuit(GRAPH.legal, GRAPH) if kind == "circuit" else scores
        values = torch.tensor(kl).repeat(draws)[:, None] + torch.linspace(-0.1, 0.1, N_PROMPTS)
        store.write(record, found, {"kl": values, "accuracy": torch.full_like(values, AGREES)})
        return record

    return add
