"""The options that say on which machine and how to run. None changes a result beyond rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import torch

    from benchmarks.run.runner import Options

_OPTIONS = (
    click.option(
        "--device", metavar="D", help="cpu, cuda, ...; default: the accelerator, if there is one."
    ),
    click.option(
        "--device-map",
        metavar="MAP",
        help="Spread a large model's layers over the devices here: auto, balanced_low_0, ...",
    ),
    click.option(
        "--recompute",
        is_flag=True,
        help="Run each block again in backward passes: less memory, more operations.",
    ),
    click.option(
        "--cuda-graphs",
        is_flag=True,
        help="On one GPU, record steps of Edge Pruning and tests of ACDC and replay them: faster.",
    ),
    click.option(
        "--memory",
        metavar="SIZE",
        help="Memory of a pass, such as 4GB, which sizes batches; default: a constant, about 2 GB.",
    ),
)


@dataclass(frozen=True)
class Machine:
    """What the options say; each field is one of them."""

    device: str | None
    device_map: str | None
    recompute: bool
    cuda_graphs: bool
    memory: str | None

    def options(self, device: "torch.device", **others: Any) -> "Options":
        """All options of a run on this device. Raises ValueError for a size that is none."""
        from benchmarks.run.environment import bytes_of
        from benchmarks.run.runner import Options

        own = {
            "device_map": self.device_map,
            "recompute": self.recompute,
            "cuda_graphs": self.cuda_graphs,
            "memory_bytes": None if self.memory is None else bytes_of(self.memory),
        }
        return Options(device, **own, **others)


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A verb with these options, which it gets as one `machine`."""

    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in Machine.__dataclass_fields__}
        return command(*arguments, machine=Machine(**own), **options)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered
