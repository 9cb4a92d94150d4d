"""Where the time of a step of Edge Pruning and of a curve goes: kernels, and products' share."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.gpu.gpt2_small import FULL, TOY, Bench, curve_of, training_of
from benchmarks.speed.gpu.parts import PRECISIONS, Measurement, Row, Setting
from edgewise.precision import products_in

TOP = 25
PRODUCTS = ("gemm", "gemv", "cutlass", "xmma", "nvjet", "splitk", "::mm", "::bmm", "addmm")
"""Parts of names of kernels that multiply matrices."""


def measurements(setting: Setting) -> list[Measurement]:
    bench = Bench(setting.device, TOY if setting.toy else FULL)
    return [
        *((f"step, {precision}", partial(_step, bench, precision)) for precision in PRECISIONS),
        ("curve, float32", partial(_curve, bench)),
    ]


def _step(bench: Bench, precision: str) -> Row:
    with products_in(precision) as dtype:
        training, steps = training_of(bench, dtype, graphs=False), itertools.count()
        return kernels_of(lambda: training.step(next(steps)), bench.device)


def _curve(bench: Bench) -> Row:
    with products_in("float32"):
        return kernels_of(curve_of(bench), bench.device)


def kernels_of(
    function: Callable[[], Any], device: torch.device, *, warm_up: int = 3, rounds: int = 3
) -> Row:
    """The device's kernels of a call, the most expensive first."""
    on_cuda = device.type == "cuda"
    for _ in range(warm_up):
        function()
    activities = [ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        for _ in range(rounds):
            function()
    taken: dict[str, float] = {}
    calls: dict[str, float] = {}
    events: list[Any] = list(profiler.key_averages())
    for event in events:
        if event.key.startswith("Optimizer."):  # a name for some kernels, which are listed, too
            continue
        taken[event.key] = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        calls[event.key] = event.count / rounds
    total = sum(taken.values())
    in_products = sum(
        time for name, time in taken.items() if any(part in name for part in PRODUCTS)
    )
    top = sorted(taken, key=taken.__getitem__, reverse=True)[:TOP]
    return {
        "milliseconds_of_kernels": total / rounds / 1e3,
        "kernels": sum(calls.values()),
        "share_of_products": in_products / total if total else 0.0,
        "top": [
            {"kernel": name[:120], "share": taken[name] / total, "calls": calls[name]}
            for name in top
        ],
    }
