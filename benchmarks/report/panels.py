"""A folder of results, read: one row per circuit, with what the report compares it by.

A *panel* is everything that was run on the same task, model and graph with the same ablation: all
its seeds. Every method names the setting that makes its circuits sparser or denser. Its other
settings that differ within a panel make *variants* of the method, and so do the labels that a suite
gives to settings: a label is shown instead of the settings it stands for.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from benchmarks.drawing.titles import task_title
from benchmarks.grid.settings import completed, settings_label, swept
from benchmarks.record import Damaged, Finished, RowRecord, Truth, Unfinished
from benchmarks.store import Store
from methods import METHODS

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


MOST_RANKINGS = 6
"""The most rankings in one panel of a figure, before only the best of each family is shown."""


class Estimate(NamedTuple):
    """A mean over prompts and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One circuit: found, or cut from a ranking (`draw` of several) on the grid or to match."""

    cell: str
    method: str
    setting: str
    variant: str
    seed: int
    is_found: bool
    is_matched: bool
    draw: int | None
    edges: int
    sparsity: float
    live_sparsity: float
    metrics: Mapping[str, Estimate]
    validation: float | None
    truth: Truth | None


@dataclass(frozen=True, eq=False)
class Panel:
    """One task on one model; `title` is what figures and tables call it."""

    task: str
    records: Sequence[Finished]
    rows: Sequence[Row]
    title: str

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.records[0].primary_metric

    @property
    def model(self) -> str:
        return self.records[0].model

    @property
    def heading(self) -> str:
        """The title with the task's name in print."""
        return self.title.replace(self.task, task_title(self.task), 1)

    @property
    def n_edges(self) -> int:
        return self.records[0].n_edges

    @property
    def n_examples(self) -> int:
        """How many prompts there were for discovery."""
        return self.records[0].n_prompts.train

    def best(self, rows: Iterable[Row], kind: Callable[[Row], str] | None = None) -> str:
        """The variant, or other kind, with the best mean on the validation prompts."""
        better = self.records[0].metrics[self.metric].better
        sign = 1 if better == "lower" else -1
        means = {
            one: sign * fmean(row.validation for row in group if row.validation is not None)
            for one, group in grouped(rows, kind or (lambda row: row.variant)).items()
        }
        return min(means, key=lambda one: means[one])

    def rankings(self) -> dict[str, list[Row]]:
        """By method, the rows on the grid of the variant best on the validation prompts."""
        single = [row for row in self.rows if not (row.is_found or row.is_matched)]
        single = [row for row in single if row.edges > 0 and row.draw is None]
        found: dict[str, list[Row]] = {}
        for method, rows in grouped(single, lambda row: row.method).items():
            best = self.best(rows)
            found[method] = [row for row in rows if row.variant == best]
        return found

    def best_rankings(self) -> dict[str, list[Row]]:
        """All rankings or, where there are many, the best of each family of methods."""
        every = self.rankings()
        if len(every) <= MOST_RANKINGS:
            return every
        rows = [row for of_method in every.values() for row in of_method]
        families = grouped(rows, lambda row: family_of(row.method))
        best = {self.best(of_family, lambda row: row.method) for of_family in families.values()}
        return {method: rows for method, rows in every.items() if method in best}


def family_of(method: str) -> str:
    """A method that is not known is a family of its own."""
    return METHODS[method].family if method in METHODS else method


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def load_panels(folder: Path) -> tuple[list[Panel], list[Unfinished | Damaged]]:
    """The finished cells, panel by panel, and what has no result or is damaged.

    Raises ValueError if there are none, or some are of another version.
    """
    store = Store(folder)
    records = store.records()
    if not records:
        raise ValueError(f"no results in {folder}; `edgewise run` makes them")
    finished = [record for record in records if isinstance(record, Finished)]
    # As the names come, but one task's dtypes always in the same order.
    finished.sort(key=lambda record: (record.definition.task, record.dtype))
    groups = list(grouped(finished, _panel_key).values())
    titles = _titles([group[0] for group in groups])
    panels = [_panel(group, store, title) for group, title in zip(groups, titles, strict=True)]
    unfinished = [record for record in records if isinstance(record, Unfinished)]
    return panels, [*unfinished, *store.damaged()]


def estimates_of(row: RowRecord) -> dict[str, Estimate]:
    """Each metric's mean and interval."""
    return {name: Estimate(mean, *row.intervals[name]) for name, mean in row.metrics.items()}


def _panel_key(record: Finished) -> str:
    """What defines the bench, with the ablation that was used, whatever the seed."""
    bench = {**record.definition.bench(), "seed": None, "ablation": record.ablation}
    return json.dumps(bench, sort_keys=True)


def _titles(firsts: Sequence[Finished]) -> list[str]:
    """Panels' titles: the task and, where several have the same, what tells these apart."""
    telling: list[Callable[[Finished], str]] = [
        lambda record: record.model,
        lambda record: f"{record.n_prompts.train:,} examples",
        lambda record: f"{record.ablation} ablation",
        lambda record: record.dtype,
    ]
    same_task = grouped(firsts, lambda record: record.definition.task)
    return [
        ", ".join(
            [
                record.definition.task,
                *(
                    tell(record)
                    for tell in telling
                    if len(set(map(tell, same_task[record.definition.task]))) > 1
                ),
            ]
        )
        for record in firsts
    ]


def _panel(records: list[Finished], store: Store, title: str) -> Panel:
    order = {method: place for place, method in enumerate(METHODS)}
    records = sorted(records, key=lambda record: _order(record, order))
    rows: list[Row] = []
    for method, of_method in grouped(records, lambda record: record.definition.method).items():
        for label, alike in grouped(of_method, lambda record: record.label).items():
            rows += _rows_of_label(method, label, alike, store)
    return Panel(records[0].definition.task, records, rows, title)


def _rows_of_label(
    method: str, label: str, alike: Sequence[Finished], store: Store
) -> Iterator[Row]:
    """Of records with the same label: what differs among them stands beside it."""
    settings = [completed(method, record.definition.settings) for record in alike]
    turned = swept(method)
    # Circuits are points along the axis; of rankings each is a curve of its own.
    telling = {"circuit": _telling(settings, turned), "scores": _telling(settings, None)}
    varying = [name for name in settings[0] if len({own.get(name) for own in settings}) > 1]
    shown = [name for name in varying if name != turned]
    if turned and (turned in varying or not label):
        shown.insert(0, turned)
    for record, own in zip(alike, settings, strict=True):
        setting, variant = (
            ", ".join(
                filter(None, [label, settings_label({name: own.get(name) for name in names})])
            )
            for names in (shown, telling[record.kind])
        )
        yield from _rows(record, store, setting, variant)


def _telling(settings: Sequence[Mapping[str, Any]], turned: str | None) -> list[str]:
    """The settings that tell variants apart, without those that follow from the ones before."""

    def variants(names: Sequence[str]) -> int:
        return len({tuple(own.get(name) for name in names) for own in settings})

    telling: list[str] = []
    for name in settings[0]:
        if name != turned and variants([*telling, name]) > max(1, variants(telling)):
            telling.append(name)
    return telling


def _order(record: Finished, methods: Mapping[str, int]) -> tuple[Any, ...]:
    """By method, then by label, by the swept setting, by the other settings and the seed."""
    method, settings = record.definition.method, record.definition.settings
    turned = settings.get(swept(method) or "", 0.0)
    place_on_axis = (0, turned) if isinstance(turned, int | float) else (1, str(turned))
    rest = [(type(value).__name__, value) for _, value in sorted(settings.items())]
    place = methods.get(method, len(methods))
    return place, method, record.label, place_on_axis, rest, record.definition.seed


def _rows(record: Finished, store: Store, setting: str, variant: str) -> list[Row]:
    """A record's own rows and its matched ones, with intervals over the prompts."""
    matched = store.matched_rows(record.name)
    for row in matched:
        if row.metrics.keys() != record.metrics.keys() or (
            row.validation.keys() != record.rows[0].validation.keys()
        ):
            raise ValueError(
                f"matched rows of {record.name} have other metrics than its record; remove "
                f"{store.matched / record.name}.json to have them derived again"
            )
    return [
        Row(
            cell=record.name,
            method=record.definition.method,
            setting=setting,
            variant=variant,
            seed=record.definition.seed,
            is_found=record.kind == "circuit",
            is_matched=position >= len(record.rows),
            draw=row.draw,
            edges=row.edges,
            sparsity=row.sparsity,
            live_sparsity=row.live_sparsity,
            metrics=estimates_of(row),
            validation=row.validation.get(record.primary_metric),
            truth=row.truth,
        )
        for position, row in enumerate((*record.rows, *matched))
    ]
