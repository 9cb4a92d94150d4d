"""What papers printed for their own runs, to stand beside ours."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def published(task: str, model: str, method: str, n_examples: int) -> dict[str, Any]:
    """`kl`, `seconds` and their `source`, as far as they are known; empty where nothing is.

    Nothing is known of another model than the paper's: its numbers would be compared in vain.
    """
    of_task = _table().get(task, {})
    if model not in of_task.get("models", ()):
        return {}
    found = of_task.get(str(n_examples), {}).get(method)
    return {**found, "source": of_task["source"]} if found else {}


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
