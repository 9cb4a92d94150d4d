"""The interface of task builders, which make a task's prompts for a model, and its base classes."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Generator

from edgewise.task import Sizes, Task, TooFewPrompts
from edgewise.transformer import MaskedTransformer
from tasks.shared.text import counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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


class DrawnTask(OnAnyModel, ABC):
    """Base class of tasks whose prompts are drawn at random from all that a tokenizer allows."""

    name: str
    train: int
    """How many prompts of this kind there are unless another number is asked for."""
    validation: int
    test: int

    def build(
        self,
        model: MaskedTransformer | None,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        seed: int,
        sizes: Sizes | None = None,
    ) -> Task:
        """Prompts for this tokenizer, whatever the model.

        A larger training set contains the smaller ones. Raises ValueError where the tokenizer does
        not suit the task, and TooFewPrompts where more prompts are asked for than there are.
        """
        numbers = counts(sizes, test=self.test, validation=self.validation, train=self.train)
        return self._task(tokenizer, numbers, Generator().manual_seed(seed))

    def fitting(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        seed: int,
        sizes: Sizes,
        kept: Collection[str] = (),
    ) -> Sizes:
        """The sizes, lowered where there are too few prompts. Kinds in `kept` are not lowered.

        Raises ValueError as `build` does.
        """
        while True:
            try:
                self.build(None, tokenizer, seed=seed, sizes=sizes)
            except TooFewPrompts as error:
                sizes = error.reduced(sizes, kept)
            else:
                return sizes

    @abstractmethod
    def _task(
        self, tokenizer: "PreTrainedTokenizerBase", numbers: dict[str, int], generator: Generator
    ) -> Task:
        """The task, with as many prompts of each kind as `numbers` says.

        Raises ValueError where the tokenizer does not suit the task, and TooFewPrompts where there
        are fewer.
        """
