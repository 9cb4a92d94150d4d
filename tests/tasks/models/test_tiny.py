"""The tiny models of random weights, and their tokenizer."""

import pytest
import torch

from benchmarks.grid.suite import load_suite
from benchmarks.run.environment import default_device
from benchmarks.run.loading import Loader
from tasks.models.tiny import TINY_MODELS, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("id", TINY_MODELS)
def test_a_tiny_model_is_the_same_each_time_and_takes_no_random_number(id: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, other = tiny_model(id), tiny_model(id)
    assert torch.equal(torch.rand(3), expected)
    for before, after in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(before, after)
    assert sum(weight.numel() for weight in one.parameters()) < 50_000


def test_the_tiny_tokenizer_knows_every_word_of_the_boolean_prompts() -> None:
    tokenizer = tiny_tokenizer()
    most = min(tiny_model(id).config.max_position_embeddings for id in TINY_MODELS)
    for cell in load_suite("codellama-tiny").cells:
        task = Loader(default_device()).task(cell.bench)
        for prompt, length in zip(task.test.clean, task.test.lengths.tolist(), strict=True):
            assert tokenizer.unk_token_id not in prompt[:length].tolist()
        assert int(task.test.lengths.max()) <= most
