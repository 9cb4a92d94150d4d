"""What the command line needs of all that reads input: success, or an error of a line each."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

T = TypeVar("T")

MOST_SECONDS = 2.0
"""Of computing: what else the machine does is not counted."""

_ROOT = Path(__file__).parents[2]
_OURS = tuple(str(_ROOT / name) for name in ("edgewise", "methods", "tasks", "benchmarks"))


def accepted(read: Callable[[], T]) -> T | None:
    """What `read` gives; None if it refuses its input with an error of ours.

    The command line prints such an error without a traceback and ends with exit code 2: an OSError,
    or a ValueError that our own code raises on purpose, in lines that a terminal can show.
    """
    started = time.process_time()
    try:
        return read()
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
        assert lines, "an error without a message"
        assert all(line.strip() and line.isprintable() for line in lines), lines
        if isinstance(error, ValueError):
            last = traceback.extract_tb(error.__traceback__)[-1]
            is_ours = last.filename.startswith(_OURS) and (last.line or "").startswith("raise ")
            if isinstance(error, ValidationError) or not is_ours:
                raise
    finally:
        assert time.process_time() - started < MOST_SECONDS
    return None
