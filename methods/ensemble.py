"""Ensemble: the mean of several methods' rankings.

An edge's score is the mean of its places in the rankings, each as the share of edges that are not
ranked above it. So methods whose scores have other sizes count alike.
Cost: that of all the methods in it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from edgewise.circuit import Cut, EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper, rank_shares


@dataclass(frozen=True)
class Ensemble(Wrapper):
    """Every method in it must rank all edges. It starts anew where it was interrupted."""

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
        rankings = [self.ranking_of(inner, model, task, generator) for inner in self.inner]
        mean = torch.stack([rank_shares(ranking) for ranking in rankings]).mean(0).float()
        return EdgeScores(mean, model.graph, selection=self.selection, ablation=task.ablation)
