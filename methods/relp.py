"""RelP: relevance patching (Jafari et al. 2025, arXiv:2508.21258), by relevance propagation.

EAP's formula with other gradients: a norm's denominator is a constant, an activation's slope is the
secant's, φ(x) / x, and the two factors of a gated MLP get half of the gradient each.
Cost: two forward passes (clean and corrupted) and one backward per prompt, all edges at once.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgewise.attribution import Attribution, PromptBatch, PromptScores
from edgewise.backward_rules import BackwardRules
from edgewise.graph import Graph


@dataclass(frozen=True)
class RelP(Attribution):
    """The defaults are the rules of the authors' code, with the clean prompt's gradients."""

    attention: Literal["gradient", "detached"] = "gradient"
    """With `detached`, the paper's rule for attention, patterns count as constants: edges into
    queries and keys then score 0."""
    gradients_of: Literal["clean", "corrupted"] = "clean"
    """The prompt whose gradients are taken. The authors' notebook takes the corrupted one."""
    name: ClassVar[str] = "relp"
    label: ClassVar[str] = "RelP"
    version: ClassVar[int] = 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        return 7.0 if self.gradients_of == "corrupted" else 6.0

    def scores(self, batch: PromptBatch) -> PromptScores:
        rules = BackwardRules(
            frozen_norms=True,
            secant_activations=True,
            half_products=True,
            detached_patterns=self.attention == "detached",
        )
        if self.gradients_of == "clean":
            run = clean = batch.trace(rules=rules)
        else:
            clean = batch.trace(gradient=False)
            run = batch.trace(corrupted=True, rules=rules)
        loss = batch.loss(run.logits, clean.logits)
        return run.scores(loss, batch.difference(clean))
