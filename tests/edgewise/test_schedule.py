"""What runs of a block, for which masks, and where its indices lie."""

import pytest
import torch

from edgewise.graph import Graph
from edgewise.schedule import Part, schedule
from tests.models import random_masks

CPU = torch.device("cpu")


def test_masks_that_run_the_same_heads_share_a_part() -> None:
    graph = Graph(2, 3)
    block = graph.blocks[2]  # a1, which may read 6 writers
    wanted = torch.zeros(5, len(graph.writers), dtype=torch.bool)
    wanted[:3, block.writers] = True
    wanted[3, block.writers.start + 1] = True  # and of the last mask, no head
    few = graph.mask_of(["tok->a1.h0.v", "m0->a1.h1.q"])
    present = torch.stack([few, graph.legal, few, few, few])
    parts = schedule(graph, wanted, present, CPU)
    together, dense, one_head = (part for part in parts if part.block == block)
    assert (together.masks, dense.masks, one_head.masks) == ((0, 2), (1,), (3,))
    assert together.heads is None
    assert dense.gathers is None
    assert together.gathers is not None
    assert one_head.gathers is not None
    m0 = graph.writers.index("m0")
    for gather in together.gathers:
        assert (gather.readers.tolist(), gather.writers.tolist()) == ([1, 6], [m0, 0])
        assert gather.starts.tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert one_head.gathers[0].readers.tolist() == [0]
    assert one_head.gathers[0].writers.tolist() == [m0]
    assert together.n_reads == 4
    assert dense.n_reads == 9 * 6


def test_all_indices_move_to_a_device_that_is_not_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The meta device stands for an accelerator: tensors there have a shape and no numbers."""
    monkeypatch.setattr(
        "edgewise.schedule.gathering_pays", lambda readers, legal, edges, _: edges < readers
    )
    graph = Graph(3, 4)
    wanted = random_masks(graph, 3, density=0.4)[:, 0]
    present = random_masks(graph, 3, density=0.1) & graph.legal
    here = schedule(graph, wanted, present, CPU)
    there = schedule(graph, wanted, present, torch.device("meta"))
    assert [shapes(part) for part in here] == [shapes(part) for part in there]
    assert all(index.is_meta for part in there for index in indices(part))


def indices(part: Part) -> list[torch.Tensor]:
    own = [part.chosen, part.readers, part.writers]
    gathered = [
        index
        for gather in part.gathers or ()
        for index in (gather.readers, gather.writers, gather.starts)
    ]
    return [index for index in own if isinstance(index, torch.Tensor)] + gathered


def shapes(part: Part) -> list[torch.Size]:
    return [index.shape for index in indices(part)]
