"""The tables of a suite's TOML file: what each key may be. Every list is an axis of the grid."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from benchmarks.checking import STRICT, Axis, one_of, problems
from benchmarks.grid.cell import BUNDLED, SPARSITIES
from benchmarks.grid.search import Search
from benchmarks.grid.settings import Settings, allowed, grid, resolve, typed
from benchmarks.names import unknown
from edgewise.graph import ABLATIONS
from edgewise.method import Method
from edgewise.own_code import Source, is_reference
from edgewise.precision import DTYPES
from edgewise.task import Sizes
from methods import find_method, known_methods
from tasks import PREFIX, TaskBuilder, find_task, known_tasks


def builder_of(task: str) -> TaskBuilder:
    """Raises ValueError for a name that stands for no task, and for a file that is not right."""
    try:
        return find_task(task)
    except KeyError:
        raise ValueError(unknown("task", task, [*known_tasks(), f"{PREFIX}FILE.jsonl"])) from None


def method_of(name: str) -> tuple[type[Method], Source | None]:
    """Raises ValueError for a name that stands for no method, and for a file that is not right."""
    try:
        return find_method(name)
    except KeyError:
        raise ValueError(unknown("method", name, known_methods())) from None


def _is_method(name: str) -> str:
    method_of(name)
    return name


def _is_task(name: str) -> str:
    builder_of(name)
    return name


def _has_sizes(name: str) -> str:
    """The file of a task of the user's own need not be there."""
    if name not in known_tasks() and not name.startswith(PREFIX) and not is_reference(name):
        raise ValueError(unknown("task", name, known_tasks()))
    return name


def _names_folder(name: str) -> str:
    if name in ("", "..") or not name.isprintable() or Path(name).name != name:
        raise PydanticCustomError("folder", "expected text that can name a folder")
    if len(name.encode()) > LONGEST_NAME:
        raise PydanticCustomError("folder", "expected at most {most} bytes", {"most": LONGEST_NAME})
    return name


def _suite(info: ValidationInfo) -> Mapping[str, Any]:
    """The suite's valid keys, passed to each entry as its context."""
    return info.context or {}


def _tasks(info: ValidationInfo) -> Sequence[str]:
    """The entry's own or else the suite's; none, where they are not right."""
    own = info.data.get("tasks", ())
    return _suite(info).get("tasks", ()) if own is None else own


def _is_run(name: str, info: ValidationInfo) -> str:
    tasks = _tasks(info)
    if tasks and name not in tasks:
        raise ValueError(unknown("task", name, tasks))
    return name


def _axes(given: Settings, info: ValidationInfo) -> Settings:
    """Settings of the entry's method as axes; unchecked, where the method is not known."""
    return typed(info.data["name"], given, axes=True) if "name" in info.data else given


def _interval(search: Settings, info: ValidationInfo) -> Settings:
    match list(search.values()):
        case [[int() | float() as low, int() | float() as high]] if 0 < low < high:
            pass
        case _ if "name" in info.data:
            raise PydanticCustomError(
                "interval", "expected { SETTING = [low, high] } with 0 < low < high"
            )
    if _suite(info).get("search", ...) is None:
        raise ValueError("expected a [search] with a sparsity")
    return search


MOST_CELLS = 10_000
"""How many cells a suite may have unless it says otherwise."""
LONGEST_NAME = 100
"""The most bytes of a suite's name."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Sparsity = Annotated[float, Field(ge=0, le=1)]
ModelName = Annotated[str, Field(min_length=1)]
TaskName = Annotated[str, AfterValidator(_is_task)]
SizedTask = Annotated[str, AfterValidator(_has_sizes)]
Ablation = Annotated[str, one_of("ablation", ABLATIONS)]
SizeKind = Annotated[str, one_of("key", [field.name for field in fields(Sizes)])]
Axes = Annotated[dict[str, Any], AfterValidator(_axes)]


class _Table(BaseModel):
    model_config = STRICT


class SearchGoal(_Table):
    """`[search]`: the sparsity that is sought, and where searches may end."""

    sparsity: Sparsity
    tolerance: Annotated[float, Field(ge=0)] = Search.tolerance
    trials: Annotated[int, Field(ge=1)] = Search.trials


class MethodEntry(_Table):
    """A `[[method]]` entry. Every key that is none of its own is a setting of the method.

    It is checked with the suite's own keys, as far as they are right, as context.
    """

    name: Annotated[str, AfterValidator(_is_method)]
    label: str = ""
    tasks: Axis[TaskName] | None = None
    model: Axis[ModelName] | None = None
    seeds: Axis[Seed] | None = None
    ablation: Axis[Ablation] | None = None
    train: Axis[Size] | None = None
    search: Annotated[Axes, AfterValidator(_interval)] | None = None
    task: dict[Annotated[str, AfterValidator(_is_run)], Axes] = {}
    settings: Axes

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        own = {key: value for key, value in entry.items() if key in cls.own_keys()}
        return {**own, "settings": {key: entry[key] for key in entry if key not in own}}

    @classmethod
    def own_keys(cls) -> set[str]:
        """What is no setting."""
        return cls.model_fields.keys() - {"settings"}

    @field_validator("settings")
    @classmethod
    def _are_accepted(cls, settings: Settings, info: ValidationInfo) -> Settings:
        """Let the method check every combination of values that passed their own checks."""
        if not {"name", "search", "task"} <= info.data.keys():
            return settings
        _check_number(math.prod(map(len, settings.values())), _suite(info).get("max_cells"))
        refused: dict[str, None] = {}
        for task in _tasks(info):
            for given in _combinations(settings, info.data["search"], info.data["task"], task):
                try:
                    resolve(info.data["name"], task, given)
                except ValueError as error:
                    refused[str(error)] = None
        if refused:
            raise ValueError("\n".join(refused))
        return settings

    def resolved(self, task: str) -> Iterator[Settings]:
        """Every combination of settings that the entry has on a task."""
        for given in _combinations(self.settings, self.search, self.task, task):
            yield resolve(self.name, task, given)


def _check_number(cells: int, most: int | None) -> None:
    """Raises ValueError for more cells than there may be, before any is made."""
    if most is not None and cells > most:
        raise ValueError(f"{cells:,} cells; expected at most {most:,} (max_cells of the suite)")


def _combinations(
    settings: Settings, search: Settings | None, overrides: Mapping[str, Settings], task: str
) -> Iterator[Settings]:
    """Those on one task. A setting that is searched for has the lower end of its interval."""
    start = {name: ends[:1] for name, ends in (search or {}).items()}
    return grid({**settings, **start, **overrides.get(task, {})})


class SuiteTable(_Table):
    """A whole suite."""

    name: Annotated[str, AfterValidator(_names_folder)]
    description: str = ""
    model: Axis[ModelName] = [BUNDLED]
    tasks: Axis[TaskName]
    seeds: Axis[Seed] = [0]
    ablation: Axis[Ablation] | None = None
    dtype: Axis[Annotated[str, one_of("dtype", DTYPES)]] = ["float32"]
    embeddings: Axis[Annotated[str, one_of("embeddings", ("separate", "joint"))]] = ["separate"]
    kv_heads: Axis[Annotated[str, one_of("kv_heads", ("query", "key-value"))]] = ["query"]
    sparsities: Annotated[list[Sparsity], Field(min_length=1)] = list(SPARSITIES)
    max_cells: Annotated[int, Field(ge=1)] = MOST_CELLS
    task: dict[SizedTask, dict[SizeKind, Axis[Size]]] = {}
    cross: Annotated[list[TaskName], Field(min_length=2, max_length=2)] | None = None
    search: SearchGoal | None = None
    method: Annotated[list[MethodEntry], Field(min_length=1)]

    @field_validator("search")
    @classmethod
    def _is_cut_at(cls, goal: SearchGoal | None, info: ValidationInfo) -> SearchGoal | None:
        if goal is not None and goal.sparsity not in info.data.get("sparsities", [goal.sparsity]):
            raise ValueError(
                f"sparsity is {goal.sparsity}; expected one of sparsities, at which rankings are "
                "cut"
            )
        return goal

    @field_validator("method", mode="plain")
    @classmethod
    def _entries(cls, entries: Any, info: ValidationInfo) -> list[MethodEntry]:
        return _ENTRIES.validate_python(entries, context=info.data)

    @model_validator(mode="after")
    def _are_not_too_many(self) -> Self:
        _check_number(sum(map(self._n_cells, self.method)), self.max_cells)
        return self

    def _n_cells(self, entry: MethodEntry) -> int:
        """An upper bound on an entry's cells: tasks with models of their own have fewer."""
        axes = [
            entry.model or self.model,
            self.embeddings,
            self.kv_heads,
            self.dtype,
            entry.seeds or self.seeds,
        ]
        axes += [entry.ablation or self.ablation or [None], entry.train or [None]]
        per_setting = math.prod(map(len, axes))
        total = 0
        for task in entry.tasks or self.tasks:
            settings = {**entry.settings, **entry.task.get(task, {})}
            sizes = self.task.get(task, {})
            total += per_setting * math.prod(map(len, [*settings.values(), *sizes.values()]))
        return total


_ENTRIES = TypeAdapter(Annotated[list[MethodEntry], Field(min_length=1)])


def suite_problems(error: ValidationError, table: Mapping[str, Any]) -> list[str]:
    """All that is wrong with a suite's table, a line each."""

    def known(path: Sequence[int | str]) -> tuple[str, Iterable[str]]:
        match path:
            case "method", int(position), *rest:
                own = MethodEntry.own_keys() if rest[0] == "settings" else ()
                return "setting", {*own, *allowed(table["method"][position]["name"])}
            case "search", _:
                return "key", SearchGoal.model_fields
        return "key", SuiteTable.model_fields

    return problems(error, table, known)
