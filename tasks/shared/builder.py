"""The interface of task builders, which make a task's prompts for a model."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer


@runtime_checkable
class TaskBuilder(Protocol):
    """Makes the prompts of a task for a model."""

    version: ClassVar[int]
    owns_model: ClassVar[bool]
    """Whether the task comes with its own model and runs on no other."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def digest(self) -> str | None:
        """The hash of the user's own file, or the package, that the prompts come from, if any."""
        ...

    def load_model(
        self, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> MaskedTransformer:
        """The task's own model. Raises TypeError where it has none."""
        ...

    def build(
        self, model: MaskedTransformer, tokenizer: Any, *, seed: int, sizes: Sizes | None = None
    ) -> Task: ...


class OnAnyModel:
    """Base class of tasks that run on any given model and whose prompts are made in code."""

    owns_model: ClassVar[bool] = False

    @property
    def digest(self) -> str | None:
        return None

    def load_model(
        self, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> MaskedTransformer:
        raise TypeError(f"{type(self).__name__} has no model of its own")
