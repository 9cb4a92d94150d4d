"""Calls are checked against their annotations in tests: types, and the axes of tensors.

This does what jaxtyping's own import hook does in less time: that one checks arguments twice, binds
them to names, opens a scope of axes for functions without tensors, too, and compiles all libraries
anew that the checked modules import. In each test a function's first calls are checked: the later
ones of a loop are like them. If a function is defined inside another, only the first few made in
each test are checked, since preparing the checks takes longer than most calls.
"""

import ast
import dataclasses
import inspect
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType, SimpleNamespace
from typing import Annotated, Any, get_origin, get_type_hints

from beartype import beartype
from beartype.door import is_bearable
from beartype.vale import Is
from jaxtyping import config, jaxtyped

MOST_CALLS = 10
"""How many of a function's calls are checked in each test."""
MOST_MADE = 2
"""How many functions made by the same inner definition are checked in each test."""
_DECORATOR = "_checked_in_tests"
_calls: Counter[int] = Counter()
_made: Counter[CodeType] = Counter()


class ShapeChecks(MetaPathFinder):
    """Checks the functions and dataclasses of these packages, once it is in `sys.meta_path`."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def check_shapes(packages: Sequence[str]) -> ShapeChecks:
    """From the next import on."""
    checks = ShapeChecks(packages)
    sys.meta_path.insert(0, checks)
    return checks


def check_anew() -> None:
    """A test begins."""
    _calls.clear()
    _made.clear()


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Nothing is checked, as outside the tests."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


class _Loader(SourceFileLoader):
    """Compiles a module with the decorator, and leaves no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = _Decorating().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[_DECORATOR] = _checked
        super().exec_module(module)


class _Decorating(ast.NodeTransformer):
    """Functions as they are written, below all other decorators; classes above all others."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list.append(ast.copy_location(ast.Name(_DECORATOR, ast.Load()), node))
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list.insert(0, ast.copy_location(ast.Name(_DECORATOR, ast.Load()), node))
        return self.generic_visit(node)


def _checked(decorated: Any) -> Any:
    if inspect.isfunction(decorated):
        return _checked_function(decorated) if _is_due(decorated.__code__) else decorated
    if dataclasses.is_dataclass(decorated):
        decorated.__init__ = _checked_function(decorated.__init__)
    return decorated


def _is_due(code: CodeType) -> bool:
    """False for a function within another of which enough were checked in this test."""
    if not code.co_flags & inspect.CO_NESTED:
        return True
    _made[code] += 1
    return _made[code] <= MOST_MADE


def _checked_function(function: Any) -> Any:
    if inspect.isgeneratorfunction(function):  # beartype alone checks its arguments too late
        return jaxtyped(function, typechecker=beartype)
    hints = {name: _resolved(hint, function) for name, hint in function.__annotations__.items()}
    function.__annotations__ = hints
    checking: Any = beartype(function)
    key = id(checking)

    def is_checked() -> bool:
        _calls[key] += 1
        return _calls[key] <= MOST_CALLS and not config.jaxtyping_disable

    @wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return (checking if is_checked() else function)(*args, **kwargs)

    @wraps(function)
    def with_axes(*args: Any, **kwargs: Any) -> Any:
        if not is_checked():
            return function(*args, **kwargs)
        with jaxtyped("context"):  # names of axes stand for one size within this call
            return checking(*args, **kwargs)

    return with_axes if any("jaxtyping" in repr(hint) for hint in hints.values()) else plain


def _resolved(hint: Any, function: Any) -> Any:
    """The annotation without strings; nothing is asked where it names a type that is not there.

    A mapping that is no dict may compute its values: none is asked for, for the check alone.
    """
    annotated = SimpleNamespace(__annotations__={"value": hint})
    try:
        found = get_type_hints(annotated, function.__globals__, include_extras=True)["value"]
    except NameError:
        return Any
    if get_origin(found) is not Mapping:
        return found
    fits = Is[lambda value: not isinstance(value, dict) or is_bearable(value, found)]
    return Annotated[Mapping, fits]
