"""A tokenizer that knows given words, and every pair of digits, as one token each."""

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast as FastTokenizer

WORD = re.compile(r"\{\w+\}|\w+|[^\w\s]")


def word_tokenizer(texts: Iterable[str], *, without: Iterable[str] = ()) -> FastTokenizer:
    """1732 is the tokens 17 and 32. Words that are in no text, or in `without`, are unknown."""
    words = {word for text in texts for word in WORD.findall(text)}
    pairs = {f"{number:02}" for number in range(100)}
    tokens = ["?", "a", *sorted((words | pairs) - {"a", *without})]
    tokenizer = Tokenizer(models.WordLevel({token: k for k, token in enumerate(tokens)}, "?"))
    digits = pre_tokenizers.Split(Regex(r"\d{2}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore
        [pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), digits]
    )
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="?")
