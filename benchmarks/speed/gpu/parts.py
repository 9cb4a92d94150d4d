"""A part is a list of named measurements. Each is written when it is done; a failure ends it alone.

A measurement is a function without arguments that gives a row, a dictionary that JSON can hold. A
correctness check raises `AssertionError` where it fails, so its row is an error like any other.
"""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Measurement = tuple[str, Callable[[], Row]]
PRECISIONS = ("float32", "tf32", "bfloat16")
"""In which products are timed."""


@dataclass(frozen=True)
class Setting:
    """Where the measurements run; `toy` shrinks every size to what a test on a CPU can bear."""

    device: torch.device
    toy: bool = False


@dataclass(frozen=True)
class Part:
    """`measurements` gives them for a setting; nothing expensive happens before one is called."""

    name: str
    measurements: Callable[[Setting], Iterable[Measurement]]


def run_parts(
    parts: Sequence[Part],
    setting: Setting,
    *,
    out: Path,
    budget: float,
    without: Sequence[str] = (),
) -> int:
    """Write `out/PART.json` for each part; how many measurements failed.

    No measurement starts after `budget` seconds; those that are left are listed as skipped. Those
    whose name contains a text of `without` are left out.
    """
    start = time.monotonic()
    failed = 0
    for part in parts:
        rows: dict[str, Row] = {}
        for name, measure in part.measurements(setting):
            if any(text in name for text in without):
                continue
            begun = time.monotonic()
            if begun - start > budget:
                rows[name] = {"skipped": f"the budget of {budget:g} s is used up"}
            else:
                rows[name] = _row(measure)
                rows[name]["wall_seconds"] = round(time.monotonic() - begun, 3)
            failed += "error" in rows[name]
            sys.stdout.write(f"{part.name}: {name}: {_outcome(rows[name])}\n")
            report = {"part": part.name, "device": describe(setting.device), "rows": rows}
            _write(out / f"{part.name}.json", report)
        _release(setting.device)
    return failed


def _release(device: torch.device) -> None:
    """Give back what a part's models took."""
    gc.collect()
    module = torch.get_device_module(device)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def _row(measure: Callable[[], Row]) -> Row:
    try:
        return measure()
    except Exception as error:
        trace = traceback.format_exc().splitlines()
        return {"error": f"{type(error).__name__}: {error}"[:2000], "traceback": trace[-12:]}


def _outcome(row: Row) -> str:
    """One line for the terminal: what went wrong, or how long it took and all its numbers."""
    for word in ("error", "skipped"):
        if word in row:
            return f"{word}: {row[word][:300]}"
    numbers = (
        f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float | int)
    )
    return ", ".join(numbers)


def describe(device: torch.device) -> dict[str, Any]:
    """The card and the versions that a number belongs to."""
    import transformers

    described: dict[str, Any] = {
        "type": device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return described


def _write(path: Path, report: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
