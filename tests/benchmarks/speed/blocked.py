"""The GPU command on a machine that has torch, transformers and what these bring, nothing else.

Run as `python -m tests.benchmarks.speed.blocked ARGUMENTS`: any other package is not found.
"""

import re
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any, ClassVar

BROUGHT = ("torch", "transformers", "jaxtyping")
"""What is there, or travels along because it is pure Python."""


class Others(PathFinder):
    """Finds what is there on the other machine, and none of the other packages of this one."""

    absent: ClassVar[set[str]] = set()

    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] in cls.absent:
            return None
        return super().find_spec(fullname, path, target)


def not_there() -> set[str]:
    """Modules of packages that are installed here alone."""
    allowed = needed(BROUGHT)
    return {
        module
        for module, packages in packages_distributions().items()
        if not allowed & {normalised(package) for package in packages}
    } - {"edgewise", "methods", "benchmarks", "tests"}


def needed(packages: Sequence[str]) -> set[str]:
    """The packages and all that they require, without extras."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        package = normalised(waiting.pop())
        if package in found:
            continue
        try:
            requirements = requires(package) or []
        except PackageNotFoundError:
            continue  # it is for another system
        found.add(package)
        waiting += [
            re.split(r"[^\w.-]", line, maxsplit=1)[0]
            for line in requirements
            if "extra ==" not in line
        ]
    return found


def normalised(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


if __name__ == "__main__":
    Others.absent = not_there()
    sys.meta_path[sys.meta_path.index(PathFinder)] = Others
    from benchmarks.speed.gpu.__main__ import main

    sys.exit(main(sys.argv[1:]))
