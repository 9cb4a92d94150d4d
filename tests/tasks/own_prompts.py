"""Lines of a user's own file, and a tokenizer that knows their words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast as FastTokenizer

NAMES = ("Tom", "Amy", "Tim", "Ann", "Sam", "Sue", "Ben", "Ruth")
Entry = dict[str, Any]


def entry(name: str, other: str, friend: str = "Kim", **more: Any) -> Entry:
    clean, corrupted = (
        f"{who} met {friend}. {friend} thanked <predict>{who}</predict>" for who in (name, other)
    )
    return {"clean": clean, "corrupted": corrupted, **more}


ENTRIES = [
    entry(name, NAMES[k - 1], friend) for k, name in enumerate(NAMES) for friend in ("Kim", "Max")
]


def word_tokenizer(**pieces: list[str]) -> FastTokenizer:
    """Words and marks are one token each, but a word in `pieces` is cut into these."""
    words = ["?", ".", "met", "thanked", "and", "Kim", "Max", *NAMES]
    vocabulary = {
        token: k
        for k, token in enumerate(
            dict.fromkeys(piece for word in words for piece in pieces.get(word, [word]))
        )
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="?")


def write_lines(path: Path, entries: Sequence[Entry]) -> None:
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
