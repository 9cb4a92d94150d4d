"""Batches of prompts with the inputs of a masked pass.

These are the ablated activations and the full model's target logits. Neither depends on the mask.
Both are computed at the start and kept while a memory budget allows; prompts beyond it are run
again each time they are drawn. Under interchange ablation a causal model runs a shared beginning of
all prompts once, and then only the rest of each prompt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.graph import Ablation
from edgewise.memory import evaluation_bytes, writers_bytes
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.progress import track
from edgewise.prompts import PromptPairs, check_mean
from edgewise.transformer import MaskedTransformer

BATCH_TOKENS = 4096
"""The most tokens that go through the model at once; memory bounds them as well."""
MARGIN = 1.5
"""A process may take this many times the tensors of a pass, as freed memory is fragmented."""
MIN_PREFIX = 8
"""The shortest shared beginning, in tokens, that is worth running separately."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompt pairs with the inputs of a masked pass on them.

    The masked pass runs on `tokens`, which follow the shared prefix.
    """

    pairs: PromptPairs
    ablated: Float[Tensor, "*batch_position writer d_model"] | None
    full_logits: Float[Tensor, "batch target vocab"]
    prefix: Prefix = NO_PREFIX

    @property
    def tokens(self) -> Int[Tensor, "batch position"]:
        """The clean prompts from the prefix's end on."""
        return self.pairs.clean[:, len(self.prefix) :]

    @property
    def targets(self) -> Int[Tensor, "batch target"]:
        """The target positions, counted from the prefix's end."""
        return self.pairs.targets - len(self.prefix)


class Batches:
    """Any batch of `pairs`, with its ablated activations and full logits.

    At most `budget_bytes` of per-prompt activations and logits are kept. A mean is taken over the
    corrupted prompts of `mean_over` (default: of `pairs`), per position, pads left out. Raises
    ValueError for prompts that have no such mean.
    `pass_bytes` is what a pass takes for each token, in all (default: an evaluation); where
    `model.memory_bytes` is set, it sizes batches, and at most half of that is kept. Otherwise
    `token_bytes` (default: all writers' outputs) sizes them.
    """

    def __init__(
        self,
        model: MaskedTransformer,
        pairs: PromptPairs,
        ablation: Ablation,
        *,
        budget_bytes: int = 2 * 2**30,
        mean_over: PromptPairs | None = None,
        token_bytes: int | None = None,
        pass_bytes: int | None = None,
    ) -> None:
        if not model.causal and bool((pairs.lengths != pairs.lengths[0]).any()):
            raise ValueError(f"{model.id} is not causal: all prompts must have the same length")
        if not model.causal and pairs.forks is not None:
            raise ValueError(f"{model.id} is not causal: no prompt may fork")
        if ablation == "mean":
            check_mean(pairs, over=mean_over or pairs)
        self.model, self.ablation = model, ablation
        self.pairs = pairs.to(model.device)
        self._lengths = pairs.lengths.cpu()
        self._mean = (
            mean_activations(model, mean_over or pairs, width=pairs.clean.shape[1])
            if ablation == "mean"
            else None
        )
        self.prefix = self._shared_prefix()
        position = pairs.clean.shape[1] - len(self.prefix)
        logits = (pairs.targets.shape[1], model.architecture.n_outputs)
        activations = (position, len(model.graph.writers), model.architecture.d_model)
        size = logits[0] * logits[1]
        if ablation == "interchange":
            size += activations[0] * activations[1] * activations[2]
        if model.memory_bytes is not None:
            budget_bytes = min(budget_bytes, model.memory_bytes // 2)
        self.n_kept = min(len(pairs), budget_bytes // (size * model.dtype.itemsize))
        kept_bytes = self.n_kept * size * model.dtype.itemsize
        self.batch_tokens = batch_tokens(model, token_bytes, pass_bytes, kept_bytes=kept_bytes)
        like = torch.empty(0, dtype=model.dtype, device=model.device)
        self._logits = like.new_empty(self.n_kept, *logits)
        # Zero beyond a prompt's end, because 0 x NaN in a gradient would be NaN.
        self._ablated = (
            like.new_zeros(self.n_kept, *activations) if ablation == "interchange" else None
        )
        if self.n_kept:
            self._fill(self.pairs[: self.n_kept])

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The pairs at `index`, with the inputs of a masked pass on them.

        They are padded to the longest of them or, where the index lies on an accelerator, to the
        longest of all: reading the index would wait for the accelerator.
        """
        longest = self._lengths[index] if index.device.type == "cpu" else self._lengths
        is_kept = self.n_kept == len(self.pairs) or bool((index < self.n_kept).all())
        index = index.to(self.model.device, non_blocking=True)
        pairs = self.pairs.take(index, int(longest.max()))
        if is_kept:
            ablated = self._kept_ablated(index, pairs.clean.shape[1] - len(self.prefix))
            return Batch(pairs, ablated, self._logits[index], self.prefix_of(pairs))
        return Batch(pairs, *self._run(pairs), self.prefix_of(pairs))

    def pairs_at(self, index: Int[Tensor, " batch"]) -> PromptPairs:
        """The pairs at `index`, cut to the longest of them."""
        return self.pairs.take(index.to(self.model.device), int(self._lengths[index].max()))

    @torch.no_grad()
    def ablated(self, pairs: PromptPairs) -> Float[Tensor, "*batch_position writer d_model"] | None:
        """What removed edges carry on these pairs, without a run of the clean prompts."""
        if self.ablation == "interchange":
            prefix = self.prefix_of(pairs)
            return self.model.activations(pairs.corrupted[:, len(prefix) :], prefix)
        return None if self._mean is None else self._mean[: pairs.clean.shape[1]]

    def prefix_of(self, pairs: PromptPairs) -> Prefix:
        """The shared prefix with the forks of these pairs, if they have any."""
        return self.prefix.before(pairs.forks)

    @property
    def n_prompts_at_once(self) -> int:
        """How many prompts of the greatest length go through the model at once."""
        width = self.pairs.clean.shape[1] - len(self.prefix)
        return max(1, self.batch_tokens // width)

    def n_masks_at_once(self, pairs: PromptPairs) -> int:
        """How many masks go through the model at once, each on all of these pairs."""
        return max(1, self.batch_tokens // pairs.clean.numel())

    def indices(self) -> list[Int[Tensor, " batch"]]:
        """Indices of all pairs, in length-sorted batches of at most `batch_tokens` tokens."""
        return list(self.pairs.batches(self.batch_tokens))

    def _shared_prefix(self) -> Prefix:
        if self.ablation != "interchange" or not self.model.causal:
            return NO_PREFIX
        start = self.pairs.common_start()
        return self.model.prefix(self.pairs.clean[0, :start]) if start >= MIN_PREFIX else NO_PREFIX

    def _kept_ablated(self, index: Tensor, width: int) -> Tensor | None:
        if self._ablated is not None:
            return self._ablated[index, :width]
        return None if self._mean is None else self._mean[:width]

    def _fill(self, kept: PromptPairs) -> None:
        for index in track(list(kept.batches(self.batch_tokens)), "full and corrupted runs"):
            pairs = kept.take(index, int(self._lengths[index].max()))
            ablated, self._logits[index] = self._run(pairs)
            if self._ablated is not None:
                assert ablated is not None
                self._ablated[index, : ablated.shape[1]] = ablated

    @torch.no_grad()
    def _run(self, pairs: PromptPairs) -> tuple[Tensor | None, Tensor]:
        start, prefix = len(self.prefix), self.prefix_of(pairs)
        clean, corrupted = pairs.clean[:, start:], pairs.corrupted[:, start:]
        targets = pairs.targets - start
        if self.ablation == "interchange":
            logits, ablated = self.model.logits_and_activations(clean, corrupted, targets, prefix)
            return ablated, logits
        logits = self.model(clean, targets=targets, prefix=prefix)
        return self.ablated(pairs), logits


def batch_tokens(
    model: MaskedTransformer,
    token_bytes: int | None = None,
    pass_bytes: int | None = None,
    *,
    kept_bytes: int = 0,
) -> int:
    """How many tokens go through the model at once, if each needs this many bytes.

    `kept_bytes` lie in memory beside the pass. The other arguments are those of `Batches`.
    """
    if model.memory_bytes is None:
        fitting = model.batch_bytes // (token_bytes or writers_bytes(model))
    else:
        needed = MARGIN * (pass_bytes or evaluation_bytes(model))
        fitting = int((model.memory_bytes - kept_bytes) / needed)
    return max(1, min(BATCH_TOKENS, fitting))


def mean_activations(
    model: MaskedTransformer, pairs: PromptPairs, *, width: int | None = None
) -> Float[Tensor, "position writer d_model"]:
    """Every writer's mean output on the corrupted prompts.

    The mean is taken per position, over the prompts that are long enough. Positions beyond the
    longest prompt, up to `width`, are zero: they stand for pads.
    """
    pairs = pairs.to(model.device)
    width = max(width or 0, pairs.clean.shape[1])
    total = torch.zeros(
        width,
        len(model.graph.writers),
        model.architecture.d_model,
        dtype=torch.float64,
        device=model.device,
    )
    for index in pairs.batches(batch_tokens(model)):
        batch = pairs[index]
        position = torch.arange(batch.clean.shape[1], device=model.device)
        real = position < batch.lengths[:, None]
        forks = NO_PREFIX.before(batch.forks)
        activations = model.activations(batch.corrupted, forks) * real[..., None, None]
        total[: len(position)] += activations.sum(0, dtype=torch.float64)
    reached = (torch.arange(width, device=model.device) < pairs.lengths[:, None]).sum(0)
    return (total / reached.clamp(min=1)[:, None, None]).to(model.dtype)


def mean_of_positions(
    model: MaskedTransformer, pairs: PromptPairs
) -> Float[Tensor, "writer d_model"]:
    """Every writer's mean output over all tokens of the corrupted prompts."""
    means, lengths = mean_activations(model, pairs), pairs.lengths.to(model.device)
    reached = (torch.arange(len(means), device=model.device) < lengths[:, None]).sum(0)
    weights = (reached / reached.sum()).to(means.dtype)
    return (means * weights[:, None, None]).sum(0)
