"""A suite's table as TOML text."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any


def to_toml(table: Mapping[str, Any]) -> str:
    """The text that reads back as this table of values, lists, tables and lists of tables.

    Raises ValueError for text that TOML cannot hold.
    """
    text = "\n".join(_lines(table, ())) + "\n"
    try:
        if tomllib.loads(text) == table:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise ValueError("a name has characters that cannot be written to a TOML file")


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Values first, then tables: what follows a table's heading belongs to it."""
    lines = [f"{_key(name)} = {_value(own)}" for name, own in table.items() if not _is_table(own)]
    for name, own in table.items():
        inner = (*path, name)
        heading = ".".join(map(_key, inner))
        if isinstance(own, Mapping):
            below = _lines(own, inner)
            has_values = not own or not all(map(_is_table, own.values()))
            lines += ["", f"[{heading}]", *below] if has_values else below
        elif _is_table(own):
            for entry in own:
                lines += ["", f"[[{heading}]]", *_lines(entry, inner)]
    return lines


def _is_table(value: Any) -> bool:
    is_list = isinstance(value, list) and value and isinstance(value[0], Mapping)
    return isinstance(value, Mapping) or bool(is_list)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
