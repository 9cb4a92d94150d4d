"""Settings of methods: what is allowed, what is meant by a wrong name, what holds for a task."""

import difflib
import itertools
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from methods import METHODS

Settings = dict[str, Any]

# A union with a Literal has another origin than one of plain types.
_UNIONS = (UnionType, get_origin(Literal["none"] | None))
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: '"none"',
}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the closest that do."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"closest: {', '.join(close)}" if close else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"


def expected(hint: Any) -> str:
    """What a value of this type looks like, in words."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in _UNIONS:
        return " or ".join(expected(member) for member in get_args(hint))
    return _WORDS.get(hint, str(hint))


def convert(value: Any, hint: Any) -> Any:
    """`value` as the type asks for it. Raises ValueError if it is of another type.

    TOML has no null: the text "none" stands for it.
    """
    if get_origin(hint) is Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint)):
            return value
    elif get_origin(hint) in _UNIONS:
        for member in get_args(hint):
            try:
                return convert(value, member)
            except ValueError:
                continue
    elif hint is NoneType:
        if value == "none":
            return None
    elif hint is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif type(value) is hint:
        return value
    raise ValueError(f"{value!r}; expected {expected(hint)}")


def allowed(method: str) -> dict[str, Any]:
    """A method's settings and their types."""
    hints = get_type_hints(METHODS[method])
    return {field.name: hints[field.name] for field in fields(METHODS[method]) if field.init}


@cache
def task_defaults() -> Mapping[str, Mapping[str, Settings]]:
    """What differs from a method's class defaults: method -> task or pattern -> settings."""
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def defaults_of(method: str, task: str) -> Settings:
    """The settings under the task's own name, or else under the first pattern that it fits."""
    tables = task_defaults().get(method, {})
    fitting = (pattern for pattern in tables if fnmatchcase(task, pattern))
    return tables.get(task) or tables.get(next(fitting, ""), {})


def grid(settings: Mapping[str, Any]) -> Iterator[Settings]:
    """Every combination of settings whose values are lists; other values stand for themselves."""
    axes = [value if isinstance(value, list) else [value] for value in settings.values()]
    for values in itertools.product(*axes):
        yield dict(zip(settings, values, strict=True))


def resolve(method: str, task: str, given: Mapping[str, Any]) -> Settings:
    """All settings of a method on a task: class defaults, the task's defaults, then `given`.

    Raises ValueError, with every problem on its own line, for unknown settings, wrong types and
    values that the method refuses.
    """
    hints, problems, values = allowed(method), [], {}
    for name, value in {**defaults_of(method, task), **given}.items():
        if name not in hints:
            problems.append(f"method {method!r}: {unknown('setting', name, hints)}")
            continue
        try:
            values[name] = convert(value, hints[name])
        except ValueError as error:
            problems.append(f"method {method!r}: setting {name!r} is {error}")
    if problems:
        raise ValueError("\n".join(problems))
    try:
        return asdict(METHODS[method](**values))
    except ValueError as error:
        raise ValueError(f"method {method!r}: {error}") from None


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """`key=value` pairs of a command line; a value that is no TOML value is taken as text."""
    settings: Settings = {}
    for assignment in assignments:
        name, separator, text = (part.strip() for part in assignment.partition("="))
        if not separator or not name:
            raise ValueError(f"setting {assignment!r}; expected key=value")
        try:
            settings[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name] = text
    return settings


def swept(method: str) -> str | None:
    """The setting that moves a method's circuits along the sparsity axis."""
    return METHODS[method].sweeps if method in METHODS else None


def settings_label(settings: Mapping[str, Any]) -> str:
    """Settings in few words."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
