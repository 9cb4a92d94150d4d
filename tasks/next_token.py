"""Tasks of a right next token and a wrong one: how they are scored, and prompts put together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from edgewise.metrics import (
    ACCURACY,
    EXACT_MATCH,
    KL,
    LOGIT_DIFFERENCE,
    kl_divergence,
    negative_logit_difference,
)
from edgewise.prompts import PromptPairs
from edgewise.task import Task

METRICS = {metric.name: metric for metric in (KL, LOGIT_DIFFERENCE, ACCURACY, EXACT_MATCH)}


class Example(NamedTuple):
    """Token ids of a prompt and its corrupted twin; target positions, and two tokens for each."""

    clean: list[int]
    corrupted: list[int]
    targets: list[int]
    answers: list[int]
    distractors: list[int]


def stacked(examples: Sequence[Example]) -> PromptPairs:
    """The examples, right-padded; all have equally many targets."""
    clean, corrupted, *columns = zip(*examples, strict=True)
    assert list(map(len, clean)) == list(map(len, corrupted)), "a twin has the same length"
    rows = [pad_sequence(list(map(torch.tensor, side)), True) for side in (clean, corrupted)]
    return PromptPairs(*rows, torch.tensor(list(map(len, clean))), *map(torch.tensor, columns))


def next_token_task(name: str, version: int, splits: Mapping[str, PromptPairs]) -> Task:
    """Trained on the KL over the whole vocabulary, attributed by the logit difference."""
    return Task(
        name,
        version,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        training_loss=kl_divergence,
        attribution_loss=negative_logit_difference,
        metrics=METRICS,
    )
