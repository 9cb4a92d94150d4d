"""Calls are checked against their annotations in tests: types, and the axes of tensors.

This does what jaxtyping's own decorator does in less time. That one checks arguments twice, binds
them to names and opens a scope of axis names for functions without tensors, too.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any, get_type_hints

import jaxtyping
from beartype import beartype
from jaxtyping import config

_jaxtyped: Any = jaxtyping.jaxtyped


def check_shapes(packages: list[str]) -> Any:
    """Check functions and dataclasses of what is imported from now on, until `uninstall`."""
    jaxtyping.jaxtyped = _decorator  # pyright: ignore
    return jaxtyping.install_import_hook(packages, "beartype.beartype")


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Nothing is checked, as outside the tests."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


def _decorator(*, typechecker: object) -> Callable[[Any], Any]:
    """What the import hook puts on every function and class in the place of `jaxtyped`."""
    return _checked_class_or_function


def _checked_class_or_function(decorated: Any) -> Any:
    if not inspect.isclass(decorated):
        return _checked(decorated)
    if dataclasses.is_dataclass(decorated):
        decorated.__init__ = _checked(decorated.__init__)
    return decorated


def _checked(function: Any) -> Any:
    if inspect.isgeneratorfunction(function):
        return _jaxtyped(function, typechecker=beartype)
    hints = function.__annotations__ = {
        name: _resolved(hint, function) for name, hint in function.__annotations__.items()
    }
    checking: Any = beartype(function)

    @wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return (function if config.jaxtyping_disable else checking)(*args, **kwargs)

    @wraps(function)
    def with_axes(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        with _jaxtyped("context"):  # names of axes stand for one size within this call
            return checking(*args, **kwargs)

    return with_axes if any("jaxtyping" in repr(hint) for hint in hints.values()) else plain


def _resolved(hint: Any, function: Any) -> Any:
    """The annotation without strings; nothing is asked where it names a type that is not there."""
    annotated = SimpleNamespace(__annotations__={"value": hint})
    try:
        return get_type_hints(annotated, function.__globals__, include_extras=True)["value"]
    except NameError:
        return Any
