"""A tokenizer that knows given words, and digits alone or in pairs, as one token each."""

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast as FastTokenizer

WORD = re.compile(r"\{\w+\}|\w+|[^\w\s]")


def word_tokenizer(
    texts: Iterable[str],
    *,
    without: Iterable[str] = (),
    split: int = 2,
    known: Iterable[int] | None = None,
) -> FastTokenizer:
    """1732 is the tokens 17 and 32, or, with `split=1`, the tokens 1, 7, 3 and 2.

    `known` are the lengths of the numbers that have tokens, split so or not (default: `split`).
    Words that are in no text, or in `without`, are unknown.
    """
    words = {word for text in texts for word in WORD.findall(text)}
    lengths = (split,) if known is None else known
    numbers = {f"{number:0{length}}" for length in lengths for number in range(10**length)}
    tokens = ["?", "a", *sorted((words | numbers) - {"a", *without})]
    tokenizer = Tokenizer(models.WordLevel({token: k for k, token in enumerate(tokens)}, "?"))
    digits = pre_tokenizers.Split(Regex(rf"\d{{{split}}}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore
        [pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), digits]
    )
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="?")
