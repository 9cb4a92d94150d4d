"""GPT-2 models of any shape with random weights, and random prompts: for timings, not for circuits.

Weights are seeded, so that counts of operations are the same on every machine.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from edgewise.circuit import Circuit, n_edges_at
from edgewise.metrics import KL, kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.random import Random

VOCABULARY = 512
SPARSITIES = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Of the circuits that a curve is timed with."""
SPREAD = 0.2
"""Of the weights: ten times that of a fresh GPT-2, so that removing an edge of a narrow model moves
the logits by more than rounding does."""


def gpt2_small() -> MaskedTransformer:
    """GPT-2 small's shape, its weights as a fresh model's."""
    torch.manual_seed(0)
    return MaskedTransformer(GPT2LMHeadModel(GPT2Config()))


def random_gpt2(n_layers: int, n_heads: int, d_model: int) -> MaskedTransformer:
    """A GPT-2 of this shape with a vocabulary of 512 tokens."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_layer=n_layers,
        n_head=n_heads,
        n_embd=d_model,
        initializer_range=SPREAD,
        bos_token_id=0,
        eos_token_id=0,
    )
    return MaskedTransformer(GPT2LMHeadModel(config))


def random_task(model: MaskedTransformer, *, prompts: int, positions: int) -> Task:
    """Prompts of equal length, scored at the last position."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, prompts, positions)
    clean, corrupted = torch.randint(model.architecture.n_tokens, shape, generator=generator)
    ends = torch.full((prompts, 1), positions - 1)
    pairs = PromptPairs(clean, corrupted, ends[:, 0] + 1, ends, clean[:, -1:], corrupted[:, -1:])
    return Task(
        name="random prompts",
        version=1,
        train=pairs,
        validation=pairs,
        test=pairs,
        training_loss=kl_divergence,
        attribution_loss=negative_logit_difference,
        metrics={"kl": KL},
        primary="kl",
    )


def random_circuits(model: MaskedTransformer, task: Task) -> list[Circuit]:
    """Cuts of one Random ranking: made of whole paths, so that little of them is dead."""
    generator = torch.Generator().manual_seed(0)
    (scores,) = Random(draws=1).discover(model, task, generator=generator)
    return [scores.circuit(n_edges_at(model.graph, sparsity)) for sparsity in SPARSITIES]
