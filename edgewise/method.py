"""The interface of circuit-discovery methods."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from annotated_types import Gt, Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Generator, Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

Count = Annotated[int, Interval(ge=1, le=10**9)]
Positive = Annotated[float, Gt(0)]
Family = Literal["baseline", "attribution", "search", "masks"]
"""The kind of method: random, by gradients, by testing edges, or by training masks."""


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass whose fields are the hyper-parameters, with the paper's defaults.

    A field's type says what it may be, such as `Annotated[float, Gt(0)]` for a positive number.
    """

    name: ClassVar[str]
    """As suites and the command line spell it."""
    label: ClassVar[str]
    """As tables and figures print it."""
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    """Increased whenever its results could change."""
    sweeps: ClassVar[str | None] = None
    """The setting that makes circuits sparser or denser; None where edges are ranked."""
    aims_at: ClassVar[str | None] = None
    """The setting that names the sparsity that a circuit is to have."""
    added: ClassVar[tuple[str, ...]] = ()
    """Settings that are younger than stored results. At its default, such a setting is no part of
    what defines a cell, so cells keep the names that they had without it."""
    after_training: ClassVar[tuple[str, ...]] = ()
    """Settings that only `finish` uses. Cells that differ only in these share one training."""

    def __post_init__(self) -> None:
        """Raises ValueError for a setting that is not what its type says."""
        for name, check in _checks(type(self)).items():
            value = getattr(self, name)
            try:
                check(value)
            except ValidationError as error:
                message = expectation(error.errors(include_url=False)[0]["msg"])
                raise ValueError(f"{name}={value!r}; {message}") from None

    @abstractmethod
    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores | list[EdgeScores]:
        """A circuit, a ranking of edges, or several rankings.

        It looks at `task.train` (and `task.validation` where a paper does) and draws chance from
        `generator` alone. Raises Unsupported for a task that the method cannot run.
        """

    @property
    def gives(self) -> Literal["a circuit", "a ranking", "several rankings"]:
        """What `discover` returns."""
        return "a ranking"

    def check_task(self, task: Task) -> None:
        """Raises ValueError for a setting that is of no use on this task, before anything runs."""
        return None

    def most_passes(self, graph: Graph, n_prompts: int) -> float | None:
        """About how many forward passes of the training prompts a discovery costs at most.

        None if that is not known.
        """
        return None

    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or ranking for these trained tensors, for methods with `after_training`."""
        raise NotImplementedError(f"{self.name} has no settings that apply after training")


def setting_types(method: type[Method]) -> dict[str, Any]:
    """A method's settings and their types, with the ranges that these declare."""
    hints = get_type_hints(method, include_extras=True)
    return {field.name: hints[field.name] for field in fields(method) if field.init}


@cache
def _checks(method: type[Method]) -> dict[str, Callable[[Any], Any]]:
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    types = setting_types(method).items()
    return {name: TypeAdapter(kind, config=strict).validate_python for name, kind in types}


def expectation(message: str) -> str:
    """What pydantic says of a value that it refuses, in the words of our errors."""
    message = re.sub(r"^\w+ should (be|have) ", "expected ", message)
    return re.sub("^expected (?=greater|less)", "expected a number ", message)
