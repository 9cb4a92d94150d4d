"""Where a cell was run: package versions, commit, device. None of it defines the cell."""

import importlib.metadata
import logging
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import psutil
import torch

from benchmarks.record import Environment
from edgewise import parallel

_log = logging.getLogger(__name__)
_UNITS = {"M": 10**6, "G": 10**9}
DEFAULT_BUDGET, LEAST_BUDGET = 2 * 2**30, 10**6
SAFE_SHARE = 0.8
"""How much of the free memory a lowered budget takes."""
_PACKAGES = ("edgewise", "numpy", "safetensors", "torch", "transformers", "tracr-pypi")


def default_device() -> torch.device:
    """The machine's accelerator, or its CPU."""
    return torch.accelerator.current_accelerator() or torch.get_default_device()


def device_of(name: str | None, *, here: bool = True) -> torch.device:
    """A device by name. Raises ValueError if there is none, or it does not work here.

    One that other machines are to use (`here=False`) is not tried, and any of its kind will do.
    """
    try:
        device = torch.device(name) if name else default_device()
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        if not here:
            return torch.device(device.type)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}") from None
    return device


def bytes_of(text: str) -> int:
    """A size such as `4GB` or `500 MB`, in bytes. Raises ValueError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])B\s*", text, re.IGNORECASE)
    size = 0 if match is None else round(float(match[1]) * _UNITS[match[2].upper()])
    if size < LEAST_BUDGET:
        raise ValueError(f"memory {text!r}; expected a size of at least 1 MB, such as 4GB or 500MB")
    return size


def memory_budget(asked: int | None, device: torch.device, jobs: int = 1) -> int | None:
    """What a pass may take: what is asked for, or less where too little memory is free.

    None, where nothing is asked for, is the default of 2 GiB for the largest tensors of a pass. It
    is replaced only where less than that is free. Jobs share what is free.
    """
    free = free_memory(device)
    if free is None or free // jobs >= (DEFAULT_BUDGET if asked is None else asked):
        return asked
    lowered = max(LEAST_BUDGET, round(SAFE_SHARE * free / jobs))
    _log.warning(
        "%.1f GB of memory are free%s: a pass may take %.1f GB instead of %.1f GB",
        free / 1e9,
        f" for {jobs} jobs" if jobs > 1 else "",
        lowered / 1e9,
        (DEFAULT_BUDGET if asked is None else asked) / 1e9,
    )
    return lowered


def free_memory(device: torch.device) -> int | None:
    """The device's free memory in bytes; None where it does not tell."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    module = torch.get_device_module(device)
    return module.mem_get_info(device)[0] if hasattr(module, "mem_get_info") else None


def describe(device: torch.device, *, jobs: int = 1) -> Environment:
    """Device, processes that share a discovery, packages and commit, for a cell's record."""
    return Environment(
        device=device.type,
        device_name=_device_name(device),
        processes=parallel.size(),
        jobs=jobs,
        platform=platform.platform(),
        python=platform.python_version(),
        packages=_packages(),
        commit=_commit(),
    )


def _device_name(device: torch.device) -> str:
    module = torch.get_device_module(device)
    if hasattr(module, "get_device_name") and module.is_available():
        return module.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


@cache
def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _commit() -> str | None:
    """The checkout's commit, marked if files differ from it; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--exclude=*", "--always", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--dirty"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
