"""One discovery on several processes.

Each runs a share of the prompts, and sums are taken over all of them. Every rank draws the same
numbers and holds the same masks, so the result is that of a single process, up to the order in
which floats are added. `torchrun` starts the processes and ends all of them when one fails. Without
a process group, the share is all prompts and the sum is the process's own value.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from edgewise.prompts import PromptPairs

_WAIT = timedelta(days=30)
"""Ranks wait while the first one evaluates.

A dead rank is noticed by torchrun, not by this timeout.
"""

T = TypeVar("T")
Prompts = TypeVar("Prompts", PromptPairs, Tensor)


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun has started, if it has; gives this process's device.

    An accelerator without an index becomes the one with this process's local rank. Numbers on it
    are reduced by its own library (NCCL on CUDA), those on the CPU by gloo.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    backend = "cpu:gloo"
    if device.type != "cpu":
        if device.index is None:
            device = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
        torch.accelerator.set_device_index(device)
        backend += f",{device.type}:{dist.get_default_backend_for_device(device)}"
    dist.init_process_group(backend, timeout=_WAIT)
    yield device
    # Not after an error: this would wait for the other ranks, which are waiting for this one.
    dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(prompts: Prompts) -> Prompts:
    """Every size-th of the pairs, or of their indices. Raises ValueError if a rank gets none."""
    if len(prompts) < size():
        raise ValueError(
            f"{len(prompts)} prompts for {size()} processes; expected one or more for each"
        )
    return prompts[rank() :: size()]


def total(tensor: Tensor) -> Tensor:
    """The sum over ranks, the same on all of them."""
    return _reduced(tensor, dist.ReduceOp.SUM)


def largest(tensor: Tensor) -> Tensor:
    """The maximum over ranks."""
    return _reduced(tensor, dist.ReduceOp.MAX)


def from_first(function: Callable[[], T]) -> T:
    """Call the function on the first rank only; all ranks get its result."""
    if size() == 1:
        return function()
    box: list[Any] = [function() if rank() == 0 else None]
    dist.broadcast_object_list(box)
    return box[0]


def _reduced(tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if size() == 1:
        return tensor
    reduced = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(reduced, operation)
    return reduced
