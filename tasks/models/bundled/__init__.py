"""The bundled model: a small GPT-2 with a word-level tokenizer that solves the suite's tasks."""

from pathlib import Path

FOLDER = Path(__file__).parent
