"""Searches at several thresholds as one ranking."""

import re
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from edgewise.circuit import EdgeScores
from edgewise.discovery import Checkpoint, Meter, Unsupported
from edgewise.metrics import kl_divergence
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from methods.acdc_ranking import ACDCRanking, places
from methods.eap import EAP
from tests.methods import toys

RANKING = ACDCRanking(lowest=5e-4, highest=8e-3, searches=3)


def small() -> MaskedTransformer:
    return toys.gpt2(n_layer=1)


def discover(
    inner: ACDC, model: MaskedTransformer, task: Task, checkpoint: Checkpoint | None = None
) -> EdgeScores:
    ranking = RANKING.around([inner])
    found = ranking.discover(
        model, task, generator=Generator().manual_seed(3), checkpoint=checkpoint
    )
    assert isinstance(found, EdgeScores)
    return found


def test_edges_are_ranked_by_the_smallest_threshold_that_removes_them() -> None:
    model, task, generator = small(), toys.task(), Generator().manual_seed(3)
    assert RANKING.thresholds == pytest.approx([5e-4, 2e-3, 8e-3])
    circuits = [
        ACDC(threshold=threshold).discover(model, task, generator=generator)
        for threshold in RANKING.thresholds
    ]
    found = discover(ACDC(), model, task)
    stay = [circuit.mask for circuit in circuits]
    assert model.graph.n_edges > stay[0].sum() > (stay[0] & stay[1]).sum() > 0
    for kept in (stay[0], stay[0] & stay[1], stay[0] & stay[1] & stay[2]):
        assert torch.equal(found.circuit(int(kept.sum())).mask, kept)
    assert found.meta["tested"] == sum(circuit.meta["tested"] for circuit in circuits)


def test_among_edges_removed_at_one_threshold_those_come_first_that_more_searches_keep() -> None:
    kept = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 0, 0]]).bool()
    order = places(kept[:, None])[0].argsort(descending=True)
    assert order.tolist() == [0, 1, 2, 3, 5, 4]


def test_an_interrupted_ranking_keeps_the_searches_that_were_done(tmp_path: Path) -> None:
    inner, task = ACDC(reader_order="random", parent_order="random"), toys.task()

    def run(loss: object) -> tuple[Tensor, int]:
        model = small()
        meter = Meter(model)
        checkpoint = Checkpoint(tmp_path / "state", meter, every_seconds=0.0)
        with meter.run():
            found = discover(inner, model, toys.task(training_loss=loss), checkpoint)  # type: ignore[arg-type]
        return found.values, meter.flops

    expected, flops = run(kl_divergence)
    (tmp_path / "state").unlink()
    calls = discover(inner, small(), task).meta["tested"] // 2
    with pytest.raises(toys.Interrupted):
        run(toys.interrupting(kl_divergence, calls))
    values, resumed_flops = run(kl_divergence)
    assert torch.equal(values, expected)
    assert resumed_flops == flops


def test_it_is_a_ranking_of_acdc_alone() -> None:
    ranking = ACDCRanking().around([EAP()])
    with pytest.raises(Unsupported, match="ACDC ranking of EAP; expected ACDC"):
        ranking.discover(small(), toys.task(), generator=Generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowest": 0.1}, "lowest=0.1; expected less than 0.1 (highest)"),
        ({"methods": "acdc(threshold=1)"}, "methods='acdc(threshold=1)'; expected no threshold"),
        ({"searches": 1}, "searches=1; expected a number greater than or equal to 2"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    settings: dict[str, object], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ACDCRanking(**settings)  # type: ignore[arg-type]
