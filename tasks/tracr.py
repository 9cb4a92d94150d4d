"""Compiled programs, whose true circuits are known (Tracr: Lindner et al., NeurIPS 2023).

Training, validation and test all use every input of the program, with zero ablation, as in the Edge
Pruning paper (Bhaskar et al., NeurIPS 2024). A corrupted prompt has another, random token at every
position. The output at BOS has no meaning for a program, so it is scored only on request.

Training losses are summed over positions, as in the paper's code. For a categorical program the
training loss is the KL. The attribution loss is minus the logit difference between the right output
and the output that would be right for the corrupted prompt. For a numerical program the training
loss is the squared error. Its gradient vanishes at the full model, so the attribution loss is
another: minus the output where the full model's output is above its mean over all inputs, plus the
output where it is below. It grows as the outputs for different inputs move closer to each other.

The paper trains xproportion on another loss: the KL between softmaxes of the outputs over
positions, including BOS. A constant shift of all outputs does not change this loss. Here that is a
separate task, `tracr-xproportion-softmax`. It scores BOS too, and so has its own true circuit, with
seven edges instead of five.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from edgewise import metrics
from edgewise.architectures.tracr import BOS, TracrArchitecture
from edgewise.graph import Ablation
from edgewise.metrics import Metric
from edgewise.prompts import PromptPairs
from edgewise.task import Loss, Sizes, Task
from edgewise.transformer import MaskedTransformer
from edgewise.truth import minimal_circuits, same_choice, within
from tasks.tracr_programs import Program

TOLERANCE = 0.05
"""A numerical output closer than this to the right one counts as right, as in the paper."""
_TRUTH_COPIES: dict[Ablation, int] = {"zero": 1, "interchange": 4}
"""The number of corrupted twins of each input that are used to find the true circuits."""


@dataclass(frozen=True)
class TracrTask:
    """The task of one program, which comes with its own model.

    With `over_positions` a numerical program is trained on a softmax over positions, BOS included.
    """

    program: Program
    over_positions: bool = False
    version: ClassVar[int] = 1
    owns_model: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"tracr-{self.program.name}" + ("-softmax" if self.over_positions else "")

    @property
    def digest(self) -> None:
        return None

    @property
    def description(self) -> str:
        meaning = (inspect.getdoc(self.program.make) or self.program.name).rstrip(".")
        loss = ", with the paper's loss over positions and BOS" if self.over_positions else ""
        return f"Compiled: {meaning}{loss}"

    def load_model(
        self, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> MaskedTransformer:
        """The compiled program: the same object at every call in a process."""
        return _load(self.program, dtype, torch.device(device))

    def build(
        self,
        model: MaskedTransformer,
        tokenizer: object = None,
        *,
        seed: int,
        sizes: Sizes | None = None,
        ablation: Ablation = "zero",
        bos: bool = False,
    ) -> Task:
        """All inputs, or a random sample of the size asked for; the model encodes them itself.

        With `bos` the output at BOS is scored too. Raises ValueError for a model that is not a
        compiled program or has another vocabulary, and for more prompts than there are inputs.
        """
        architecture = _architecture(model)
        bos = bos or self.over_positions
        generator = torch.Generator().manual_seed(seed)
        pairs = all_inputs(self.program, model, generator, bos=bos)
        splits = {
            split: self._sample(pairs, getattr(sizes, split, None), generator)
            for split in ("train", "validation", "test")
        }
        if architecture.categorical:
            training, attribution = _summed_kl, metrics.negative_logit_difference
            measured, primary = CATEGORICAL_METRICS, metrics.KL
        else:
            training = _kl_over_positions if self.over_positions else _summed_error
            attribution = against_mean(pairs.answers.mean(0))
            measured, primary = NUMERICAL_METRICS, metrics.SQUARED_ERROR
        return Task(
            self.name,
            self.version,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            training_loss=training,
            attribution_loss=attribution,
            metrics=measured,
            primary=primary.name,
            ablation=ablation,
            true_circuits=TrueCircuits(self.program, model, bos),
        )

    def _sample(self, pairs: PromptPairs, n: int | None, generator: Generator) -> PromptPairs:
        if n is None:
            return pairs
        if not 1 <= n <= len(pairs):
            raise ValueError(f"{n} prompts asked for; {self.name} has 1 to {len(pairs)}")
        return pairs[torch.randperm(len(pairs), generator=generator)[:n]]


def all_inputs(
    program: Program, model: MaskedTransformer, generator: Generator, *, bos: bool, copies: int = 1
) -> PromptPairs:
    """Every input of the program, each paired with `copies` corrupted twins."""
    architecture = _architecture(model)
    words = torch.arange(len(program.vocab))
    clean = torch.cartesian_prod(*[words] * program.length).repeat(copies, 1)
    shift = torch.randint(1, len(words), clean.shape, generator=generator)
    begin, ids = architecture.encode([[BOS, word] for word in program.vocab]).cpu().T
    prompts, twins = (
        torch.cat([begin[:1].expand(len(clean), 1), ids[chosen]], 1)
        for chosen in (clean, (clean + shift) % len(words))
    )
    first = 0 if bos else 1
    targets = torch.arange(first, prompts.shape[1]).repeat(len(prompts), 1)
    answers, others = (model(tokens, targets=targets).cpu() for tokens in (prompts, twins))
    return PromptPairs(
        clean=prompts,
        corrupted=twins,
        lengths=torch.full((len(prompts),), prompts.shape[1]),
        targets=targets,
        answers=answers.argmax(-1) if architecture.categorical else answers.squeeze(-1),
        distractors=others.argmax(-1) if architecture.categorical else None,
    )


@dataclass(frozen=True)
class TrueCircuits(Mapping[Ablation, list[Bool[Tensor, "reader writer"]]]):
    """All minimal circuits found, by ablation; the same for every seed, computed at first use."""

    program: Program
    model: MaskedTransformer
    bos: bool

    def __getitem__(self, ablation: Ablation) -> list[Bool[Tensor, "reader writer"]]:
        if ablation not in _TRUTH_COPIES:
            raise KeyError(ablation)
        return _true_circuits(self.program, self.model, ablation, self.bos)

    def __iter__(self) -> Iterator[Ablation]:
        return iter(_TRUTH_COPIES)

    def __len__(self) -> int:
        return len(_TRUTH_COPIES)


@lru_cache(maxsize=64)
def _true_circuits(
    program: Program, model: MaskedTransformer, ablation: Ablation, bos: bool
) -> list[Bool[Tensor, "reader writer"]]:
    generator = torch.Generator().manual_seed(0)
    pairs = all_inputs(program, model, generator, bos=bos, copies=_TRUTH_COPIES[ablation])
    reproduces = same_choice if _architecture(model).categorical else within(TOLERANCE)
    return minimal_circuits(model, pairs.to(model.device), reproduces, ablation=ablation)


def against_mean(mean: Float[Tensor, " target"]) -> Loss:
    """Minus the output where the full model's is above `mean`, plus the output elsewhere."""

    def loss(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        return -(logits * (full - mean[:, None].to(full)).sign()).sum(-1).mean(-1)

    return loss


def _summed_kl(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    return metrics.kl_divergence(logits, full, pairs) * pairs.targets.shape[1]


def _summed_error(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    return metrics.squared_error(logits, full, pairs) * pairs.targets.shape[1]


def _kl_over_positions(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    return metrics.kl_divergence(logits.transpose(-1, -2), full.transpose(-1, -2), pairs)


def _close(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    """The share of outputs that count as right: closer than `TOLERANCE` to the right one."""
    return ((logits.squeeze(-1) - pairs.answers).abs() < TOLERANCE).float().mean(-1)


CATEGORICAL_METRICS = {
    metric.name: metric
    for metric in (
        metrics.KL,
        # A prompt and its twin may have the same answers: no difference then means no mistake.
        replace(metrics.LOGIT_DIFFERENCE, right_above=None),
        replace(metrics.ACCURACY, right_above=0.99),
        metrics.EXACT_MATCH,
    )
}
NUMERICAL_METRICS = {
    metric.name: metric
    for metric in (
        metrics.SQUARED_ERROR,
        Metric("accuracy", _close, "higher", f"outputs within {TOLERANCE}", right_above=0.99),
    )
}


@cache
def _load(program: Program, dtype: torch.dtype, device: torch.device) -> MaskedTransformer:
    compiled = TracrArchitecture.compile(
        program.make(),
        vocab=program.vocab,
        max_seq_len=program.max_seq_len,
        dtype=dtype,
        device=device,
    )
    return MaskedTransformer(compiled, id=f"tracr/{program.name}")


def _architecture(model: MaskedTransformer) -> TracrArchitecture:
    architecture = model.architecture
    if not isinstance(architecture, TracrArchitecture):
        raise ValueError(f"{model.id} is no compiled program; expected the task's own model")
    return architecture
