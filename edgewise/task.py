"""A task: what a circuit is asked to reproduce, and how that is measured."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.graph import ABLATIONS, Ablation
from edgewise.metrics import Metric
from edgewise.prompts import PromptPairs, check_mean

Loss = Callable[
    [Float[Tensor, "*mask batch target vocab"], Float[Tensor, "batch target vocab"], PromptPairs],
    Float[Tensor, "*mask batch"],
]
"""(the circuit's logits, the full model's, the pairs) -> one value per example, to be minimised."""


@dataclass(frozen=True)
class Sizes:
    """How many prompt pairs of each kind; None is the task's own default."""

    train: int | None = None
    validation: int | None = None
    test: int | None = None


class TooFewPrompts(ValueError):
    """A task cannot make as many prompts of some kinds as it was asked for.

    `asked` says how many of each kind; together they can be `available` at most.
    """

    def __init__(self, message: str, asked: Mapping[str, int], available: int) -> None:
        super().__init__(message, asked, available)
        self.asked, self.available = asked, available

    def __str__(self) -> str:
        return self.args[0]

    def reduced(self, sizes: Sizes, kept: Collection[str]) -> Sizes:
        """The sizes, with fewer prompts of the kinds that are not `kept`, in the same proportions.

        At least one of each kind is left. Raises this error where that is not possible.
        """
        free = {kind: number for kind, number in self.asked.items() if kind not in kept}
        left = self.available - sum(self.asked.values()) + sum(free.values())
        if not free or left < len(free):
            raise self
        total = sum(free.values())
        return replace(sizes, **{kind: max(1, n * left // total) for kind, n in free.items()})


@dataclass(frozen=True, eq=False)
class Task:
    """Prompt pairs for discovery (train, validation) and for evaluation (test), losses and metrics.

    `training_loss` is the loss that masks are trained on and that ACDC tests edges with.
    `attribution_loss` is differentiated at the full model, where the KL's gradient vanishes, so a
    score from it is positive when removal hurts. `true_circuits` maps an ablation to the list of
    all minimal circuits, where they are known. `templates` are the texts that prompts are made
    from, if the task has any. `version` is increased whenever one of the numbers could change.
    """

    name: str
    version: int
    train: PromptPairs
    validation: PromptPairs
    test: PromptPairs
    training_loss: Loss
    attribution_loss: Loss
    metrics: Mapping[str, Metric]
    primary: str
    """The metric by which circuits are chosen and curves are drawn first."""
    ablation: Ablation = "interchange"
    true_circuits: Mapping[Ablation, list[Bool[Tensor, "reader writer"]]] = field(
        default_factory=dict
    )
    templates: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.primary not in self.metrics:
            raise ValueError(
                f"primary metric {self.primary!r}; expected one of {', '.join(self.metrics)}"
            )
        if self.ablation not in ABLATIONS:
            raise ValueError(f"ablation {self.ablation!r}; expected one of {', '.join(ABLATIONS)}")
        if self.ablation == "mean":
            for pairs in (self.train, self.validation, self.test):
                check_mean(pairs, over=self.train)

    def objective(self, name: str) -> Loss:
        """What a search minimises: the loss `training` or `attribution`, or a metric by its name.

        A metric of which more is better changes its sign. Raises ValueError for any other name.
        """
        losses = {"training": self.training_loss, "attribution": self.attribution_loss}
        if name in losses:
            return losses[name]
        if name not in self.metrics:
            known = ", ".join([*losses, *self.metrics])
            raise ValueError(f"objective={name!r}; expected one of {known} (task {self.name})")
        metric = self.metrics[name]
        if metric.better == "lower":
            return metric
        return lambda logits, full, pairs: -metric(logits, full, pairs)
