"""Ensemble: the mean of several methods' rankings.

An edge's score is its mean rank over the methods, scaled so that the best edge has 1. Ranks give
methods with scores of different scale the same weight.
Cost: that of all the methods in it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from edgewise.circuit import Cut, EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper, rank_shares


@dataclass(frozen=True)
class Ensemble(Wrapper):
    """Every inner method must rank all edges."""

    methods: str = "eap, eap-ig, gim"
    selection: Cut = "top"
    """How circuits are cut from the mean ranking, as for attribution methods."""
    name: ClassVar[str] = "ensemble"
    label: ClassVar[str] = "Ensemble"

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> EdgeScores:
        self.check_inner(["a ranking"])
        shares: list[Tensor] = []
        for inner in self.inner:
            found = inner.discover(model, task, generator=generator)
            assert isinstance(found, EdgeScores)
            shares.append(rank_shares(found))
        mean = torch.stack(shares).mean(0)
        return EdgeScores(mean, model.graph, selection=self.selection, ablation=task.ablation)
