"""Methods and tasks of a user's own: an object in a Python file, or one that a package offers.

A file is named `FILE.py:NAME`. It is read and run as it is now, as a module of its own that cannot
import the files beside it, so its content says all that it does. A package offers objects through
entry points, and counts by its version.
"""

import hashlib
import os
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewise.files import expanded
from edgewise.inner_names import renamed

_MODULES = "edgewise_own_code_"


class OwnCodeError(Exception):
    """Code of a user's own ended in an error, which is this one's cause."""


@dataclass(frozen=True)
class Source:
    """Where an object of a user's own comes from."""

    reference: str
    """What it is found by."""
    digest: str
    """The hash of its file, or the name and version of its package."""


def is_reference(name: str) -> bool:
    """Whether a name stands for an object in a file."""
    return ".py:" in name or name.endswith(".py")


def in_full(name: str, folder: Path) -> str:
    """A name of an object in a file with the file's full path, which is relative to `folder`.

    Other names are left as they are.
    """
    if not is_reference(name):
        return name
    file, colon, attribute = name.rpartition(":") if ".py:" in name else (name, "", "")
    return f"{os.path.abspath(folder / expanded(file))}{colon}{attribute}"


def all_in_full(names: str, folder: Path) -> str:
    """A list of names, as wrappers take it, in which those of objects in files have full paths."""
    return renamed(names, lambda name: in_full(name, folder))


def all_short(names: str) -> str:
    """A list of names, as wrappers take it, without the folders and endings of files."""
    return renamed(names, lambda name: short_name(name) if is_reference(name) else name)


def short_name(reference: str) -> str:
    """A reference without the file's folder and ending, such as `mine:Mine`."""
    file, _, attribute = reference.rpartition(":")
    return f"{Path(file).stem}:{attribute}"


def from_file(reference: str) -> tuple[Any, Source]:
    """The object that `FILE.py:NAME` names.

    Raises ValueError where there is no such file or no such name in it, and OwnCodeError for an
    error in the file.
    """
    file, _, attribute = reference.rpartition(":")
    if not attribute.isidentifier() or not file.endswith(".py"):
        raise ValueError(f"{reference!r}; expected FILE.py:NAME")
    path = expanded(file)
    if not path.is_file():
        raise ValueError(f"no file {file!r}; expected FILE.py:NAME")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    module = _module(path, digest, content)
    if not hasattr(module, attribute):
        raise ValueError(f"{file} has no {attribute!r}; expected FILE.py:NAME")
    return getattr(module, attribute), Source(reference, digest)


@lru_cache(maxsize=64)
def _module(path: Path, digest: str, content: bytes) -> ModuleType:
    module = ModuleType(f"{_MODULES}{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # a dataclass looks its module up
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except Exception as error:
        raise OwnCodeError(f"{path}: {_described(error)}") from error
    return module


def from_package(group: str, name: str) -> tuple[Any, Source] | None:
    """The object that an installed package offers under a name; None if none does.

    Raises ValueError if several do, and OwnCodeError for an error in the package.
    """
    offered = [point for point in _offered(group) if point.name == name]
    if not offered:
        return None
    packages = [f"{point.dist.name} {point.dist.version}" for point in offered if point.dist]
    if len(offered) > 1:
        raise ValueError(f"{name!r} is offered by {' and '.join(packages)}; expected one package")
    try:
        return offered[0].load(), Source(name, packages[0] if packages else "unknown")
    except Exception as error:
        raise OwnCodeError(f"{offered[0].value}: {_described(error)}") from error


def offered_names(group: str) -> list[str]:
    """The names under which installed packages offer objects."""
    return sorted({point.name for point in _offered(group)})


@lru_cache
def _offered(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def own_traceback(error: BaseException | None) -> str:
    """The error with its traceback from the first line of a user's own file on.

    Empty for an error that passed through no such file.
    """
    if error is None:
        return ""
    if isinstance(error, OwnCodeError) and error.__cause__ is not None:
        return own_traceback(error.__cause__) or _formatted(error.__cause__)
    frame = error.__traceback__
    while frame and not frame.tb_frame.f_globals.get("__name__", "").startswith(_MODULES):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame)) if frame else ""


def _formatted(error: BaseException) -> str:
    """Without our frames: of an error in the file's syntax there are no others."""
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(error))
    return "".join(traceback.format_exception(error))


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
