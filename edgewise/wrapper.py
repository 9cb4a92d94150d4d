"""Methods that are made of other methods."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.discovery import Unsupported
from edgewise.graph import Graph
from edgewise.inner_names import parse
from edgewise.method import Family, Method
from edgewise.task import Task


@dataclass(frozen=True)
class InnerMethod:
    """An inner method, as part of a cell's definition.

    `reference` says where it is found, if not by its name; it is not part of the definition.
    """

    method: str
    method_version: int
    settings: Mapping[str, Any] = field(hash=False)
    code: str | None = None
    """For a user's own method, the hash of its file, or its package with the version."""
    reference: str | None = None


@dataclass(frozen=True)
class Wrapper(Method):
    """A method that runs its inner methods, and whose cost is theirs.

    They are named in the setting `methods`. `methods.build` makes them and passes them to `around`.
    They take no checkpoint: a wrapper starts anew where it was interrupted.
    """

    methods: str
    """The methods inside, with commas between them and settings in parentheses:
    `eap-ig(steps=10, rule=right), gim`. Each is a name or `FILE.py:NAME`. Put a path with commas
    or parentheses in single or double quotes."""
    family: ClassVar[Family] = "attribution"
    takes_one: ClassVar[bool] = False
    """Whether there is one inner method; otherwise there are two or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.named()
        if (len(names) == 1) != self.takes_one or not names:
            expected = "one method" if self.takes_one else "two or more methods"
            raise ValueError(f"methods={self.methods!r}; expected {expected}")

    def named(self) -> list[tuple[str, list[str]]]:
        """The inner methods' names, each with its settings as `key=value`.

        Raises ValueError for a text that is no list of methods.
        """
        return [(one.name, one.settings) for one in parse(self.methods)]

    def around(self, inner: Sequence[Method]) -> "Wrapper":
        """The same wrapper with its inner methods."""
        made = copy(self)
        object.__setattr__(made, "_inner", tuple(inner))
        return made

    @property
    def inner(self) -> tuple[Method, ...]:
        inner: tuple[Method, ...] | None = getattr(self, "_inner", None)
        if inner is None:
            raise ValueError(f"{self.label} has no inner methods; give them with `around`")
        return inner

    def check_task(self, task: Task) -> None:
        for method in self.inner:
            method.check_task(task)

    @property
    def runs(self) -> int:
        """How often each inner method runs."""
        return 1

    def most_passes(self, graph: Graph, n_prompts: int) -> float | None:
        passes = [method.most_passes(graph, n_prompts) for method in self.inner]
        return None if None in passes else self.runs * sum(number or 0.0 for number in passes)

    def refuse_inner(self, setting: str) -> None:
        """Raises ValueError for an inner method that is given a setting which the wrapper sets."""
        for _, given in self.named():
            if any(assignment.partition("=")[0].strip() == setting for assignment in given):
                raise ValueError(
                    f"methods={self.methods!r}; expected no {setting} inside: the settings beside "
                    "`methods` give it"
                )

    def check_inner(self, expected: Sequence[str]) -> None:
        """Raises Unsupported, before anything runs, for a method that gives something else."""
        for method in self.inner:
            if method.gives not in expected:
                raise Unsupported(
                    f"{self.label} of {method.label}, which gives {method.gives}; expected "
                    f"{' or '.join(expected)}"
                )


def rank_shares(scores: EdgeScores) -> Float[Tensor, "reader writer"]:
    """For each edge, the share of edges that are not ranked above it: 1 for the best.

    Equal scores share the mean of their places. In a greedy ranking, which has an order of its own,
    no edges are equal, and an edge that it never reaches gets 0.
    """
    n_edges, legal = scores.graph.n_edges, scores.graph.legal
    shares = torch.zeros(legal.shape, dtype=torch.float64)
    if scores.selection == "greedy":
        order = scores.ranking()
        shares.view(-1)[order] = 1 - torch.arange(len(order), dtype=torch.float64) / n_edges
        return shares
    shares[legal] = shares_not_above(scores.values.cpu()[legal])
    return shares


def shares_not_above(values: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """For each value, the share of values that are not above it; equal ones share their mean."""
    _, place, count = (-values).unique(return_inverse=True, return_counts=True)
    above = (count.cumsum(0) - count) + (count - 1) / 2
    return 1 - above.double()[place] / len(values)
