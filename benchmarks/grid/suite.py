"""A suite: a grid of cells in one TOML file, checked as a whole before anything runs.

A list is an axis of the grid, for a method's settings, `model`, `seeds` and the graph's options
alike. `[task.NAME]` gives sizes, lists too; in a [[method]] entry `seeds`, `tasks`, `train` and
`ablation` override the suite's, and `[method.task.NAME]` overrides settings on one task. A task
that owns its model ignores `model`, which is the bundled one where none is named. `label` is what
tables and figures call an entry's settings, instead of listing them.

`[search]` names a sparsity that every method is to be compared at: in a [[method]] entry
`search = { SETTING = [low, high] }` has the setting searched for. `cross` names two tasks whose
circuits are evaluated on the prompts of both.
"""

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.grid.cell import BUNDLED, SPARSITIES, Bench, Cell, ModelOptions
from benchmarks.grid.crossing import Crossing, crossings_of
from benchmarks.grid.search import Search
from benchmarks.grid.settings import convert, grid, resolve, unknown
from edgewise.graph import ABLATIONS
from edgewise.precision import DTYPES
from edgewise.task import Sizes
from methods import METHODS
from tasks import PREFIX, TASKS, TaskBuilder, find_task

SUITES = Path(__file__).parents[1] / "suites"

_GRAPH = {"embeddings": ("separate", "joint"), "kv_heads": ("query", "key-value")}
_KEYS = (
    *("name", "description", "model", "tasks", "seeds", "ablation", "dtype", "sparsities"),
    *("task", "method", "search", "cross", *_GRAPH),
)
_METHOD_KEYS = ("name", "label", "seeds", "tasks", "ablation", "task", "train", "search")


@dataclass(frozen=True)
class Suite:
    """A name, a line that says what for, and cells and searches in the order of their runs."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    searches: tuple[Search, ...] = ()
    crossings: tuple[Crossing, ...] = ()


class SuiteError(ValueError):
    """All that is wrong with a suite, one line each."""

    def __init__(self, source: str, problems: list[str]) -> None:
        lines = [line for problem in problems for line in problem.splitlines()]
        super().__init__("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines)))


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name_or_file: str, *, only: str | None = None) -> Suite:
    """A suite by name or from a file; `only` keeps one method's cells.

    Raises SuiteError, with every problem, before anything runs.
    """
    path = SUITES / f"{name_or_file}.toml"
    if name_or_file not in suite_names():
        path = Path(name_or_file)
        if not path.is_file():
            if path.suffix == ".toml" or len(path.parts) > 1:
                raise ValueError(f"no suite file {name_or_file!r}")
            raise ValueError(unknown("suite", name_or_file, suite_names()))
    suite = parse_suite(path.read_text(encoding="utf-8"), path.name)
    if only is None:
        return suite
    if only not in METHODS:
        raise ValueError(unknown("method", only, METHODS))
    cells = tuple(cell for cell in suite.cells if cell.method == only)
    searches = tuple(search for search in suite.searches if search.cell.method == only)
    if not cells and not searches:
        raise ValueError(f"{path.name}: no cell of method {only!r}")
    crossings = tuple(crossing for crossing in suite.crossings if crossing.first.method == only)
    return replace(suite, cells=cells, searches=searches, crossings=crossings)


def parse_suite(text: str, source: str) -> Suite:
    """The suite that a TOML text describes. Raises SuiteError with every problem found."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(source, [f"not valid TOML: {error}"]) from None
    parser = _Parser(table)
    cells, searches = parser.work()
    crossings = parser.crossings(cells)
    if parser.problems:
        raise SuiteError(source, parser.problems)
    work = tuple(cells), tuple(searches), tuple(crossings)
    return Suite(table["name"], table.get("description", ""), *work)


class _Parser:
    """Reads a suite's table and collects what is wrong with it instead of stopping."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table
        self.problems: list[str] = []
        self.builders: dict[str, TaskBuilder] = {}

    def work(self) -> tuple[list[Cell], list[Search]]:
        table = self.table
        self._check_keys(table, _KEYS, "key")
        name = table.get("name")
        if not isinstance(name, str) or not name or Path(name).name != name:
            self.problems.append(f"name is {name!r}; expected text that can name a folder")
        if not isinstance(table.get("description", ""), str):
            self.problems.append("description; expected text")
        tasks = self._tasks(table.get("tasks"), "tasks")
        seeds = self._seeds(table.get("seeds", [0]), "seeds")
        sparsities = self._sparsities(table.get("sparsities", list(SPARSITIES)))
        sizes = self._sizes(table.get("task", {}))
        models = self._models()
        ablations = self._choices("ablation", ABLATIONS, default=None)
        dtypes = self._choices("dtype", DTYPES, default="float32")
        goal = self._goal(table.get("search"), sparsities)
        entries = table.get("method")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.problems.append("no [[method]] entry; expected at least one")
            return [], []
        cells: dict[str, Cell] = {}
        searches: list[Search] = []
        for position, entry in enumerate(entries, 1):
            where = f"[[method]] number {position}"
            own_tasks = self._tasks(entry["tasks"], where) if "tasks" in entry else tasks
            own_seeds = self._seeds(entry["seeds"], where) if "seeds" in entry else seeds
            own_ablations = ablations
            if "ablation" in entry:
                own_ablations = self._choices("ablation", ABLATIONS, None, entry)
            label = entry.get("label", "")
            if not isinstance(label, str):
                self.problems.append(f"{where}: label is {label!r}; expected text")
            given, interval = self._interval(entry, where, goal)
            train = self._numbers(entry["train"], f"{where}: train") if "train" in entry else None
            for task, settings in self._settings(given, where, own_tasks):
                owns_model = self.builders[task].owns_model
                for size, model, ablation, dtype, seed in itertools.product(
                    _with_train(sizes.get(task, [Sizes()]), train),
                    [None] if owns_model else models,
                    own_ablations,
                    dtypes,
                    own_seeds,
                ):
                    bench = _bench(
                        task,
                        self.builders[task],
                        seed,
                        sizes=size,
                        model=model,
                        ablation=ablation,
                        dtype=dtype,
                    )
                    method = entry["name"]
                    version = METHODS[method].version
                    cell = Cell(method, version, settings, bench, sparsities, label)
                    if interval is None:
                        cells.setdefault(repr((method, sorted(settings.items()), bench)), cell)
                    else:
                        searches.append(Search(cell, *interval, **goal))
        return list(cells.values()), searches

    def crossings(self, cells: Sequence[Cell]) -> list[Crossing]:
        """Those of the two tasks named, if any are."""
        if "cross" not in self.table:
            return []
        names = self._tasks(self.table["cross"], "cross")
        if len(names) != 2:
            self.problems.append(f"cross is {self.table['cross']!r}; expected two tasks")
            return []
        return crossings_of(cells, *names)

    def _settings(
        self, entry: Mapping[str, Any], where: str, tasks: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every task with every combination of settings that hold for it."""
        method = entry.get("name")
        if not isinstance(method, str):
            self.problems.append(f"{where}: name is {method!r}; expected a method")
            return
        if method not in METHODS:
            self.problems.append(unknown("method", method, METHODS))
            return
        given = {key: value for key, value in entry.items() if key not in _METHOD_KEYS}
        overrides = entry.get("task", {})
        if not isinstance(overrides, dict):
            self.problems.append(f"{where}: task; expected a table [method.task.NAME]")
            return
        self._check_keys(overrides, tasks, "task")
        for task in tasks:
            override = overrides.get(task, {})
            if not isinstance(override, dict):
                self.problems.append(f"{where}: task.{task}; expected a table of settings")
                continue
            axes = {**given, **override}
            empty = [name for name, value in axes.items() if value == []]
            self.problems += [f"{where}: {name} is an empty list" for name in empty]
            for settings in grid(axes):
                try:
                    yield task, resolve(method, task, settings)
                except ValueError as error:
                    self.problems.append(str(error))

    def _check_keys(self, table: Mapping[str, Any], known: Any, kind: str) -> None:
        self.problems += [unknown(kind, key, known) for key in table if key not in known]

    def _tasks(self, value: Any, where: str) -> list[str]:
        names = self._axis(value, where, "task names")
        known = []
        for name in names:
            try:
                self.builders[name] = _builder(str(name))
                known.append(name)
            except ValueError as error:
                self.problems.append(str(error))
        return known

    def _seeds(self, value: Any, where: str) -> list[int]:
        seeds = self._axis(value, where, "seeds")
        good = [seed for seed in seeds if type(seed) is int and seed >= 0]
        if len(good) < len(seeds):
            self.problems.append(f"{where}: seeds are {seeds}; expected whole numbers from 0 up")
        return good

    def _axis(self, value: Any, where: str, what: str) -> list[Any]:
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not values:
            self.problems.append(f"{where}: no {what}; expected at least one")
        return values

    def _sparsities(self, value: Any) -> tuple[float, ...]:
        try:
            sparsities = [convert(sparsity, float) for sparsity in value]
            if not sparsities or not all(0 <= sparsity <= 1 for sparsity in sparsities):
                raise ValueError
        except (TypeError, ValueError):
            self.problems.append(f"sparsities are {value!r}; expected numbers from 0 to 1")
            return SPARSITIES
        return tuple(sorted(set(sparsities)))

    def _sizes(self, tables: Any) -> dict[str, list[Sizes]]:
        if not isinstance(tables, dict):
            self.problems.append("task; expected tables [task.NAME]")
            return {}
        own = [name for name in tables if name.startswith(PREFIX)]
        self._check_keys(tables, [*TASKS, *own], "task")
        kinds = [field.name for field in fields(Sizes)]
        sizes = {}
        for task, table in tables.items():
            if not isinstance(table, dict):
                self.problems.append(f"task.{task}; expected a table of sizes")
                continue
            self._check_keys(table, kinds, f"key in [task.{task}]")
            axes = {
                kind: self._numbers(value, f"task.{task}.{kind}")
                for kind, value in table.items()
                if kind in kinds
            }
            sizes[task] = [Sizes(**chosen) for chosen in grid(axes)]
        return sizes

    def _numbers(self, value: Any, where: str) -> list[int]:
        """Numbers of prompts."""
        numbers = self._axis(value, where, "numbers")
        good = [number for number in numbers if type(number) is int and number >= 1]
        if len(good) < len(numbers):
            self.problems.append(f"{where} is {value!r}; expected 1 or more")
        return good

    def _goal(self, table: Any, sparsities: Sequence[float]) -> dict[str, Any]:
        """What searches are for: a sparsity, and where they may end."""
        if table is None:
            return {}
        if not isinstance(table, dict):
            self.problems.append("search; expected a table [search]")
            return {}
        kinds = {"sparsity": float, "tolerance": float, "trials": int}
        self._check_keys(table, kinds, "key in [search]")
        goal = {}
        for key in kinds.keys() & table.keys():
            try:
                goal[key] = convert(table[key], kinds[key])
            except ValueError as error:
                self.problems.append(f"search.{key} is {error}")
        if goal.get("sparsity", 0.0) not in sparsities:
            self.problems.append(
                f"search.sparsity is {goal['sparsity']}; expected one of sparsities, at which "
                "rankings are cut"
            )
        if not goal.get("tolerance", 0.0) >= 0 or not goal.get("trials", 1) >= 1:
            self.problems.append("search; expected a tolerance of 0 or more and a trial or more")
        return goal

    def _interval(
        self, entry: Mapping[str, Any], where: str, goal: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], tuple[str, float, float] | None]:
        """The entry with a searched setting at the interval's lower end; setting and interval."""
        if "search" not in entry:
            return entry, None
        match entry["search"]:
            case dict(table) if len(table) == 1:
                ((name, ends),) = table.items()
            case _:
                name, ends = None, None
        match ends:
            case [int() | float() as low, int() | float() as high] if 0 < low < high:
                start = {**entry, str(name): low}
                if "sparsity" in goal:
                    return start, (str(name), float(low), float(high))
                self.problems.append(f"{where}: search; expected a [search] with a sparsity")
                return start, None
        self.problems.append(
            f"{where}: search is {entry['search']!r}; expected {{ SETTING = [low, high] }} with "
            "0 < low < high"
        )
        return entry, None

    def _choices(
        self,
        key: str,
        known: tuple[str, ...],
        default: Any,
        entry: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """One of `known`, or an axis of them; in the suite's own table if no entry is given."""
        table = self.table if entry is None else entry
        if key not in table:
            return [default]
        choices = self._axis(table[key], key, "values")
        bad = [choice for choice in choices if choice not in known]
        self.problems += [unknown(key, str(choice), known) for choice in bad]
        return choices

    def _models(self) -> list[ModelOptions]:
        """Every model with every graph option; the bundled one, if none is named."""
        options = {
            key: self._choices(key, _GRAPH[key], None) for key in _GRAPH if key in self.table
        }
        models = self._axis(self.table.get("model", BUNDLED), "model", "models")
        bad = [model for model in models if not isinstance(model, str) or not model]
        self.problems += [f"model is {model!r}; expected a hub id or a folder" for model in bad]
        return [ModelOptions(id=model, **chosen) for model in models for chosen in grid(options)]


def _with_train(sizes: Sequence[Sizes], train: Sequence[int] | None) -> Iterator[Sizes]:
    """The sizes, with other numbers of training prompts where some are given."""
    if train is None:
        return iter(sizes)
    others = dict.fromkeys(replace(size, train=None) for size in sizes)
    return (replace(size, train=number) for size in others for number in train)


def single_cell(
    method: str, task: str, *, model: str | None, seed: int, given: Mapping[str, Any]
) -> Cell:
    """One cell as a suite would resolve it. Raises ValueError as a suite would."""
    if method not in METHODS:
        raise ValueError(unknown("method", method, METHODS))
    builder = _builder(task)
    if builder.owns_model and model is not None:
        raise ValueError(f"task {task!r} has its own model; leave the model {model!r} out")
    options = None if builder.owns_model else ModelOptions(model or BUNDLED)
    bench = _bench(task, builder, seed, model=options)
    return Cell(method, METHODS[method].version, resolve(method, task, given), bench)


def _builder(name: str) -> TaskBuilder:
    """Raises ValueError for a name that stands for no task, and for a file that is not right."""
    try:
        return find_task(name)
    except KeyError:
        raise ValueError(unknown("task", name, [*TASKS, f"{PREFIX}FILE.jsonl"])) from None


def _bench(name: str, builder: TaskBuilder, seed: int, **options: Any) -> Bench:
    return Bench(name, builder.version, seed, data=builder.digest, **options)
