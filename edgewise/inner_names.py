"""The list of methods inside a wrapper: `eap-ig(steps=10), "./my (own), file.py:Mine"(slope=2)`.

Commas stand between the methods. Each is a name, with or without settings in parentheses. A name in
quotes may have any characters: between single quotes they stand for themselves, between double
quotes as in TOML. Without quotes, a name has no comma and no parenthesis.
"""

import json
import re
import tomllib
from collections.abc import Callable
from typing import NamedTuple

_PLAIN = r"(?:[^,()]*:)?[\w-]+"
_QUOTED = r"""'[^'\n]*'|"(?:[^"\\\n]|\\.)*\""""
_METHOD = re.compile(rf"\s*(?P<name>{_QUOTED}|{_PLAIN})\s*(?:\((?P<settings>[^()]*)\))?\s*(?:,|$)")


class InnerName(NamedTuple):
    """A method's name, its settings as `key=value`, and where the name stands in the list."""

    name: str
    settings: list[str]
    start: int
    end: int


def parse(names: str) -> list[InnerName]:
    """The methods in a list. Raises ValueError for a text that is no list of methods."""
    found: list[InnerName] = []
    place = 0
    while place < len(names):
        match = _METHOD.match(names, place)
        name = None if match is None else _unquoted(match["name"])
        if match is None or name is None:
            raise ValueError(
                f"methods={names!r}; expected names with commas between them, each with or without "
                "settings in parentheses, such as 'eap-ig(steps=10), gim'; a path with commas or "
                "parentheses in quotes"
            )
        given = [part.strip() for part in (match["settings"] or "").split(",") if part.strip()]
        found.append(InnerName(name, given, *match.span("name")))
        place = match.end()
    return found


def renamed(names: str, rename: Callable[[str], str]) -> str:
    """The list with other names, in quotes where these need them; all else stays as it is.

    A text that is no list of methods stays as it is.
    """
    try:
        found = parse(names)
    except ValueError:
        return names
    for one in reversed(found):
        names = names[: one.start] + _written(rename(one.name)) + names[one.end :]
    return names


def _unquoted(text: str) -> str | None:
    """What a name stands for; None for double quotes with something that TOML does not allow."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return tomllib.loads(f"name = {text}")["name"]
        except tomllib.TOMLDecodeError:
            return None
    return text


def _written(name: str) -> str:
    """The name, in quotes if it would not be read as it is without them."""
    if re.fullmatch(_PLAIN, name) and name == name.strip():
        return name
    if "'" in name or not name.isprintable():
        return json.dumps(name, ensure_ascii=False).replace("\x7f", r"\u007f")
    return f"'{name}'"
