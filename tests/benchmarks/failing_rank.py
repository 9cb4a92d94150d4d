"""The command line with a method that fails on the second rank, while the first waits for it."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmarks.cli import main
from edgewise import parallel
from methods import METHODS


@dataclass(frozen=True)
class FailingOnOneRank:
    version: ClassVar[int] = 1

    def discover(self, *_: object, **__: object) -> None:
        if parallel.rank() == 1:
            raise RuntimeError("the second rank broke")
        parallel.total(torch.ones(1))


if __name__ == "__main__":
    METHODS["failing"] = FailingOnOneRank
    main()
