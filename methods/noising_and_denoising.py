"""Noising and denoising: the edges that either way of patching finds (arXiv:2505.10039).

The method inside is run twice: on the task, where clean prompts run and edges are corrupted, and
with the two prompts of every pair exchanged, where corrupted prompts run and edges are restored. Of
edges any one of which suffices (OR) noising finds none or one, of edges that are all needed (AND)
denoising does; together they find both. Rankings are combined by the mean of their places, circuits
by their union.
Cost: twice that of the method in it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.graph import Graph
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper, rank_shares


@dataclass(frozen=True)
class NoisingAndDenoising(Wrapper):
    """It starts anew where it was interrupted. A mean or zeros cannot be exchanged with a prompt:
    it runs under interchange ablation alone."""

    methods: str = "eap"
    name: ClassVar[str] = "noising-and-denoising"
    label: ClassVar[str] = "Noising + denoising"
    most_inner: ClassVar[int | None] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float | None:
        once = super().most_passes(graph, n_prompts)
        return None if once is None else 2 * once

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores:
        if task.ablation != "interchange":
            raise Unsupported(f"{self.label} under {task.ablation} ablation; expected interchange")
        (inner,) = self.inner
        found = [inner.discover(model, way, generator=generator) for way in (task, exchanged(task))]
        match found:
            case [Circuit() as noising, Circuit() as denoising]:
                return Circuit(noising.mask | denoising.mask, model.graph)
            case [EdgeScores() as noising, EdgeScores() as denoising]:
                mean = (rank_shares(noising) + rank_shares(denoising)) / 2
                return EdgeScores(
                    mean.float(), model.graph, selection=noising.selection, ablation=task.ablation
                )
        raise Unsupported(f"{self.label} of {inner.label}; expected one circuit or one ranking")


def exchanged(task: Task) -> Task:
    """The task with clean and corrupted prompts exchanged.

    Answers stay those of the clean prompts, so the loss that attribution differentiates changes its
    sign: removing an edge now hurts if it makes these answers more probable.
    """

    def exchange(pairs: PromptPairs) -> PromptPairs:
        return replace(pairs, clean=pairs.corrupted, corrupted=pairs.clean)

    def loss(logits: torch.Tensor, full: torch.Tensor, pairs: PromptPairs) -> torch.Tensor:
        return -task.attribution_loss(logits, full, pairs)

    return replace(
        task,
        train=exchange(task.train),
        validation=exchange(task.validation),
        test=exchange(task.test),
        attribution_loss=loss,
        true_circuits={},
    )
