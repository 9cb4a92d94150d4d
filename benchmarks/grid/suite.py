"""A suite: a grid of cells in one TOML file, checked as a whole before anything runs.

A list is an axis of the grid, for a method's settings, `model`, `seeds` and the graph's options
alike. `[task.NAME]` gives sizes, lists too; in a [[method]] entry `model`, `seeds`, `tasks`,
`train` and `ablation` override the suite's, and `[method.task.NAME]` overrides settings on one
task. A task that owns its model ignores `model`, which is the bundled one where none is named.
`label` is what tables and figures call an entry's settings, instead of listing them.

`[search]` names a sparsity that every method is to be compared at: in a [[method]] entry
`search = { SETTING = [low, high] }` has the setting searched for. `cross` names two tasks whose
circuits are evaluated on the prompts of both.
"""

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from benchmarks.grid.cell import BUNDLED, Bench, Cell, ModelOptions
from benchmarks.grid.crossing import Crossing, crossings_of
from benchmarks.grid.overrides import Overrides, with_full_names
from benchmarks.grid.search import Search
from benchmarks.grid.settings import grid, inner_of, resolve
from benchmarks.grid.tables import MethodEntry, SuiteTable, builder_of, method_of, suite_problems
from benchmarks.names import SUITES, suite_names, unknown
from edgewise.task import Sizes
from tasks import TaskBuilder


class Comparisons(TypedDict):
    """Searches and crossings."""

    searches: tuple[Search, ...]
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True)
class Suite:
    """A name, a line that says what for, and cells and searches in the order of their runs."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    searches: tuple[Search, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    @property
    def comparisons(self) -> Comparisons:
        """What there is to do beside cells, as `benchmarks.run.runner.run` takes it."""
        return {"searches": self.searches, "crossings": self.crossings}


class SuiteError(ValueError):
    """All that is wrong with a suite, one line each."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


def load_suite(
    name_or_file: str, *, only: str | None = None, overrides: Overrides | None = None
) -> Suite:
    """A suite by name or from a file; `only` keeps one method's cells.

    `overrides` change its table before it is checked. Raises SuiteError, with every problem, before
    anything runs, and ValueError for overrides that the suite has no use for.
    """
    path = SUITES / f"{name_or_file}.toml"
    if name_or_file not in suite_names():
        path = Path(name_or_file)
        if not path.is_file():
            if path.suffix == ".toml" or len(path.parts) > 1:
                raise ValueError(f"no suite file {name_or_file!r}")
            raise ValueError(unknown("suite", name_or_file, suite_names()))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteError(path.name, [f"not UTF-8: {error.reason} at byte {error.start}"]) from None
    table = with_full_names(_parsed(text, path.name), path.parent)
    suite = suite_of(table if overrides is None else overrides.applied(table), path.name)
    if overrides is not None and overrides.models:
        works = [*suite.cells, *(search.cell for search in suite.searches)]
        if all(cell.bench.model is None for cell in works):
            names = ", ".join(overrides.models)
            raise ValueError(f"{path.name}: all tasks have their own model; leave {names} out")
    if only is None:
        return suite
    only = method_of(only)[0].name
    cells = tuple(cell for cell in suite.cells if cell.method == only)
    searches = tuple(search for search in suite.searches if search.cell.method == only)
    if not cells and not searches:
        raise ValueError(f"{path.name}: no cell of method {only!r}")
    crossings = tuple(crossing for crossing in suite.crossings if crossing.first.method == only)
    return replace(suite, cells=cells, searches=searches, crossings=crossings)


def parse_suite(text: str, source: str) -> Suite:
    """The suite that a TOML text describes. Raises SuiteError with every problem found."""
    return suite_of(_parsed(text, source), source)


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # tomllib's own, or Python's for a number of too many digits
        raise SuiteError(source, [f"not valid TOML: {error}"]) from None
    except RecursionError:
        raise SuiteError(source, ["brackets too deep in one another"]) from None


def suite_of(table: Mapping[str, Any], source: str) -> Suite:
    """The suite of a TOML file's table. Raises SuiteError with every problem found."""
    try:
        suite = SuiteTable.model_validate(table)
    except ValidationError as error:
        raise SuiteError(source, suite_problems(error, table)) from None
    return Suite(suite.name, suite.description, *_work(suite))


def _work(
    suite: SuiteTable,
) -> tuple[tuple[Cell, ...], tuple[Search, ...], tuple[Crossing, ...]]:
    """Cells, searches and crossings; equal cells are one, and equal crossings."""
    cells: dict[str, Cell] = {}
    searches: list[Search] = []
    crossings: dict[tuple[Cell, Cell], Crossing] = {}
    for entry in suite.method:
        own: list[Cell] = []
        for cell in _cells(suite, entry):
            if entry.search and suite.search:
                ((setting, (low, high)),) = entry.search.items()
                goal = suite.search.model_dump()
                searches.append(Search(cell, setting, float(low), float(high), **goal))
            else:
                key = repr((cell.method, cell.source, sorted(cell.settings.items()), cell.bench))
                own.append(cells.setdefault(key, cell))
        for pair in _crossings(suite.cross, entry, own):
            crossings[pair.first, pair.second] = pair
    return tuple(cells.values()), tuple(searches), tuple(crossings.values())


def _crossings(
    tasks: Sequence[str] | None, entry: MethodEntry, cells: Sequence[Cell]
) -> Iterator[Crossing]:
    """Those of one entry, by what it gives to both tasks."""
    if tasks:
        own = {name for task in tasks for name in entry.task.get(task, {})}
        given, train = entry.settings.keys() - own, entry.train is not None
        yield from crossings_of(cells, tasks[0], tasks[1], settings=given, train=train)


def _cells(suite: SuiteTable, entry: MethodEntry) -> Iterator[Cell]:
    """Those of one entry; what it does not say is the suite's."""
    sparsities = tuple(sorted(set(suite.sparsities)))
    method, source = method_of(entry.name)
    for task in entry.tasks or suite.tasks:
        builder = builder_of(task)
        for settings in entry.resolved(task):
            for size, model, ablation, dtype, seed in itertools.product(
                _sizes(suite.task.get(task, {}), entry.train),
                [None] if builder.owns_model else _models(suite, entry),
                entry.ablation or suite.ablation or [None],
                suite.dtype,
                entry.seeds or suite.seeds,
            ):
                options = {"sizes": size, "model": model, "ablation": ablation, "dtype": dtype}
                bench = _bench(task, builder, seed, **options)
                inner = inner_of(entry.name, task, settings)
                yield Cell(
                    method.name,
                    method.version,
                    settings,
                    bench,
                    sparsities,
                    entry.label,
                    inner,
                    source,
                )


def _models(suite: SuiteTable, entry: MethodEntry) -> list[ModelOptions]:
    """Every model with every graph option."""
    options = list(grid({"embeddings": suite.embeddings, "kv_heads": suite.kv_heads}))
    return [
        ModelOptions(id=model, **chosen)
        for model in entry.model or suite.model
        for chosen in options
    ]


def _sizes(axes: Mapping[str, Sequence[int]], train: Sequence[int] | None) -> list[Sizes]:
    """Every combination, with other numbers of training prompts where some are given."""
    sizes = [Sizes(**chosen) for chosen in grid(axes)]
    if train is None:
        return sizes
    others = dict.fromkeys(replace(size, train=None) for size in sizes)
    return [replace(size, train=number) for size in others for number in train]


def single_cell(
    method: str, task: str, *, model: str | None, seed: int, given: Mapping[str, Any]
) -> Cell:
    """One cell as a suite would resolve it. Raises ValueError as a suite would."""
    kind, source = method_of(method)
    bench = single_bench(task, model=model, seed=seed)
    settings = resolve(method, task, given)
    inner = inner_of(method, task, settings)
    return Cell(kind.name, kind.version, settings, bench, inner=inner, source=source)


def single_bench(task: str, *, model: str | None, seed: int, sizes: Sizes | None = None) -> Bench:
    """One bench as a suite would resolve it. Raises ValueError as a suite would."""
    builder = builder_of(task)
    if builder.owns_model and model is not None:
        raise ValueError(f"task {task!r} has its own model; leave the model {model!r} out")
    options = None if builder.owns_model else ModelOptions(model or BUNDLED)
    return _bench(task, builder, seed, model=options, sizes=sizes or Sizes())


def _bench(name: str, builder: TaskBuilder, seed: int, **options: Any) -> Bench:
    return Bench(name, builder.version, seed, data=builder.digest, **options)
