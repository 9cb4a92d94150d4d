"""Tasks with one right and one wrong next token: losses, metrics, and prompts from token ids."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from edgewise.metrics import (
    ACCURACY,
    EXACT_MATCH,
    KL,
    LOGIT_DIFFERENCE,
    Metric,
    kl_divergence,
    negative_logit_difference,
)
from edgewise.prompts import PromptPairs
from edgewise.task import Loss, Task

METRICS = {metric.name: metric for metric in (KL, LOGIT_DIFFERENCE, ACCURACY, EXACT_MATCH)}


class Example(NamedTuple):
    """Token ids of a prompt and its corrupted twin; targets, and right and wrong tokens there."""

    clean: list[int]
    corrupted: list[int]
    targets: list[int]
    answers: list[int]
    distractors: list[int]


def stacked(examples: Sequence[Example]) -> PromptPairs:
    """The examples, right-padded; all have the same number of targets."""
    assert all(len(example.clean) == len(example.corrupted) for example in examples)
    return PromptPairs(
        clean=pad_sequence([torch.tensor(example.clean) for example in examples], True),
        corrupted=pad_sequence([torch.tensor(example.corrupted) for example in examples], True),
        lengths=torch.tensor([len(example.clean) for example in examples]),
        targets=torch.tensor([example.targets for example in examples]),
        answers=torch.tensor([example.answers for example in examples]),
        distractors=torch.tensor([example.distractors for example in examples]),
    )


def next_token_task(
    name: str,
    version: int,
    splits: Mapping[str, PromptPairs],
    *,
    attribution_loss: Loss = negative_logit_difference,
    metrics: Mapping[str, Metric] = METRICS,
    templates: Sequence[str] = (),
) -> Task:
    """The training loss is the KL over the whole vocabulary, which is also the primary metric."""
    return Task(
        name,
        version,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        training_loss=kl_divergence,
        attribution_loss=attribution_loss,
        metrics=metrics,
        primary="kl",
        templates=templates,
    )
