"""What the fuzz tests put in the place of good input: odd values, changed trees, changed bytes."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]
"""The keys and positions that lead to a value in a tree of tables and lists."""

_NAMES = (
    *("", ".", "..", "../x", "a/b", "/", "\\", "~", "~nobody", "custom:", "custom:/dev/zero"),
    *("custom:.", "custom:\0", "a\0b", "a\nb", "a\x1b[2J", "\x85", "\u2028", "\u202e", "e\u0301"),
    *("\U0001f600", "\ud800", "none", "nan", "$", "$\\frac$", "_a", "%s", "{0}", "x" * 300),
)
_NUMBERS = (
    *(0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5, -0.5, 1.5, 5e-324),
    *(1e308, math.nan, math.inf, -math.inf),
)
TEXTS = st.sampled_from(_NAMES) | st.text(max_size=12)
NUMBERS = st.sampled_from(_NUMBERS) | st.integers(-3, 40)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def places(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Where the values of a tree are, outermost first."""
    yield path
    entries: Any = ()
    if isinstance(tree, dict):
        entries = tree.items()
    elif isinstance(tree, list):
        entries = enumerate(tree)
    for key, value in entries:
        yield from places(value, (*path, key))


@st.composite
def changed(draw: st.DrawFn, tree: Any, *, most: int = 2) -> Any:
    """The tree with up to `most` changes, each of one value or key."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(places(tree))))
        if not path:
            tree = draw(VALUES) if draw(st.integers(0, 9)) == 0 else tree
            continue
        *above, last = path
        parent = tree
        for key in above:
            parent = parent[key]
        _change(draw, tree, parent, last)
    return tree


def _change(draw: st.DrawFn, tree: Any, parent: Any, key: Any) -> None:
    """Replace, remove, rename or repeat one entry of `parent`."""
    kind = draw(st.sampled_from(["value", "value", "other", "remove", "repeat"]))
    if kind == "value":
        parent[key] = draw(VALUES)
    elif kind == "remove":
        del parent[key]
    elif kind == "other":
        parent[key] = copy.deepcopy(_at(tree, draw(st.sampled_from(list(places(tree))))))
    elif isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        name = draw(TEXTS | st.sampled_from(sorted(parent)))
        parent[name] = parent.pop(key)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with up to three changes: bytes flipped, cut out, doubled, put in; or others."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["flip", "truncate", "remove", "repeat", "insert"]))
        before, middle, after = content[:start], content[start:end], content[end:]
        if kind == "flip":
            middle = bytes(byte ^ draw(st.integers(1, 255)) for byte in middle[:1]) + middle[1:]
        elif kind == "truncate":
            middle = after = b""
        elif kind == "remove":
            middle = b""
        elif kind == "repeat":
            middle *= draw(st.sampled_from([2, 3, 50]))
        else:
            middle = draw(st.binary(max_size=6) | TEXTS.map(as_bytes))
        content = before + middle + after
    return content


def as_bytes(text: str) -> bytes:
    """UTF-8, but of half a surrogate pair bytes that are none."""
    return text.encode(errors="surrogatepass")


def toml(tree: dict[str, Any]) -> str:
    """A table as TOML, or as near to it as its values are: TOML has no null and no other types."""
    return "".join(f"{_key(name)} = {_inline(value)}\n" for name, value in tree.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_key(name)} = {_inline(part)}" for name, part in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower()


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
