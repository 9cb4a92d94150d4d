"""The tasks by name: a new one is one file and one line here. Others come from a user's code."""

from edgewise.files import expanded
from edgewise.own_code import from_file, from_package, is_reference, offered_names, short_name
from tasks.arithmetic import ARITHMETIC_ADDITION, ARITHMETIC_SUBTRACTION
from tasks.boolean import BOOLEAN_FEW_SHOT, BOOLEAN_INSTRUCTION
from tasks.custom import PREFIX, CustomTask
from tasks.docstring import DOCSTRING
from tasks.gendered_pronoun import GENDERED_PRONOUN
from tasks.greater_than import GREATER_THAN, GREATER_THAN_01
from tasks.ioi import IOI, IOI_COUNTERFACTUALS, IOI_T1
from tasks.mcqa import MCQA, MCQA_POSITION
from tasks.own import own_task
from tasks.shared.builder import TaskBuilder
from tasks.subject_verb_agreement import SUBJECT_VERB_AGREEMENT
from tasks.tracr import TracrTask
from tasks.tracr_programs import PROGRAMS, XPROPORTION

_BUILDERS: tuple[TaskBuilder, ...] = (
    IOI,
    IOI_T1,
    *IOI_COUNTERFACTUALS,
    GREATER_THAN,
    GREATER_THAN_01,
    GENDERED_PRONOUN,
    SUBJECT_VERB_AGREEMENT,
    MCQA,
    MCQA_POSITION,
    ARITHMETIC_ADDITION,
    ARITHMETIC_SUBTRACTION,
    DOCSTRING,
    BOOLEAN_INSTRUCTION,
    BOOLEAN_FEW_SHOT,
    *map(TracrTask, PROGRAMS),
    TracrTask(XPROPORTION, over_positions=True),
)
TASKS: dict[str, TaskBuilder] = {builder.name: builder for builder in _BUILDERS}
GROUP = "edgewise.tasks"
"""The entry points by which installed packages offer tasks."""


def find_task(name: str) -> TaskBuilder:
    """The task of this name.

    `custom:FILE.jsonl` and `FILE.py:NAME` are made from the file, as it is now; other names may be
    those that installed packages offer. Raises KeyError where there is none, ValueError for a file
    that is missing or not right, and OwnCodeError for an error in a user's own code.
    """
    if name.startswith(PREFIX):
        return CustomTask.read(expanded(name.removeprefix(PREFIX)))
    if name in TASKS:
        return TASKS[name]
    found = from_file(name) if is_reference(name) else from_package(GROUP, name)
    if found is None:
        raise KeyError(name)
    return own_task(short_name(name) if is_reference(name) else name, *found)


def known_tasks() -> list[str]:
    """The names of the tasks here and of those that installed packages offer."""
    return [*TASKS, *offered_names(GROUP)]


__all__ = ["PREFIX", "TASKS", "CustomTask", "TaskBuilder", "find_task", "known_tasks"]
