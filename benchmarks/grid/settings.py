"""Settings of methods: what is allowed, what holds for a task."""

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ValidationError, create_model

from benchmarks.checking import STRICT, Axis, problems
from benchmarks.names import unknown
from edgewise.method import setting_types
from edgewise.wrapper import InnerMethod, Wrapper
from methods import METHODS, Method, find_method, known_methods

Settings = dict[str, Any]


def allowed(method: str) -> dict[str, Any]:
    """A method's settings and their types."""
    return setting_types(find_method(method)[0])


def typed(method: str, given: Mapping[str, Any], *, axes: bool = False) -> Settings:
    """Settings as their types ask for them, each one value or, with `axes`, a list of values.

    Raises ValidationError, with every problem, for unknown settings and wrong types.
    """
    table = _table(find_method(method)[0], axes).model_validate(dict(given))
    return {name: getattr(table, name) for name in given}


@cache
def _table(method: type[Method], axes: bool) -> type[BaseModel]:
    types = {name: _as_toml(hint) for name, hint in setting_types(method).items()}
    columns: dict[str, Any] = {
        name: (Axis[kind] if axes else kind, None) for name, kind in types.items()
    }
    return create_model(method.__name__, __config__=STRICT, **columns)


def _as_toml(hint: Any) -> Any:
    """TOML has no null: the text "none" stands for it."""
    if NoneType not in get_args(hint):
        return hint
    return Annotated[hint, BeforeValidator(lambda value: None if value == "none" else value)]


@cache
def task_defaults() -> Mapping[str, Mapping[str, Settings]]:
    """What differs from a method's class defaults: method -> task or pattern -> settings."""
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def defaults_of(method: str, task: str) -> Settings:
    """The settings under the task's own name, or else under the first pattern that it fits."""
    tables = task_defaults().get(method, {})
    fitting = (pattern for pattern in tables if fnmatchcase(task, pattern))
    return tables.get(task) or tables.get(next(fitting, ""), {})


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """Every combination of the values that settings take."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def resolve(method: str, task: str, given: Mapping[str, Any]) -> Settings:
    """All settings of a method on a task: class defaults, the task's defaults, then `given`.

    Raises ValueError, with every problem on its own line, for unknown settings, wrong types, values
    that the method refuses, and inner methods that are not right.
    """
    values = {**defaults_of(method, task), **given}
    try:
        settings = asdict(find_method(method)[0](**typed(method, values)))
    except ValidationError as error:
        lines = problems(error, values, lambda _: ("setting", allowed(method)))
    except ValueError as error:
        lines = [str(error)]
    else:
        inner_of(method, task, settings)
        return settings
    raise ValueError("\n".join(f"method {method!r}: {line}" for line in lines))


def inner_of(method: str, task: str, settings: Mapping[str, Any]) -> tuple[InnerMethod, ...]:
    """A wrapper's inner methods with all their settings on this task. Empty for other methods.

    Raises ValueError, with every problem, for a method that does not exist, another wrapper, and
    settings that `resolve` refuses.
    """
    kind = find_method(method)[0]
    if not issubclass(kind, Wrapper):
        return ()
    inner: list[InnerMethod] = []
    lines: list[str] = []
    for name, assignments in kind(**settings).named():
        try:
            found, source = find_method(name)
        except KeyError:
            lines.append(unknown("method", name, known_methods()))
            continue
        if issubclass(found, Wrapper):
            lines.append(f"method {name!r} is a wrapper; expected a method that is none")
        else:
            try:
                resolved = resolve(name, task, parse_assignments(assignments))
                own = (source.digest, source.reference) if source else (None, None)
                inner.append(InnerMethod(found.name, found.version, resolved, *own))
            except ValueError as error:
                lines += str(error).splitlines()
    if lines:
        raise ValueError("\n".join(f"method {method!r}: methods: {line}" for line in lines))
    return tuple(inner)


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """`key=value` pairs of a command line; a value that is no TOML value is taken as text.

    Raises ValueError for what is no such pair.
    """
    settings: Settings = {}
    for assignment in assignments:
        name, separator, text = (part.strip() for part in assignment.partition("="))
        if not separator or not name:
            raise ValueError(f"setting {assignment!r}; expected key=value")
        try:
            settings[name] = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            settings[name] = text
    return settings


def defining(method: str, settings: Mapping[str, Any]) -> Settings:
    """The settings that define a cell: without those that were added later and have their default.

    So a setting that a method gets does not change the names of cells stored before.
    """
    later = _added(method)
    return {n: value for n, value in settings.items() if n not in later or value != later[n]}


def completed(method: str, settings: Mapping[str, Any]) -> Settings:
    """All settings of a stored definition, with those that it leaves out."""
    return {**settings, **{n: v for n, v in _added(method).items() if n not in settings}}


def _added(method: str) -> Settings:
    """The settings added later, with their defaults; none of a method that is not known."""
    if method not in METHODS:
        return {}
    kind = METHODS[method]
    return {field.name: field.default for field in fields(kind) if field.name in kind.added}


def swept(method: str) -> str | None:
    """The setting that moves a method's circuits along the sparsity axis."""
    return METHODS[method].sweeps if method in METHODS else None


def settings_label(settings: Mapping[str, Any]) -> str:
    """Settings in few words."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
