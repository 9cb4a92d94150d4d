"""The tasks by name. A new one is one file here and one line below."""

from edgewise.files import expanded
from tasks.boolean import BOOLEAN_FEW_SHOT, BOOLEAN_INSTRUCTION
from tasks.custom import PREFIX, CustomTask
from tasks.gendered_pronoun import GENDERED_PRONOUN
from tasks.greater_than import GREATER_THAN, GREATER_THAN_01
from tasks.ioi import IOI, IOI_T1
from tasks.shared.builder import TaskBuilder
from tasks.tracr import TracrTask
from tasks.tracr_programs import PROGRAMS, XPROPORTION

_BUILDERS: tuple[TaskBuilder, ...] = (
    IOI,
    IOI_T1,
    GREATER_THAN,
    GREATER_THAN_01,
    GENDERED_PRONOUN,
    BOOLEAN_INSTRUCTION,
    BOOLEAN_FEW_SHOT,
    *map(TracrTask, PROGRAMS),
    TracrTask(XPROPORTION, over_positions=True),
)
TASKS: dict[str, TaskBuilder] = {builder.name: builder for builder in _BUILDERS}


def find_task(name: str) -> TaskBuilder:
    """The task of this name; `custom:FILE.jsonl` is made from the file, as it is now.

    Raises KeyError where there is none, and ValueError for a file that is missing or not right.
    """
    if name.startswith(PREFIX):
        return CustomTask.read(expanded(name.removeprefix(PREFIX)))
    return TASKS[name]


__all__ = ["PREFIX", "TASKS", "CustomTask", "TaskBuilder", "find_task"]
