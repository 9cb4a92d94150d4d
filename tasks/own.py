"""A task from a user's own Python code: a function that makes it, or a whole task builder.

The function gets a model and its tokenizer, a seed and sizes, and gives a `Task`, which runs on any
model. A `TaskBuilder`, an object or a class that is made without arguments, says more of itself and
may have a model of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch

from edgewise.own_code import OwnCodeError, Source
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks.shared.builder import OnAnyModel, TaskBuilder


@dataclass(frozen=True, eq=False)
class OwnTask:
    """A builder that counts by the code it comes from, and says where in it an error was."""

    name: str
    source: Source
    builder: TaskBuilder

    @property
    def version(self) -> int:
        return self.builder.version

    @property
    def owns_model(self) -> bool:
        return self.builder.owns_model

    @property
    def description(self) -> str:
        return self.builder.description

    @property
    def digest(self) -> str:
        return self.source.digest

    def load_model(
        self, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> MaskedTransformer:
        """Raises OwnCodeError for an error in the user's code."""
        with self._named():
            return self.builder.load_model(dtype=dtype, device=device)

    def build(
        self, model: MaskedTransformer, tokenizer: Any, *, seed: int, sizes: Sizes | None = None
    ) -> Task:
        """Raises OwnCodeError for an error in the user's code and for what is no task."""
        with self._named():
            task: Any = self.builder.build(model, tokenizer, seed=seed, sizes=sizes)
            if not isinstance(task, Task):
                raise TypeError(f"{task!r} is no task; expected an edgewise.Task")
            return task

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            described = f"{type(error).__name__}: {error}"
            raise OwnCodeError(f"{self.source.reference}: {described}") from error


@dataclass(frozen=True, eq=False)
class Made(OnAnyModel):
    """The builder of a task that a function makes."""

    name: str
    make: Callable[..., Any]
    version: ClassVar[int] = 1

    @property
    def description(self) -> str:
        return (self.make.__doc__ or f"Made by {self.name}").strip().splitlines()[0]

    def build(
        self, model: MaskedTransformer, tokenizer: Any, *, seed: int, sizes: Sizes | None = None
    ) -> Any:
        """What the function gives; its sizes are never None."""
        return self.make(model, tokenizer, seed=seed, sizes=sizes or Sizes())


def own_task(name: str, found: Any, source: Source) -> TaskBuilder:
    """The task that an object of the user's makes.

    Raises ValueError for an object that makes none, and OwnCodeError for a class that cannot be
    called without arguments.
    """
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise OwnCodeError(f"{name}: {type(error).__name__}: {error}") from error
    if isinstance(found, TaskBuilder):
        return _builder(name, source, found)
    if callable(found):
        return _builder(name, source, Made(name, found))
    raise ValueError(f"{name} is {found!r}; expected a function that makes a task, or TaskBuilder")


def _builder(name: str, source: Source, found: TaskBuilder) -> TaskBuilder:
    # What a builder has of its class, this one has of the builder inside.
    return cast(TaskBuilder, OwnTask(name, source, found))
