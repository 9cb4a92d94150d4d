"""Attribution scores against exact patching, cell by cell of the same seed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from benchmarks.record import Finished
from benchmarks.report.results import Results
from benchmarks.report.tables.attribution import attribution
from benchmarks.store import Store
from edgewise import EdgeScores
from tests.benchmarks.samples import GRAPH


def add_scores(store: Store, record: Finished, signed: torch.Tensor) -> torch.Tensor:
    store.write(record, EdgeScores(signed.abs(), GRAPH, extra={"signed": signed}))
    return signed[GRAPH.legal]


def random(seed: int) -> torch.Tensor:
    return torch.randn(GRAPH.legal.shape, generator=torch.Generator().manual_seed(seed))


def test_scores_are_compared_with_the_exact_ones_of_their_seed(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    """Two seeds of EAP, one of which has an exact cell; two selections of the same scores; a
    method without signs; and a method without scores."""
    store = Store(tmp_path / "results")
    exact = add_scores(store, add_cell("exact", {}, [5], [0.1]), random(0))
    eap = random(1)
    for selection in ("top-absolute", "top-signed"):
        add_scores(store, add_cell("eap", {"selection": selection}, [5], [0.1]), eap)
    add_scores(store, add_cell("eap", {}, [5], [0.1], seed=1), random(2))
    unsigned = add_scores(store, add_cell("atp", {}, [5], [0.1]), random(3).abs())
    add_cell("acdc", {"threshold": 0.1}, [5], [0.1], kind="circuit")
    lines = {line["method"]: line for line in attribution(Results(tmp_path / "results"))}
    assert list(lines) == ["EAP", "AtP"]
    one = lines["EAP"]
    assert (one["setting"], one["seeds"]) == ("", 1)
    of_eap = eap[GRAPH.legal]
    assert one["pearson"] == pytest.approx(pearsonr(of_eap, exact)[0])
    assert one["spearman"] == pytest.approx(spearmanr(of_eap, exact)[0])
    assert one["signs"] == pytest.approx(float((of_eap.sign() == exact.sign()).float().mean()))
    assert lines["AtP"]["pearson"] == pytest.approx(pearsonr(unsigned, exact.abs())[0])
    assert lines["AtP"]["signs"] is None


def test_without_exact_patching_there_is_no_table(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    store = Store(tmp_path / "results")
    add_scores(store, add_cell("eap", {}, [5], [0.1]), random(0))
    assert attribution(Results(tmp_path / "results")) == []


def test_a_method_that_is_not_known_is_passed_over(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("gone", {}, [5], [0.1])
    assert not attribution(Results(tmp_path / "results"))
