"""The command line with a method that fails on the second rank, while the first waits for it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from benchmarks.cli import main
from edgewise import Circuit, Method, parallel
from methods import METHODS


@dataclass(frozen=True)
class FailingOnOneRank(Method):
    name: ClassVar[str] = "failing"

    def discover(self, *_: Any, **__: Any) -> Circuit:
        if parallel.rank() == 1:
            raise RuntimeError("the second rank broke")
        parallel.total(torch.ones(1))
        raise AssertionError("the first rank waits for the second")


if __name__ == "__main__":
    METHODS["failing"] = FailingOnOneRank
    main()
