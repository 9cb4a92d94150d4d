"""Tiny models with random weights and a tokenizer of words: run the Boolean tasks without files.

The models have learnt nothing. Their weights come from a fixed seed. They are larger than those of
a newly initialised model, so that predictions depend on the prompt.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks.boolean import BOOLEAN_FEW_SHOT, BOOLEAN_INSTRUCTION

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

SEED, WEIGHT_SIZE = 0, 0.2
UNKNOWN = "?"


def tiny_llama() -> "LlamaForCausalLM":
    """Two layers of four heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=WEIGHT_SIZE,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def tiny_gpt2() -> "GPT2LMHeadModel":
    """Two layers of four heads."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(_vocabulary()),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=WEIGHT_SIZE,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


TINY_MODELS: Mapping[str, "Callable[[], GPT2LMHeadModel | LlamaForCausalLM]"] = {
    "tiny-llama": tiny_llama,
    "tiny-gpt2": tiny_gpt2,
}
"""By the id that a suite gives."""


def tiny_model(id: str) -> "GPT2LMHeadModel | LlamaForCausalLM":
    """The same at every call; the global random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return TINY_MODELS[id]()


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """Every word and mark of the Boolean prompts is one token."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = _splitter()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def _vocabulary() -> dict[str, int]:
    prompts = (family.prompt("(True and False) or not") for family in _FAMILIES)
    words = [word for word, _ in _splitter().pre_tokenize_str(" ".join(prompts))]
    return {word: place for place, word in enumerate(dict.fromkeys((UNKNOWN, *words)))}


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )


_FAMILIES = (BOOLEAN_INSTRUCTION, BOOLEAN_FEW_SHOT)
