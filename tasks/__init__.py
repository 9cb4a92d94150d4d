"""The tasks by name. A new one is one file here and one line below."""

from typing import Any, ClassVar, Protocol

from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks.ioi import IOI, IOI_T1
from tasks.tracr import TracrTask
from tasks.tracr_programs import PROGRAMS


class TaskBuilder(Protocol):
    """What a task offers. One that owns its model also has `load_model() -> MaskedTransformer`."""

    version: ClassVar[int]

    @property
    def name(self) -> str: ...
    def build(
        self, model: MaskedTransformer, tokenizer: Any, *, seed: int, sizes: Sizes | None = None
    ) -> Task: ...


_BUILDERS: tuple[TaskBuilder, ...] = (IOI, IOI_T1, *map(TracrTask, PROGRAMS))
TASKS = {builder.name: builder for builder in _BUILDERS}

__all__ = ["TASKS", "TaskBuilder"]
