"""Seconds on an accelerator: between two waits for it, and how often a function waits itself."""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from edgewise.discovery import synchronize


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Of one call, with all that it has started."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def median_seconds(
    function: Callable[[], Any], device: torch.device, *, rounds: int, warm_up: int = 2
) -> float:
    for _ in range(warm_up):
        function()
    return statistics.median(seconds(function, device) for _ in range(rounds))


def waits(function: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Where a call makes the host wait for the device, by place in the code, and how often."""
    if device.type != "cuda":
        return {}
    places: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _counting(places)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return places


def _counting(places: dict[str, int]) -> Callable[..., None]:
    def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        if "synchroniz" in str(message):
            place = f"{'/'.join(filename.split('/')[-2:])}:{lineno}"
            places[place] = places.get(place, 0) + 1

    return show


def peak_bytes(function: Callable[[], Any], device: torch.device) -> int | None:
    """The most that the device's allocator held during a call; None where it keeps no account."""
    module = torch.get_device_module(device)
    if not hasattr(module, "reset_peak_memory_stats"):
        function()
        return None
    module.empty_cache()
    module.reset_peak_memory_stats(device)
    function()
    return module.max_memory_allocated(device)
