"""Every method on random toys, on as many ranks as torchrun starts; the first writes what it found.

Run as `torchrun -m tests.methods.discover_toys FOLDER`, or alone.
"""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgewise import parallel
from edgewise.discovery import Checkpoint, Meter
from edgewise.graph import Ablation
from edgewise.task import Task
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from tests.methods import toys

_EDGE_PRUNING = EdgePruning(
    steps=60,
    warmup_steps=5,
    target_warmup_steps=42,
    learning_rate=2.0,
    batch_size=5,
    target_sparsity=0.7,
)
"""Some masks close, most stay open."""
DISCOVERIES: dict[str, Any] = {
    "eap": EAP(),
    "acdc": ACDC(threshold=1e-3),
    "edge-pruning": _EDGE_PRUNING,
    "edge-pruning-samples": replace(_EDGE_PRUNING, noise_samples=3),
}
ABLATIONS: tuple[Ablation, ...] = ("interchange", "mean")
INTERRUPTED_AFTER = 30
"""Losses of the run that is interrupted and goes on."""


def discover_all(folder: Path) -> None:
    for ablation in ABLATIONS:
        task = toys.task(toys.random_pairs(7), ablation=ablation)
        for method in DISCOVERIES:
            discover(method, task, folder / f"{method}-{ablation}.safetensors")
    task = toys.task(toys.random_pairs(7))
    for method in ("acdc", "edge-pruning"):
        checkpoint = Checkpoint(folder / "state", Meter(toys.gpt2()), every_seconds=0.0)
        loss = toys.interrupting(task.training_loss, INTERRUPTED_AFTER)
        found = folder / f"{method}-resumed.safetensors"
        with suppress(toys.Interrupted):
            discover(method, replace(task, training_loss=loss), found, checkpoint)
        discover(method, task, found, checkpoint)
        if parallel.rank() == 0:
            checkpoint.remove()


def discover(method: str, task: Task, path: Path, checkpoint: Checkpoint | None = None) -> None:
    generator = torch.Generator().manual_seed(0)
    found = DISCOVERIES[method].discover(
        toys.gpt2(), task, generator=generator, checkpoint=checkpoint
    )
    if parallel.rank() == 0:
        found.save(path)


if __name__ == "__main__":
    with parallel.process_group(torch.device("cpu")):
        discover_all(Path(sys.argv[1]))
