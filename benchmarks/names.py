"""The suites that come with the package, and what is said of a name that does not exist."""

import difflib
from collections.abc import Iterable
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
