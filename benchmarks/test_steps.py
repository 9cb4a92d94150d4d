"""How long one step of a method takes, against as many operations in large matrix products."""

import itertools

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.conftest import AgainstProducts
from edgewise.metrics import KL, kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning, Training

PROMPTS, POSITIONS = 8, 16
OPERATIONS = 65e9
"""Of one training step on GPT-2 small with 8 prompts of 16 tokens."""


def random_task(vocabulary: int) -> Task:
    """A task whose every batch is all of its prompts, scored at the last position."""
    clean, corrupted = torch.randint(vocabulary, (2, PROMPTS, POSITIONS))
    ends = torch.full((PROMPTS, 1), POSITIONS - 1)
    answers, distractors = clean[:, -1:], corrupted[:, -1:]
    pairs = PromptPairs(clean, corrupted, ends[:, 0] + 1, ends, answers, distractors)
    return Task(
        name="random prompts",
        version=1,
        train=pairs,
        validation=pairs,
        test=pairs,
        training_loss=kl_divergence,
        attribution_loss=negative_logit_difference,
        metrics={"kl": KL},
    )


def test_a_step_of_edge_pruning_on_gpt2_small(against_products: AgainstProducts) -> None:
    """What `discover` does in each step; full and corrupted runs are kept, as there."""
    torch.manual_seed(0)
    model = MaskedTransformer(GPT2LMHeadModel(GPT2Config()))
    task = random_task(model.architecture.n_outputs)
    method = EdgePruning(batch_size=PROMPTS)
    training = Training(method, model, task, torch.Generator().manual_seed(0))
    steps = itertools.count()
    against_products(lambda: training.step(next(steps)), OPERATIONS)
