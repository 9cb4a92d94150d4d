"""The benchmark: suites of cells, their runs and results, the report and the command line.

In Python, `load_results` reads a folder of results and `plot` draws them; both are imported when
they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.python import load_results, plot

__all__ = ["load_results", "plot"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmarks import python

    return getattr(python, name)
