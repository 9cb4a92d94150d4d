"""Two-layer toys for searches that run thousands of passes, and tasks of random prompts."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from edgewise.graph import Ablation
from edgewise.metrics import KL, kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Loss, Task
from edgewise.transformer import MaskedTransformer
from tests import models


def gpt2(
    dtype: torch.dtype = torch.float64,
    *,
    n_layer: int = 2,
    embeddings: Literal["separate", "joint"] = "separate",
) -> MaskedTransformer:
    model = models.gpt2(n_layer=n_layer, n_head=2, n_embd=12).to(dtype)
    return MaskedTransformer(model, embeddings=embeddings)


def llama(
    dtype: torch.dtype = torch.float64, *, kv_heads: Literal["query", "key-value"] = "query"
) -> MaskedTransformer:
    """Four query heads share two key-value heads.

    Hugging Face's norm computes in float32 whatever the model's dtype, so it is replaced.
    """
    model = models.llama()
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, LlamaRMSNorm):
                setattr(parent, name, _Norm(norm))
    return MaskedTransformer(model.to(dtype), kv_heads=kv_heads)


class _Norm(RMSNorm):
    """Torch's norm with the weight and the attributes of Hugging Face's."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        super().__init__(norm.weight.shape, eps=norm.variance_epsilon)
        self.weight, self.variance_epsilon = norm.weight, norm.variance_epsilon


def random_pairs(n: int = 2) -> PromptPairs:
    """Prompts of several lengths, scored at their last two positions."""
    return models.random_pairs([8 - index % 4 for index in range(n)])


def task(
    pairs: PromptPairs | None = None,
    *,
    ablation: Ablation = "interchange",
    training_loss: Loss = kl_divergence,
) -> Task:
    pairs = pairs or random_pairs()
    return Task(
        name="random prompts",
        version=1,
        train=pairs,
        validation=pairs,
        test=pairs,
        training_loss=training_loss,
        attribution_loss=negative_logit_difference,
        metrics={"kl": KL},
        primary="kl",
        ablation=ablation,
    )


class Interrupted(Exception):
    """Stands for whatever kills a discovery."""


def interrupting(loss: Loss, calls: int) -> Loss:
    """The loss, but its call number `calls + 1` is never answered."""
    left = iter(range(calls))

    def interrupted(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        if next(left, None) is None:
            raise Interrupted
        return loss(logits, full, pairs)

    return interrupted
