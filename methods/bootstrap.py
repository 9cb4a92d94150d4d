"""Bootstrap: edges whose mean score has a stable sign under resampling rank first.

The prompts are drawn again with replacement, and each resample has its own mean score. An edge is
consistent if the middle 95 % of these means are on one side of 0. Consistent edges rank before all
others, and both groups as the inner method ranks them. The idea is from arXiv:2510.25786, where the
intervals are those of the mean of all resamples.
Cost: that of the inner method. Its scores of each prompt are reused for all resamples.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise import parallel
from edgewise.attribution import Attribution
from edgewise.circuit import EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from edgewise.wrapper import Wrapper


@dataclass(frozen=True)
class Bootstrap(Wrapper):
    """The inner method must be an attribution method whose scores have a sign."""

    methods: str = "eap-ig"
    resamples: Annotated[int, Interval(ge=10, le=10_000)] = 100
    """How many times the prompts are drawn."""
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """The share of resamples in the middle, all of which must have the same sign."""
    name: ClassVar[str] = "bootstrap"
    label: ClassVar[str] = "Bootstrap"
    takes_one: ClassVar[bool] = True

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
        if not isinstance(inner, Attribution) or not inner.has_sign:
            raise Unsupported(
                f"{self.label} of {inner.label}; expected an attribution method whose scores have "
                "a sign"
            )
        n_prompts, shape = len(task.train), model.graph.legal.shape
        if n_prompts < 2:
            raise Unsupported(f"{self.label} with {n_prompts} prompt; expected two or more")
        # Each prompt's weight in each resample, and in the mean over all prompts.
        weights = torch.cat([self._counts(n_prompts, generator), torch.ones(1, n_prompts)])
        weights = parallel.share(weights.T.contiguous()).T.double().to(model.device)
        total = weights.new_zeros(len(weights) + 1, shape.numel())
        for index, scores in inner.prompt_scores(model, task):
            total[:-1] += weights[:, index] @ scores.flatten(1).double()
            total[-1] += scores.flatten(1).abs().sum(0, dtype=torch.float64)
        *resampled, mean, magnitude = (parallel.total(total) / n_prompts).view(-1, *shape).cpu()
        tail = (1 - self.confidence) / 2
        ends = torch.stack(resampled).quantile(torch.tensor([tail, 1 - tail]).double(), 0)
        consistent = ((ends[0] > 0) | (ends[1] < 0)).double()
        found = inner.ranking(mean, magnitude, model.graph, task.ablation)
        # In float64, for the order within both groups to stay.
        values = found.values.double()
        values = values / values.abs().max().clamp(min=1e-300) + 3 * consistent
        extra = {**found.extra, "consistent": consistent.float()}
        return replace(found, values=values, extra=extra)

    def _counts(self, n_prompts: int, generator: Generator) -> Float[Tensor, "resample prompt"]:
        """How often each resample has each prompt."""
        size = self.resamples, n_prompts
        drawn = torch.randint(n_prompts, size, generator=generator, device=generator.device).cpu()
        return torch.zeros(size).scatter_add_(1, drawn, torch.ones(size))
