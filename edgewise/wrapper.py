"""Methods that are made of other methods."""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from edgewise.circuit import EdgeScores
from edgewise.discovery import Unsupported
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

_NAME = re.compile(r"\s*([\w-]+)\s*(?:\(([^()]*)\))?\s*(?:,|$)")


@dataclass(frozen=True)
class InnerMethod:
    """What an inner method is, as part of what defines a cell."""

    method: str
    method_version: int
    settings: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Wrapper(Method):
    """A method that runs its inner methods, and whose cost is theirs.

    They are named in the setting `methods`. Whoever knows methods by name makes them and hands them
    over with `around`.
    """

    methods: str
    """The methods inside, by name, with commas between them and settings in parentheses:
    `eap-ig(steps=10, rule=right), gim`."""
    family: ClassVar[Family] = "attribution"
    most_inner: ClassVar[int | None] = None
    """How many methods it takes; None for two and more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.named()
        if self.most_inner is not None and len(names) != self.most_inner:
            expected = "one method" if self.most_inner == 1 else f"{self.most_inner} methods"
            raise ValueError(f"methods={self.methods!r}; expected {expected}")
        if self.most_inner is None and len(names) < 2:
            raise ValueError(f"methods={self.methods!r}; expected two or more methods")

    def named(self) -> list[tuple[str, list[str]]]:
        """The inner methods' names, each with its settings as `key=value`.

        Raises ValueError for a text that is no list of methods.
        """
        found: list[tuple[str, list[str]]] = []
        place = 0
        while place < len(self.methods):
            match = _NAME.match(self.methods, place)
            if match is None:
                raise ValueError(
                    f"methods={self.methods!r}; expected names with commas between them, each "
                    "with or without settings in parentheses, such as 'eap-ig(steps=10), gim'"
                )
            given = [part.strip() for part in (match[2] or "").split(",") if part.strip()]
            found.append((match[1], given))
            place = match.end()
        return found

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

    def most_passes(self, graph: Graph, n_prompts: int) -> float | None:
        passes = [method.most_passes(graph, n_prompts) for method in self.inner]
        return None if None in passes else sum(number or 0.0 for number in passes)

    def ranking_of(
        self, inner: Method, model: MaskedTransformer, task: Task, generator: Generator
    ) -> EdgeScores:
        """What the inner method finds. Raises Unsupported if that is no single ranking."""
        found = inner.discover(model, task, generator=generator)
        if not isinstance(found, EdgeScores):
            raise Unsupported(
                f"{self.label} of {inner.label}, which gives "
                f"{'several rankings' if isinstance(found, list) else 'a circuit'}; "
                "expected a method that ranks all edges"
            )
        return found


def rank_shares(scores: EdgeScores) -> Float[Tensor, "reader writer"]:
    """For each edge, the share of edges that are not ranked above it: 1 for the best.

    An edge that a greedy ranking never reaches gets 0.
    """
    shares = torch.zeros(scores.graph.legal.numel(), dtype=torch.float64)
    order = scores.ranking()
    n_edges = scores.graph.n_edges
    shares[order] = 1 - torch.arange(len(order), dtype=torch.float64) / n_edges
    return shares.view(scores.graph.legal.shape)
