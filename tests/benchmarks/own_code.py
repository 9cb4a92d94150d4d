"""Methods and tasks of a user's own, as the files that tests write."""

METHOD = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from edgewise import EdgeScores, Method


@dataclass(frozen=True)
class Mine(Method):
    name: ClassVar = "mine"
    label: ClassVar = "Mine"
    family: ClassVar = "baseline"
    slope: float = 1.0

    def discover(self, model, task, *, generator, checkpoint=None):
        values = self.slope * torch.arange(model.graph.legal.numel(), dtype=torch.float32)
        return EdgeScores(values.view(model.graph.legal.shape), model.graph)
"""

TASK = '''
from tasks.ioi import IOI_T1


def build(model, tokenizer, *, seed, sizes):
    """IOI, from a file."""
    return IOI_T1.build(model, tokenizer, seed=seed, sizes=sizes)


class Builder:
    version = 3
    owns_model = False
    name = "whatever"
    description = "IOI, from a class"
    digest = None

    def load_model(self, **_):
        raise TypeError

    def build(self, model, tokenizer, *, seed, sizes=None):
        return IOI_T1.build(model, tokenizer, seed=seed, sizes=sizes)
'''
