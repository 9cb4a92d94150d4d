"""What suites, settings and records are checked with: strict types and readable problems."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from benchmarks.names import unknown
from edgewise.method import expectation

STRICT = ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False, frozen=True, protected_namespaces=()
)
"""Of every table: no value is taken for one of another type, but a whole number for a number."""

Known = Callable[[Sequence[int | str]], tuple[str, Iterable[str]]]
"""The path of an unknown key -> what such a key is called, and the names that are known."""

_LONGEST = 80
_TABLES = ("dict_type", "model_type")


def one_of(kind: str, known: Collection[str]) -> AfterValidator:
    """Refuses every other name, with the closest that are known."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(unknown(kind, name, known))
        return name

    return AfterValidator(check)


def _as_axis(value: Any) -> Any:
    if value == []:
        raise PydanticCustomError("empty", "expected at least one value")
    return value if isinstance(value, list) else [value]


T = TypeVar("T")
Axis = Annotated[list[T], BeforeValidator(_as_axis)]
"""One value or a list of them, but no empty list; a list once it is checked."""


def problems(error: ValidationError, given: Any, known: Known | None = None) -> list[str]:
    """All that is wrong with what was given, a line each: the path of the key, then what is wrong.

    Positions in lists are counted from 0.
    """
    return [
        line
        for details in error.errors(include_url=False)
        for line in _lines(details, _place(details["loc"], given), known)
    ]


def _lines(details: ErrorDetails, place: list[str], known: Known | None) -> list[str]:
    path = ".".join(place)
    match details["type"]:
        case "missing":
            return [f"{'.'.join([*place, str(details['loc'][-1])])} is missing; it is required"]
        case "extra_forbidden":
            if known is None:
                return [f"{path} is not known"]
            kind, names = known(details["loc"])
            return [f"{path}: {unknown(kind, str(details['loc'][-1]), names)}"]
        case "value_error":
            text = str(details.get("ctx", {})["error"])
            return [f"{path}: {line}" if path else line for line in text.splitlines()]
    value = repr(details["input"])
    if len(value) > _LONGEST:
        value = f"{value[: _LONGEST - 3]}..."
    return [f"{path} is {value}; {_expected(details)}"]


def _expected(details: ErrorDetails) -> str:
    if details["type"] in _TABLES:
        return "expected a table"
    return expectation(details["msg"])


def _place(location: Sequence[int | str], given: Any) -> list[str]:
    """The path as it was given: a value that is no list has no index, a union's member no name."""
    place = []
    for part in location:
        if isinstance(given, dict) and part in given:
            name = str(part)
            place.append(name if re.fullmatch(r"[\w-]+", name) else json.dumps(name))
            given = given[part]
        elif isinstance(given, list) and isinstance(part, int):
            place.append(str(part))
            given = given[part]
    return place
