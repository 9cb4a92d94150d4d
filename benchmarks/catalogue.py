"""What there is: methods, tasks and suites, each with the first line of its documentation."""

import inspect
import re
import sys
import textwrap
import tomllib
from typing import Any

from tabulate import tabulate

from benchmarks.grid.suite import SUITES, suite_names
from methods import METHODS
from tasks import PREFIX, TASKS, CustomTask


def catalogue() -> str:
    """Three lists, one line per entry."""
    methods = {name: _first_line(sys.modules[cls.__module__]) for name, cls in METHODS.items()}
    tasks = {name: task.description for name, task in TASKS.items()}
    tasks[f"{PREFIX}FILE.jsonl"] = _first_line(CustomTask)
    suites = {
        name: tomllib.loads((SUITES / f"{name}.toml").read_text(encoding="utf-8"))["description"]
        for name in suite_names()
    }
    width = 2 + max(map(len, (*methods, *tasks, *suites)))
    blocks = []
    for title, entries in (("Methods", methods), ("Tasks", tasks), ("Suites", suites)):
        lines = [f"{name:<{width}}{text}" for name, text in entries.items()]
        blocks.append(f"{title}\n{textwrap.indent(chr(10).join(lines), '  ')}")
    return "\n\n".join(blocks)


def method_table() -> str:
    """The README's table, from the methods' module docstrings: what, from which paper, the cost."""
    lines = []
    for name, cls in METHODS.items():
        text = inspect.getdoc(sys.modules[cls.__module__]) or ""
        cost = re.search(r"^Cost: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        assert cost is not None, f"the docstring of {cls.__module__} does not say the cost"
        file = cls.__module__.replace(".", "/") + ".py"
        lines.append(
            {
                "method": f"[`{name}`]({file})",
                "what": _first_line(sys.modules[cls.__module__]).rstrip("."),
                "cost": " ".join(cost[1].split()).rstrip("."),
            }
        )
    return tabulate(lines, "keys", tablefmt="github")


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
