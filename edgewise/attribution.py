"""What attribution methods share: their prompts in batches, and a ranking from the sum of scores.

Such a method scores every edge from gradients, or from activations alone, of a few passes.
"""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from edgewise import parallel
from edgewise.batches import Batches
from edgewise.circuit import Cut, EdgeScores
from edgewise.discovery import Checkpoint, Unsupported
from edgewise.graph import ABLATIONS, Ablation, Graph
from edgewise.memory import trace_bytes
from edgewise.method import Family, Method
from edgewise.progress import track
from edgewise.task import Task
from edgewise.trace import Trace
from edgewise.transformer import Logits, MaskedTransformer
from edgewise.writers import WriterBuffer

Selection = Literal[
    "top-absolute",
    "top-signed",
    "top-magnitude",
    "greedy-absolute",
    "greedy-signed",
    "greedy-magnitude",
    "connected-absolute",
    "connected-signed",
    "connected-magnitude",
]
_log = logging.getLogger(__name__)
_CUTS: dict[str, Cut] = {cut: cut for cut in get_args(Cut)}
Writers = Float[Tensor, "batch writer position d_model"]
PromptScores = Float[Tensor, "batch reader writer"]
ScoredBatch = tuple[Int[Tensor, " batch"], PromptScores]
"""Scores, and the indices of their prompts among all."""
EdgeTable = Float[Tensor, "reader writer"]


class PromptBatch:
    """Some prompt pairs of a task, for passes over them.

    The passes run on the tokens that follow the shared prefix.
    """

    def __init__(self, batches: Batches, task: Task, index: Int[Tensor, " batch"]) -> None:
        self.model, self.task = batches.model, task
        self.pairs = batches.pairs_at(index)
        self.prefix = batches.prefix_of(self.pairs)
        self._batches = batches

    @property
    def n_masks_at_once(self) -> int:
        """How many masks go through the model at once, each on all prompts of the batch."""
        return self._batches.n_masks_at_once(self.pairs)

    @property
    def targets(self) -> Int[Tensor, "batch target"]:
        """The target positions, counted from the prefix's end."""
        return self.pairs.targets - len(self.prefix)

    @property
    def real(self) -> Bool[Tensor, "batch position"]:
        """False at the positions beyond a prompt's end."""
        position = torch.arange(len(self.prefix), self.pairs.clean.shape[1])
        return position.to(self.model.device) < self.pairs.lengths[:, None]

    def ablated(self) -> Float[Tensor, "*batch_position writer d_model"] | None:
        """What removed edges carry; under interchange ablation this takes a pass."""
        return self._batches.ablated(self.pairs)

    def difference(self, clean: Trace) -> Writers:
        """What removed edges carry, minus the outputs in the trace of the clean prompts."""
        ablated = self.ablated()
        if ablated is None:
            return -clean.written
        shape = len(self.pairs), *ablated.shape[-3:]
        into = torch.empty_like(clean.written)
        return torch.sub(ablated.expand(shape).transpose(1, 2), clean.written, out=into)

    def trace(self, *, corrupted: bool = False, **options: Any) -> Trace:
        """A full pass over the clean or the corrupted prompts; `options` are those of `Trace`."""
        prompts, start = self.pairs.corrupted if corrupted else self.pairs.clean, len(self.prefix)
        return Trace(self.model, prompts[:, start:], self.targets, self.prefix, **options)

    def path(self, clean: Trace, difference: Writers, shares: Iterable[float]) -> Iterator[Trace]:
        """Traces whose embeddings are the clean ones, moved by each share of their difference."""
        embeddings = slice(len(self.model.graph.embeddings))
        for share in shares:
            yield self.trace(embedded=moved(clean.written, difference, share, embeddings))

    def buffer(self, *, n_masks: int = 1, paired: bool = False) -> WriterBuffer:
        """A writers' buffer for masked passes over the clean prompts."""
        tokens, prefix = self.pairs.clean[:, len(self.prefix) :], self.prefix
        ablated = self.ablated()
        return self.model.buffer(tokens, ablated, n_masks=n_masks, prefix=prefix, paired=paired)

    def loss(self, logits: Logits, full: Logits) -> Float[Tensor, "*mask batch"]:
        """The task's attribution loss; `full` are the full model's logits on clean prompts."""
        return self.task.attribution_loss(logits, full.detach(), self.pairs)


def moved(
    written: Writers, difference: Writers, share: float, writers: slice
) -> Float[Tensor, "batch position chosen d_model"]:
    """Some writers' outputs, moved by a share of their difference; as `Trace` takes them."""
    return (written[:, writers] + share * difference[:, writers]).transpose(1, 2)


@dataclass(frozen=True)
class Attribution(Method):
    """A method that scores all edges, prompt by prompt."""

    selection: Selection = "top-absolute"
    """How circuits are cut from the scores. `top` keeps the edges with the highest scores; `greedy`
    grows the circuit from `out`, adding the best edge whose reader already belongs to it;
    `connected` keeps the highest scores and drops dead ends, so that all edges are live.
    `absolute` ranks by the absolute value of a score, `signed` by the score itself. A score is a
    mean over prompts, in which effects of opposite signs cancel; `magnitude` ranks by the mean over
    prompts of the absolute value."""
    family: ClassVar[Family] = "attribution"
    ablations: ClassVar[tuple[Ablation, ...]] = ABLATIONS
    """What the method can score. Another ablation is refused."""
    patches: ClassVar[bool] = True
    """Whether the scores depend on what removed edges carry."""
    traces: ClassVar[int] = 1
    """How many traces are kept at the same time."""
    outputs: ClassVar[int] = 3
    """How many tensors of all writers' outputs are kept at the same time."""
    has_sign: ClassVar[bool] = True
    """Whether scores may be negative."""

    @abstractmethod
    def scores(self, batch: PromptBatch) -> PromptScores:
        """How much each prompt's loss grows when an edge alone is removed, as estimated."""

    def combined(self, mean: EdgeTable, graph: Graph) -> EdgeTable:
        """The edges' scores, from their means over prompts."""
        return mean

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> EdgeScores:
        """The ranking; the signed scores, means over prompts, are kept in its `extra`.

        Raises ValueError for scores that are not finite.
        """
        shape = model.graph.legal.shape
        total = torch.zeros(2, *shape, dtype=torch.float64, device=model.device)
        for _, scores in self.prompt_scores(model, task):
            total[0] += scores.sum(0, dtype=torch.float64)
            if self.selection.endswith("-magnitude"):
                total[1] += scores.abs().sum(0, dtype=torch.float64)
        mean, magnitude = (parallel.total(total) / len(task.train)).cpu()
        return self.ranking(mean, magnitude, model.graph, task.ablation)

    def ranking(
        self, mean: EdgeTable, magnitude: EdgeTable, graph: Graph, ablation: Ablation
    ) -> EdgeScores:
        """The ranking for the means over prompts of scores and of their absolute values.

        Raises ValueError for scores that are not finite.
        """
        signed, magnitude = (self.combined(table.float(), graph) for table in (mean, magnitude))
        cut, _, sign = self.selection.partition("-")
        wrong = int((~signed.isfinite()).sum())
        if wrong:
            raise ValueError(f"{wrong:,} scores of {self.label} are not finite numbers")
        return EdgeScores(
            {"absolute": signed.abs(), "signed": signed, "magnitude": magnitude}[sign],
            graph,
            extra={"signed": signed},
            selection=_CUTS[cut],
            ablation=ablation,
        )

    def prompt_scores(self, model: MaskedTransformer, task: Task) -> Iterator[ScoredBatch]:
        """Scores of this rank's training prompts, in batches, with the prompts' indices among them.

        Raises Unsupported for a task that cannot be scored.
        """
        if task.ablation not in self.ablations:
            raise Unsupported(
                f"{self.label} under {task.ablation} ablation; expected "
                f"{' or '.join(self.ablations)}"
            )
        mine = parallel.share(task.train)
        needed = trace_bytes(model, traces=self.traces, outputs=self.outputs)
        batches = Batches(
            model,
            mine,
            task.ablation if self.patches else "zero",
            budget_bytes=0,
            mean_over=task.train,
            token_bytes=needed,
            pass_bytes=needed,
        )
        halves = 1
        for index in track(batches.indices(), self.name):
            scored: list[ScoredBatch] = []
            try:
                scored = self._scored(batches, task, index, halves)
            except torch.OutOfMemoryError:
                if halves == 2 or len(index) == 1:
                    raise
            if not scored:  # outside the handler, which would keep the pass's tensors alive
                halves = 2
                _log.warning("%s: out of memory; batches are halved from here on", self.name)
                scored = self._scored(batches, task, index, halves)
            yield from scored

    def _scored(
        self, batches: Batches, task: Task, index: Int[Tensor, " batch"], parts: int
    ) -> list[tuple[Int[Tensor, " part"], Float[Tensor, "part reader writer"]]]:
        """The prompts at `index` and their scores, in so many parts."""
        return [
            (part, self.scores(PromptBatch(batches, task, part))) for part in index.chunk(parts)
        ]
