"""Every method on random toys, on as many ranks as torchrun starts; the first writes what it found.

Run as `torchrun -m tests.methods.discover_toys FOLDER`, or alone.
"""

import sys
from pathlib import Path

import torch

from edgewise import parallel
from edgewise.graph import Ablation
from methods import METHODS
from tests.methods import toys

SETTINGS = {
    "eap": {},
    "acdc": {"threshold": 1e-3},
    "edge-pruning": dict(
        steps=200, warmup_steps=10, target_warmup_steps=140, batch_size=5, target_sparsity=0.7
    ),
}
ABLATIONS: tuple[Ablation, ...] = ("interchange", "mean")


def discover_all(folder: Path) -> None:
    for ablation in ABLATIONS:
        task = toys.task(toys.random_pairs(7), ablation=ablation)
        for method, settings in SETTINGS.items():
            found = METHODS[method](**settings).discover(
                toys.gpt2(), task, generator=torch.Generator().manual_seed(0)
            )
            if parallel.rank() == 0:
                found.save(folder / f"{method}-{ablation}.safetensors")


if __name__ == "__main__":
    with parallel.process_group(torch.device("cpu")):
        discover_all(Path(sys.argv[1]))
