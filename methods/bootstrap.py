"""Bootstrap: edges whose score keeps its sign over resamples of the prompts come first.

The prompts are drawn again with replacement, and each resample has its own mean score. An edge is
consistent if the middle 95 % of these means are on one side of 0. Consistent edges rank before all
others, both by the absolute value of their mean over all prompts (the idea is from
arXiv:2510.25786, whose intervals are those of the mean of all resamples).
Cost: that of the method in it, whose scores of each prompt serve all resamples.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Generator

from edgewise import parallel
from edgewise.attribution import Attribution
from edgewise.circuit import Cut, EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper


@dataclass(frozen=True)
class Bootstrap(Wrapper):
    """The method in it must score every edge of each prompt, as attribution methods do."""

    methods: str = "eap-ig"
    resamples: Annotated[int, Interval(ge=10, le=10_000)] = 100
    """How many times the prompts are drawn."""
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """The share of resamples that must agree on the sign."""
    selection: Cut = "top"
    """How circuits are cut from the ranking, as for attribution methods."""
    name: ClassVar[str] = "bootstrap"
    label: ClassVar[str] = "Bootstrap"
    most_inner: ClassVar[int | None] = 1

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> EdgeScores:
        """The ranking; the mean scores and which edges are consistent are kept in its `extra`."""
        (inner,) = self.inner
        if not isinstance(inner, Attribution):
            raise Unsupported(f"{self.label} of {inner.label}; expected an attribution method")
        n_prompts, shape = len(task.train), model.graph.legal.shape
        drawn = torch.randint(
            n_prompts,
            (self.resamples, n_prompts),
            generator=generator,
            device=generator.device,
        )
        counts = torch.zeros(self.resamples, n_prompts, dtype=torch.float64, device=model.device)
        counts.scatter_add_(1, drawn, torch.ones_like(counts))
        # The last row is the mean over all prompts.
        counts = parallel.share(torch.cat([counts, torch.ones_like(counts[:1])]).T.contiguous()).T
        total = counts.new_zeros(len(counts), shape.numel())
        for index, scores in inner.prompt_scores(model, task):
            total += counts[:, index] @ scores.flatten(1).double()
        *resampled, mean = (parallel.total(total) / n_prompts).view(-1, *shape).cpu()
        tail = (1 - self.confidence) / 2
        ends = torch.stack(resampled).quantile(torch.tensor([tail, 1 - tail]).double(), 0)
        consistent = (ends[0] > 0) | (ends[1] < 0)
        values = mean.abs() + consistent * mean.abs().max()
        return EdgeScores(
            values.float(),
            model.graph,
            extra={"signed": mean.float(), "consistent": consistent.float()},
            selection=self.selection,
            ablation=task.ablation,
        )
