"""Noising and denoising: the edges that either way of patching finds (arXiv:2505.10039).

The inner method runs twice: on clean prompts with edges corrupted (noising), and on corrupted
prompts with edges restored (denoising). If either of two edges suffices (OR), noising finds at most
one of them. If both are needed (AND), denoising finds at most one. Together they find both.
Rankings are combined by mean rank and circuits by union; the paper adds EAP's scores and ACDC's
changes of the KL, and averages Edge Pruning's masks.
Cost: twice that of the inner method.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper, rank_shares


@dataclass(frozen=True)
class NoisingAndDenoising(Wrapper):
    """Interchange ablation only: a mean or zero has no prompt to swap with. The training loss is
    taken to compare with the full model's outputs, as a KL divergence does."""

    methods: str = "eap"
    name: ClassVar[str] = "noising-and-denoising"
    label: ClassVar[str] = "Noising + denoising"
    takes_one: ClassVar[bool] = True

    @property
    def runs(self) -> int:
        return 2

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
        if task.train.answers.is_floating_point():
            raise Unsupported(f"{self.label} of a numerical task; expected one with answers")
        self.check_inner(["a circuit", "a ranking"])
        (inner,) = self.inner
        noising, denoising = (
            inner.discover(model, way, generator=generator) for way in (task, exchanged(task))
        )
        if isinstance(noising, Circuit) and isinstance(denoising, Circuit):
            return Circuit(noising.mask | denoising.mask, model.graph)
        assert isinstance(noising, EdgeScores) and isinstance(denoising, EdgeScores)
        mean = (rank_shares(noising) + rank_shares(denoising)) / 2
        return replace(noising, values=mean, extra={})


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
