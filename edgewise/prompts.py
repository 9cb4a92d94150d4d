"""Pairs of a clean and a corrupted prompt, the scored positions, and the answers expected there."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Int, Num
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Prompts as token ids, right-padded to one width; `lengths` says where each ends.

    A prompt and its corrupted twin have the same length. `targets` are the positions whose
    predictions count; `answers` are the token ids (or, for a numerical task, the values) expected
    there, and `distractors` the token ids that the answer is compared with, where a task has them.

    `forks`, where a task has them, are the positions at which prompts fork: each token from there
    on is a continuation of its own of the tokens before the fork. It has the fork's position and
    sees only itself and those tokens, so one pass gives the same results as a separate pass for
    each continuation. `templates` holds the index of each prompt's template among the task's, if it
    has any.
    """

    clean: Int[Tensor, "prompt position"]
    corrupted: Int[Tensor, "prompt position"]
    lengths: Int[Tensor, " prompt"]
    targets: Int[Tensor, "prompt target"]
    answers: Num[Tensor, "prompt target"]
    distractors: Int[Tensor, "prompt target"] | None = None
    forks: Int[Tensor, " prompt"] | None = None
    templates: Int[Tensor, " prompt"] | None = None

    def __post_init__(self) -> None:
        if self.clean.shape != self.corrupted.shape:
            raise ValueError(
                f"clean prompts are {tuple(self.clean.shape)} and corrupted ones "
                f"{tuple(self.corrupted.shape)}; expected equal shapes"
            )
        if len(self) == 0:
            raise ValueError("no prompts; expected at least one pair")
        # On an accelerator this check would wait for the device. Prompts are made on the CPU and
        # checked there.
        if self.targets.device.type == "cpu" and bool(
            ((self.targets < 0) | (self.targets >= self.lengths[:, None])).any()
        ):
            raise ValueError("a target position lies outside its prompt")
        if (
            self.forks is not None
            and self.forks.device.type == "cpu"
            and bool(((self.forks < 1) | (self.forks > self.lengths)).any())
        ):
            raise ValueError("a fork lies outside its prompt; expected a token before it")

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: Int[Tensor, " batch"] | slice) -> "PromptPairs":
        """The pairs at `index`, cut to the longest of them."""
        return self.take(index, int(self.lengths[index].max()))

    def take(self, index: Int[Tensor, " batch"] | slice, width: int) -> "PromptPairs":
        """The pairs at `index`, cut to `width`: at least the length of the longest of them."""
        chosen = {
            field.name: value[index]
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        for name in ("clean", "corrupted"):
            chosen[name] = chosen[name][:, :width]
        return replace(self, **chosen)

    def to(self, device: torch.device) -> "PromptPairs":
        moved = {
            field.name: None if (value := getattr(self, field.name)) is None else value.to(device)
            for field in fields(self)
        }
        return replace(self, **moved)

    def clean_hashes(self) -> list[str]:
        """Of each clean prompt, a hash of its tokens: the same wherever the prompt is the same."""
        prompts = zip(self.clean.tolist(), self.lengths.tolist(), strict=True)
        return [
            hashlib.sha256(json.dumps(tokens[:length]).encode()).hexdigest()[:12]
            for tokens, length in prompts
        ]

    def common_start(self) -> int:
        """How many tokens all prompts begin with, clean and corrupted, before targets and forks."""
        ends = self.targets if self.forks is None else self.targets.minimum(self.forks[:, None])
        start = torch.cat([self.clean, self.corrupted])[:, : int(ends.min())]
        return int((start == start[0]).all(0).cumprod(0).sum())

    def batches(self, max_tokens: int) -> Iterator[Int[Tensor, " batch"]]:
        """Indices of all pairs, sorted by length, in batches of at most `max_tokens` padded tokens.

        The indices lie on the CPU. A batch holds at least one pair. Causal models are exact under
        right padding, so sorting costs nothing and wastes the least.
        """
        lengths, order = torch.sort(self.lengths.cpu(), stable=True)
        ascending, start = lengths.tolist(), 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and max_tokens >= (stop + 1 - start) * ascending[stop]:
                stop += 1
            yield order[start:stop]
            start = stop


def check_mean(pairs: PromptPairs, over: PromptPairs) -> None:
    """Raises ValueError if a mean over the prompts of `over` cannot be used for `pairs`.

    It is taken per position, so there is none beyond the longest of those prompts.
    """
    if pairs.forks is not None:
        raise ValueError(
            "mean ablation of prompts that fork: a continuation's place holds words in other "
            "prompts; expected interchange or zero"
        )
    longest, reached = int(pairs.lengths.max()), int(over.lengths.max())
    if longest > reached:
        raise ValueError(
            f"mean ablation of a prompt of {longest} tokens, with a mean over prompts of at most "
            f"{reached}; expected longer training prompts, or interchange or zero"
        )
