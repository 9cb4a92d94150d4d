"""Timing, counting and checkpointing of a discovery.

On a CPU, peak memory is the kernel's high-water mark of resident memory, reset before the
discovery. Where it cannot be reset, the resident memory after the discovery is reported instead.
On an accelerator it is the allocator's own peak. Memory that is freed but kept by the process
counts as resident, so release it first (edgewise.allocator).
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from edgewise import parallel
from edgewise.files import write_atomically
from edgewise.transformer import MaskedTransformer

_log = logging.getLogger(__name__)

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Unsupported(ValueError):
    """A method cannot run this task, and why."""


class Meter:
    """Seconds, matrix-product operations and peak memory of one discovery, over all its parts.

    Of a model spread over several devices, the peaks on all of them are added.
    """

    def __init__(self, model: MaskedTransformer) -> None:
        self._model = model
        self._devices = {weight.device for weight in model.architecture.weights().values()}
        self._seconds = 0.0
        self._flops = 0
        self._peak_bytes = 0
        self._started: float | None = None
        self._flops_before = 0
        self.memory_source = ""

    @contextmanager
    def run(self) -> Iterator[None]:
        """Time the block; a checkpoint loaded inside it goes on from its own readings."""
        for device in self._devices:
            self.memory_source = _reset_peak_memory(device)
        self._flops_before, self._started = self._model.flops, time.perf_counter()
        try:
            yield
        finally:
            self._seconds, self._flops = self.seconds, self.flops
            self._peak_bytes, self._started = self.peak_bytes, None

    @property
    def seconds(self) -> float:
        synchronize(self._model.device)
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._seconds + running

    @property
    def flops(self) -> int:
        running = 0 if self._started is None else self._model.flops - self._flops_before
        return self._flops + running

    @property
    def peak_bytes(self) -> int:
        now = 0 if self._started is None else sum(map(_peak_memory, self._devices))
        return max(self._peak_bytes, now)

    def state(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "flops": self.flops, "peak_bytes": self.peak_bytes}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from an interrupted run's readings at its checkpoint.

        Work that this run has done so far, such as preparations that the interrupted run had also
        made, is not counted twice.
        """
        self._seconds, self._flops = state["seconds"], state["flops"]
        self._peak_bytes = max(self._peak_bytes, state["peak_bytes"])
        if self._started is not None:
            self._flops_before, self._started = self._model.flops, time.perf_counter()


class Checkpoint:
    """One safetensors file, always replaced as a whole, from which a discovery can continue.

    The meter's readings are saved with it, so work done between the checkpoint and a kill, which is
    repeated, is counted once. With several ranks, the first one reads and writes the file, and all
    of them continue from its state and readings. A file that is not what was saved is renamed to
    `*.damaged`, with a warning, and the discovery starts anew.
    """

    def __init__(self, path: Path, meter: Meter, *, every_seconds: float = 60.0) -> None:
        self.path, self._meter, self._every = path, meter, every_seconds
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the state last saved, or None; the meter goes on from its readings."""
        saved = parallel.from_first(self._read)
        if saved is None:
            return None
        tensors, header = saved
        self._meter.restore(header["meter"])
        return tensors, header["state"]

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                saved = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "digest" not in saved or "edgewise" not in saved:
                raise ValueError("no checkpoint of this version")
            if _digest(tensors, saved["edgewise"]) != saved["digest"]:
                raise ValueError("not what was saved: its digest differs")
        except (SafetensorError, ValueError) as error:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            _log.warning(
                "checkpoint %s: %s; it is set aside as %s, and the discovery starts anew",
                self.path,
                error,
                aside.name,
            )
            return None
        return tensors, json.loads(saved["edgewise"])

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """A block that does again what the checkpoint's readings have counted."""
        readings = self._meter.state()
        yield
        self._meter.restore(readings)

    def due(self) -> bool:
        return parallel.rank() == 0 and time.monotonic() - self._last >= self._every

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        header = json.dumps({"state": dict(state), "meter": self._meter.state()})
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        metadata = {"edgewise": header, "digest": _digest(own, header)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, lambda temporary: save_file(own, temporary, metadata=metadata))
        self._last = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """SHA-256 of a checkpoint's tensors and header."""
    return hashlib.sha256(header.encode() + save(dict(tensors))).hexdigest()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    torch.get_device_module(device).synchronize()


def _reset_peak_memory(device: torch.device) -> str:
    """Start a new peak; says where the reading comes from."""
    module = torch.get_device_module(device)
    if hasattr(module, "reset_peak_memory_stats"):
        module.reset_peak_memory_stats(device)
        return "peak of the accelerator's allocator"
    try:
        _RESET.write_text("5")
        return "peak resident memory, reset before the discovery"
    except OSError:
        return "resident memory after the discovery: this system does not reset its peak"


def _peak_memory(device: torch.device) -> int:
    module = torch.get_device_module(device)
    if hasattr(module, "max_memory_allocated"):
        return module.max_memory_allocated(device)
    if os.access(_RESET, os.W_OK):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import psutil  # needed where the system has no peak that can be reset

    return psutil.Process().memory_info().rss
