"""Lists methods, tasks and suites, one line each, or describes one of them.

Methods, tasks and the names of models are read from `catalogue.json`, which `make docs` writes from
the code, so that listing does not import torch.
"""

import json
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.names import SUITES, suite_names, unknown

FILE = Path(__file__).with_name("catalogue.json")


def catalogue() -> str:
    """Three lists, one line per entry."""
    kinds = {
        "Methods": {name: entry["what"] for name, entry in _read()["methods"].items()},
        "Tasks": {name: entry["what"] for name, entry in _read()["tasks"].items()},
        "Suites": {name: suite["description"] for name, suite in suites().items()},
    }
    width = 2 + max(len(name) for entries in kinds.values() for name in entries)
    blocks = []
    for title, entries in kinds.items():
        lines = [f"{name:<{width}}{text}" for name, text in entries.items()]
        blocks.append(f"{title}\n{_indented(lines)}")
    return "\n\n".join([*blocks, "Details: edgewise list NAME"])


def describe(name: str) -> str:
    """All about a method, a task or a suite. Raises ValueError for a name that does not exist."""
    methods, tasks, known_suites = _read()["methods"], _read()["tasks"], suites()
    if name in methods:
        return _method(methods[name])
    if name in tasks:
        return _fields(tasks[name])
    if name in known_suites:
        return _suite(known_suites[name], SUITES / f"{name}.toml")
    raise ValueError(unknown("method, task or suite", name, [*methods, *tasks, *known_suites]))


def owns_model(task: str) -> bool:
    """Whether a task comes with its own model; False for a name that is not in the catalogue."""
    return _read()["tasks"].get(task, {}).get("model") == "its own"


def models() -> list[str]:
    """The names of the models that come with the package."""
    return _read()["models"]


def method_table() -> str:
    """The README's table: what a method does, from which paper, and its cost."""
    lines = [
        {
            "method": f"[`{name}`]({entry['file']})",
            "what": entry["what"].rstrip("."),
            "cost": entry["cost"],
        }
        for name, entry in _read()["methods"].items()
    ]
    return tabulate(lines, "keys", tablefmt="github")


def _method(entry: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in entry.items() if isinstance(value, str)}
    blocks = [_fields(facts), "Settings, for --set NAME=VALUE and suites:"]
    for setting in entry["settings"]:
        head = f"{setting['setting']} = {setting['default']}  ({setting['type']})"
        blocks.append(f"{_wrapped(head, '  ')}\n{_wrapped(setting['meaning'], '      ')}")
    if not entry["settings"]:
        blocks.append("  none")
    if entry["task defaults"]:
        blocks.append("Other defaults on some tasks:")
        blocks += [_wrapped(line, "  ") for line in entry["task defaults"]]
    return "\n\n".join(blocks)


def _suite(suite: Mapping[str, Any], file: Path) -> str:
    methods = dict.fromkeys(entry["name"] for entry in suite["method"])
    facts = {
        "what": suite["description"],
        "tasks": ", ".join(suite["tasks"]),
        "methods": ", ".join(methods),
        "file": str(file),
        "what it costs": f"edgewise run {file.stem} --dry-run",
    }
    return _fields(facts)


def _fields(facts: Mapping[str, str]) -> str:
    width = 2 + max(map(len, facts))
    return "\n".join(
        _wrapped(text, f"{name:<{width}}", " " * width) for name, text in facts.items()
    )


def _wrapped(text: str, first: str, rest: str | None = None) -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _indented(lines: Iterable[str]) -> str:
    return textwrap.indent("\n".join(lines), "  ")


@cache
def _read() -> Mapping[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def suites() -> Mapping[str, Any]:
    """The tables of the suites that come with the package, by name."""
    return {
        name: tomllib.loads((SUITES / f"{name}.toml").read_text(encoding="utf-8"))
        for name in suite_names()
    }
