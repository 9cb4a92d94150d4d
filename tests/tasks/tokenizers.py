"""Tokenizers of every kind that know the words of all tasks, made here in a moment.

`words`: every word, number and mark is one token. `bytes`: byte-level BPE, as GPT-2 has it.
`pieces`: BPE with marks for spaces and a BOS, digits one by one, as Llama 2 has it. `characters`:
every character is one token, so that hardly any word is.
"""

import pkgutil
import string
from collections.abc import Callable
from functools import cache
from importlib import import_module

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast as FastTokenizer

import tasks.words
from tasks.boolean import BOOLEAN_FEW_SHOT, BOOLEAN_INSTRUCTION

NUMBERS = [str(number) for number in range(200)]
LARGE = 30_000


@cache
def texts() -> list[str]:
    """All sentences and words of all tasks."""
    found = [
        family.prompt("( True and False ) or not")
        for family in (BOOLEAN_FEW_SHOT, BOOLEAN_INSTRUCTION)
    ]
    for module in pkgutil.iter_modules(tasks.words.__path__):
        for name, value in vars(import_module(f"tasks.words.{module.name}")).items():
            if isinstance(value, str) and name.isupper():
                found.append(value)
            elif isinstance(value, tuple):
                found.extend(text.replace("/", " ") for text in value)
    return [*found, *NUMBERS, *string.ascii_uppercase, "a", "she he"]


def word_tokenizer() -> FastTokenizer:
    splitter = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    seen = dict.fromkeys(word for text in texts() for word, _ in splitter.pre_tokenize_str(text))
    vocabulary = {word: k for k, word in enumerate(["<unk>", *seen])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter  # pyright: ignore[reportAttributeAccessIssue]
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="<unk>")


def byte_tokenizer() -> FastTokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, trainers.BpeTrainer(vocab_size=LARGE, initial_alphabet=alphabet))


def piece_tokenizer() -> FastTokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()  # pyright: ignore
    special = ["<unk>", "<s>"]
    trained = _trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=LARGE, special_tokens=special),  # pyright: ignore
    )
    trained.backend_tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    trained.add_special_tokens({"unk_token": "<unk>", "bos_token": "<s>"})
    return trained


def character_tokenizer() -> FastTokenizer:
    vocabulary = {character: k for k, character in enumerate(string.printable)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore
    return FastTokenizer(tokenizer_object=tokenizer)


MADE: dict[str, Callable[[], FastTokenizer]] = {
    "words": word_tokenizer,
    "bytes": byte_tokenizer,
    "pieces": piece_tokenizer,
    "characters": character_tokenizer,
}


def _trained(tokenizer: Tokenizer, trainer: trainers.BpeTrainer) -> FastTokenizer:
    """Every word becomes one token, with the space before it."""
    tokenizer.train_from_iterator([f" {text}" for text in texts() for _ in range(2)], trainer)
    return FastTokenizer(tokenizer_object=tokenizer)
