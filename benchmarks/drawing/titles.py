"""What tasks are called in print."""

_TITLES = {
    "ioi": "IOI",
    "ioi-t1": "IOI, one template",
    "greater-than": "Greater-Than",
    "greater-than-01": "Greater-Than, years in 01",
    "gendered-pronoun": "Gendered Pronoun",
    "subject-verb-agreement": "Subject-Verb Agreement",
    "mcqa": "MCQA",
    "mcqa-position": "MCQA, option moved",
    "arithmetic-addition": "Addition",
    "arithmetic-subtraction": "Subtraction",
    "docstring": "Docstring",
    "boolean-instruction": "Boolean expressions, instruction",
    "boolean-few-shot": "Boolean expressions, three shots",
}
_COMPILED, _CUSTOM, _IOI = "tracr-", "custom:", "ioi-"


def task_title(task: str) -> str:
    """A task's name in print; a name that is not known stands for itself."""
    if task in _TITLES:
        return _TITLES[task]
    if task.startswith(_IOI):
        return f"IOI, {task.removeprefix(_IOI).replace('-', ' ')}"
    if task.startswith(_COMPILED):
        words = task.removeprefix(_COMPILED).replace("-", " ")
        return f"Tracr: {words}"
    if task.startswith(_CUSTOM):
        return task.removeprefix(_CUSTOM).rpartition("/")[2].removesuffix(".jsonl")
    return task
