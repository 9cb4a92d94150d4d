"""Names: of the suites that come with the package, in a list, and such as do not exist."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

SUITES = Path(__file__).parent / "suites"


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the closest that do."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"closest: {', '.join(close)}" if close else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"


def split_names(texts: Sequence[str]) -> list[str]:
    """Names from texts in which commas separate them; each counts once.

    Raises ValueError for a text with an empty name.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if "" in names:
        raise ValueError(f"{', '.join(texts)!r} has an empty name; expected names, such as a,b,c")
    return list(dict.fromkeys(names))
