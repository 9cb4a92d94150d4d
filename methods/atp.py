"""AtP: attribution patching with GradDrop (Kramár et al. 2024, arXiv:2403.00745), for edges.

EAP's score of each prompt, by its absolute value: effects of opposite sign on two prompts do not
cancel. GradDrop keeps a direct and an indirect effect from cancelling within a prompt: the gradient
is taken once for each layer, with the way through that layer's outputs cut off, and the absolute
values of these scores are averaged. In a model of one layer this would leave no gradient to score
that layer's readers by, so GradDrop is not used. The q/k fix computes the softmax of attention anew
for edges into queries and keys, since where it saturates its gradient says little.
Cost: two forward passes (clean and corrupted), and a backward pass for each layer. The q/k fix runs
a layer's attention twice for each writer before it, in every backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from edgewise.attribution import Attribution, PromptBatch, PromptScores, ScoredBatch
from edgewise.discovery import Unsupported
from edgewise.graph import Graph
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer


@dataclass(frozen=True)
class AtP(Attribution):
    """Scores have no sign."""

    grad_drop: bool = True
    """Whether GradDrop is used. Without it, and in a model of one layer, the absolute value of
    EAP's score is taken."""
    qk_fix: bool = False
    """Whether the attention, with its norm, is computed anew for each edge into a query or a key.
    Otherwise its gradient is taken there, too."""
    name: ClassVar[str] = "atp"
    label: ClassVar[str] = "AtP"
    version: ClassVar[int] = 1
    added: ClassVar[tuple[str, ...]] = ("qk_fix",)
    has_sign: ClassVar[bool] = False

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        n_backward = graph.n_layers if self.grad_drop else 1
        # On average half of the writers come before a layer.
        return 2.0 + n_backward * (4.0 + (len(graph.writers) if self.qk_fix else 0))

    def prompt_scores(self, model: MaskedTransformer, task: Task) -> Iterator[ScoredBatch]:
        if self.qk_fix and model.graph.coupled_heads:
            raise Unsupported(
                f"{self.label} with qk_fix=true on {model.id}, where a norm couples a layer's "
                "heads; expected qk_fix=false"
            )
        return super().prompt_scores(model, task)

    def scores(self, batch: PromptBatch) -> PromptScores:
        clean, graph = batch.trace(), batch.model.graph
        loss, difference = batch.loss(clean.logits, clean.logits), batch.difference(clean)
        if not self.grad_drop or graph.n_layers == 1:
            return clean.scores(loss, difference, attention_anew=self.qk_fix).abs()
        total, layers = torch.tensor(0.0), range(graph.n_layers)
        for layer in layers:
            scores = clean.scores(
                loss,
                difference,
                without_layer=layer,
                again=layer != layers[-1],
                attention_anew=self.qk_fix,
            )
            total = total + scores.abs()
        # A reader inside a layer has no score in the pass without that layer.
        total[:, :-1] /= graph.n_layers - 1
        total[:, -1] /= graph.n_layers
        return total
