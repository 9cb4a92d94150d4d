"""What a command line changes of a suite before it is checked, without a copy of its file."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.grid.settings import Settings, parse_assignments
from benchmarks.names import unknown
from edgewise.own_code import all_in_full, in_full

METHODS_INSIDE = "methods"
"""The setting of wrappers that names other methods."""


@dataclass(frozen=True)
class Overrides:
    """Models, tasks, numbers of prompts and settings that replace a suite's own, wherever they are.

    `settings` are by method: they hold in every entry of the method and on every task.
    """

    models: Sequence[str] = ()
    tasks: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Settings] = field(default_factory=dict)

    def in_full(self, folder: Path) -> "Overrides":
        """The same with full paths of the user's own files, which are relative to `folder`."""
        settings = {
            in_full(method, folder): with_inner_in_full(own, folder)
            for method, own in self.settings.items()
        }
        return replace(self, tasks=_in_full(list(self.tasks), folder), settings=settings)

    def applied(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """The suite's table with what is given; what is wrong with the rest is left to its check.

        Raises ValueError for settings of a method that the suite does not have, and for tasks on
        which none of its methods runs.
        """
        changed: dict[str, Any] = deepcopy(dict(table))
        entries = _tables(changed.get("method"))
        if self.models:
            changed["model"] = list(self.models)
            _drop(entries, "model")
        if self.tasks:
            self._choose_tasks(changed, entries)
        if self.sizes:
            self._resize(changed, entries)
        self._set(_tables(changed.get("method")))
        return changed

    def _choose_tasks(self, table: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        table["tasks"] = list(self.tasks)
        if not set(_listed(table.get("cross"))) <= set(self.tasks):
            table.pop("cross", None)
        kept = []
        for entry in entries:
            own = _listed(entry.get("tasks", list(self.tasks)))
            chosen = [task for task in self.tasks if task in own]
            if chosen and "tasks" in entry:
                entry["tasks"] = chosen
            if "task" in entry and isinstance(entry["task"], dict):
                entry["task"] = {name: own for name, own in entry["task"].items() if name in chosen}
            kept += [entry] if chosen else []
        if entries and not kept:
            raise ValueError(f"no method of the suite runs on {', '.join(self.tasks)}")
        if entries:
            table["method"] = kept

    def _resize(self, table: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
        sizes = table.setdefault("task", {})
        if isinstance(sizes, dict):
            for task in _listed(table.get("tasks")):
                own = sizes.get(task, {})
                sizes[task] = {**own, **self.sizes} if isinstance(own, dict) else own
        if "train" in self.sizes:
            _drop(entries, "train")

    def _set(self, entries: Sequence[dict[str, Any]]) -> None:
        for method, settings in self.settings.items():
            own = [entry for entry in entries if entry.get("name") == method]
            if not own:
                names = [str(entry.get("name")) for entry in entries]
                raise ValueError(unknown("method of the suite", method, dict.fromkeys(names)))
            for entry in own:
                elsewhere = [*_tables_of(entry.get("task")), *_tables([entry.get("search")])]
                for name in settings:
                    _drop(elsewhere, name)
                if entry.get("search") == {}:  # of one setting, which is given now
                    del entry["search"]
                entry.update(settings)


def with_full_names(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A suite's table in which methods and tasks of the user's own files have full paths.

    They are relative to `folder`, that of the suite.
    """
    full = deepcopy(dict(table))
    for owner in (full, *_tables(full.get("method"))):
        for key in ("name", "tasks", "cross", "task"):
            if key in owner and (key != "name" or owner is not full):
                owner[key] = _in_full(owner[key], folder)
    for entry in _tables(full.get("method")):
        for settings in (entry, *_tables_of(entry.get("task"))):
            settings.update(with_inner_in_full(settings, folder))
    return full


def with_inner_in_full(settings: Settings, folder: Path) -> Settings:
    """Settings in which the files of a wrapper's inner methods have full paths."""
    match settings.get(METHODS_INSIDE):
        case str() as names:
            return {**settings, METHODS_INSIDE: all_in_full(names, folder)}
        case list() as several:
            texts = [all_in_full(n, folder) if isinstance(n, str) else n for n in several]
            return {**settings, METHODS_INSIDE: texts}
    return settings


def _in_full(names: Any, folder: Path) -> Any:
    """A name, a list of names, or a table by name."""
    match names:
        case str():
            return in_full(names, folder)
        case list():
            return [_in_full(name, folder) for name in names]
        case dict():
            return {in_full(name, folder): value for name, value in names.items()}
    return names


def parse_overrides(assignments: Iterable[str]) -> dict[str, Settings]:
    """`method.key=value` of a command line, by method; values as in `parse_assignments`.

    Raises ValueError for what is no such text.
    """
    settings: dict[str, Settings] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        method, dot, key = path.strip().rpartition(".")
        if not equals or not dot or not method.strip() or not key.strip():
            raise ValueError(f"setting {assignment!r}; expected method.key=value")
        if key == "name":
            raise ValueError(f"setting {assignment!r}; a method's name cannot be set")
        settings.setdefault(method, {}).update(parse_assignments([f"{key}={value}"]))
    return settings


def _drop(tables: Iterable[dict[str, Any]], key: str) -> None:
    for table in tables:
        table.pop(key, None)


def _tables(entries: Any) -> list[dict[str, Any]]:
    """The entries that are tables."""
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _tables_of(table: Any) -> list[dict[str, Any]]:
    """The values that are tables."""
    return _tables(list(table.values())) if isinstance(table, dict) else []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
