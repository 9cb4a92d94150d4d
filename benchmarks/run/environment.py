"""Where a cell was run: package versions, commit, device. None of it defines the cell."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from benchmarks.record import Environment
from edgewise import parallel

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
