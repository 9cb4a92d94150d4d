"""Lists of the methods inside a wrapper: read, and written again with other names."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.inner_names import parse, renamed
from edgewise.own_code import all_in_full, all_short


def names(text: str) -> list[tuple[str, list[str]]]:
    return [(one.name, one.settings) for one in parse(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eap, gim( a = 1 )", [("eap", []), ("gim", ["a = 1"])]),
        ("./a b/c=d.py:E(x=1,y=2)", [("./a b/c=d.py:E", ["x=1", "y=2"])]),
        ("'eap',\"gim\"", [("eap", []), ("gim", [])]),
        ("'./a (b), c.py:D' (x=1) , eap", [("./a (b), c.py:D", ["x=1"]), ("eap", [])]),
        (r"""'a\,b "c".py:D'""", [(r'a\,b "c".py:D', [])]),
        (r'"a, \"b\" \u00e4\\.py:D", gim', [('a, "b" ä\\.py:D', []), ("gim", [])]),
        ("it's.py:A, isn't.py:B", [("it's.py:A", []), ("isn't.py:B", [])]),
        ("'a.py:A, 'b.py:B", [("'a.py:A", []), ("'b.py:B", [])]),
    ],
)
def test_a_name_is_plain_or_in_quotes(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    "text", ["./a (b).py:C, eap", "'a, b", '"a, b', "'a' b", "'a'b", r'"\q.py:A"', "eap(", ""]
)
def test_what_is_no_list_is_an_error_or_empty_and_left_as_it_is(text: str) -> None:
    if text:
        with pytest.raises(ValueError, match=re.escape(f"methods={text!r}; expected names with")):
            parse(text)
    else:
        assert parse(text) == []
    assert renamed(text, lambda _: "other") == text


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_every_name_that_is_written_is_read_again(others: list[str]) -> None:
    remaining = iter(reversed(others))
    text = renamed(", ".join(["x(a=1)"] * len(others)), lambda _: next(remaining))
    assert names(text) == [(name, ["a=1"]) for name in others]


PLAIN = re.compile(r"\s*((?:[^,()]*:)?[\w-]+)\s*(?:\(([^()]*)\))?\s*(?:,|$)")
IN_FILES = re.compile(r"[^\s,()=][^,()=]*\.py:\w+")
"""How lists without quotes have always been read."""


@pytest.mark.parametrize(
    "text",
    [
        " eap-ig( steps=10 , rule=right ),gim ",
        "./mine.py:Mine( slope = 2 ),  ~/a b/c.py:D ,eap,",
        "/a/it's/mine.py:Mine, \"b/d.py:E, x:y",
        "a.py:b.py:C(x=1)\n, eap",
    ],
)
def test_lists_without_quotes_mean_what_they_always_did(text: str) -> None:
    found = PLAIN.findall(text)
    assert names(text) == [
        (name, [part.strip() for part in given.split(",") if part.strip()]) for name, given in found
    ]
    folder = Path("/some/folder")
    full = [all_in_full(match[0], folder) for match in IN_FILES.finditer(text)]
    short = [f"{Path(path).stem}:{name}" for path, _, name in (m.rpartition(":") for m in full)]
    for changed, expected in ((all_in_full(text, folder), full), (all_short(text), short)):
        remaining = iter(expected)
        assert changed == IN_FILES.sub(lambda _: next(remaining), text)  # noqa: B023
