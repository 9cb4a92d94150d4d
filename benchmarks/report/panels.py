"""A folder of results, read: one row per circuit, with what the report compares it by.

A *panel* is everything that was run on the same task, model and graph with the same ablation: all
its seeds. Every method names the setting that makes its circuits sparser or denser. Its other
settings that differ within a panel make *variants* of the method, and so do the labels that a suite
gives to settings: a label is shown instead of the settings it stands for.

Of a method that was run in several versions, only the newest counts.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from benchmarks.grid.settings import swept
from benchmarks.record import Damaged, Finished, RowRecord, Truth, Unfinished
from benchmarks.report.titles import heading_of, titles_of
from benchmarks.report.variants import discovery_key, newest, settings_and_variants
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
    """One task on one model; `title` is what figures and tables call it; no other panel has it.

    `superseded` are the records of earlier versions of methods: none of their circuits is in
    `rows`. Of a ranking that is stored for several grids, a size has one row.
    """

    task: str
    records: Sequence[Finished]
    rows: Sequence[Row]
    title: str
    superseded: Sequence[Finished] = ()

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
        return heading_of(self.title, self.task)

    @cached_property
    def discoveries(self) -> Sequence[Finished]:
        """One record for each discovery: of those of several grids the first."""
        return [same[0] for same in grouped(self.records, discovery_key).values()]

    @property
    def n_edges(self) -> int:
        return self.records[0].n_edges

    def edges_at(self, sparsity: float) -> int:
        """How many edges are left at a sparsity."""
        return round(self.n_edges * (1 - sparsity))

    @property
    def n_examples(self) -> int:
        """How many prompts there were for discovery."""
        return self.records[0].n_prompts.train

    def best(self, rows: Iterable[Row], kind: Callable[[Row], str] | None = None) -> str:
        """The variant, or other kind, with the best mean on the validation prompts.

        The means are over what `comparable` gives.
        """
        better = self.records[0].metrics[self.metric].better
        sign = 1 if better == "lower" else -1
        values = self.comparable(rows, kind)
        return min(values, key=lambda one: sign * fmean(values[one]))

    def comparable(
        self, rows: Iterable[Row], kind: Callable[[Row], str] | None = None
    ) -> dict[str, list[float]]:
        """By variant, or other kind, the values on the validation prompts that can be compared.

        Only seeds and sizes that all variants have are used. Empty and full circuits are left out,
        because they are the same for every ranking. If no seed and size is common to all, those
        that most variants have are used, and the other variants are left out; ties go to those that
        most methods of the panel have.
        """
        rows = list(rows)
        cut = [row for row in rows if 0 < row.edges < self.n_edges] or rows
        values: dict[str, dict[tuple[int, int], float]] = {}
        having: dict[tuple[int, int], set[str]] = {}
        for one, group in grouped(cut, kind or (lambda row: row.variant)).items():
            values[one] = {
                (row.seed, row.edges): row.validation for row in group if row.validation is not None
            }
            for place in values[one]:
                having.setdefault(place, set()).add(one)
        most = max(
            having,
            key=lambda place: (
                len(having[place]),
                len(self._methods_at[place]),
                sum(having[place] <= others for others in having.values()),
            ),
        )
        shared = [place for place, kinds in having.items() if having[most] <= kinds]
        return {
            one: [of_kind[place] for place in shared]
            for one, of_kind in values.items()
            if one in having[most]
        }

    @cached_property
    def _methods_at(self) -> Mapping[tuple[int, int], set[str]]:
        """By seed and number of edges, the methods that have such a circuit."""
        places = grouped(self.rows, lambda row: (row.seed, row.edges))
        return {place: {row.method for row in rows} for place, rows in places.items()}

    def rankings(self) -> dict[str, list[Row]]:
        """By method, the rows on the grid of the variant best on the validation prompts."""
        found: dict[str, list[Row]] = {}
        for method, rows in self.ranked().items():
            best = self.best(rows)
            found[method] = [row for row in rows if row.variant == best]
        return found

    def ranked(self) -> dict[str, list[Row]]:
        """By method, the rows on the grid of all variants of its rankings, but for draws."""
        single = [row for row in self.rows if not (row.is_found or row.is_matched)]
        single = [row for row in single if row.edges > 0 and row.draw is None]
        return grouped(single, lambda row: row.method)

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
    groups = grouped(finished, _panel_key)
    titles = titles_of({key: group[0] for key, group in groups.items()})
    panels = [
        _panel(group, store, title) for group, title in zip(groups.values(), titles, strict=True)
    ]
    unfinished = [record for record in records if isinstance(record, Unfinished)]
    return panels, [*unfinished, *store.damaged()]


def estimates_of(row: RowRecord) -> dict[str, Estimate]:
    """Each metric's mean and interval."""
    return {name: Estimate(mean, *row.intervals[name]) for name, mean in row.metrics.items()}


def _panel_key(record: Finished) -> str:
    """What defines the bench, with the ablation that was used, whatever the seed."""
    bench = {**record.definition.bench(), "seed": None, "ablation": record.ablation}
    return json.dumps(bench, sort_keys=True)


def _panel(records: list[Finished], store: Store, title: str) -> Panel:
    order = {method: place for place, method in enumerate(METHODS)}
    kept, superseded = newest(sorted(records, key=lambda record: _order(record, order)))
    rows: list[Row] = []
    for of_method in grouped(kept, lambda record: record.definition.method).values():
        found = grouped(of_method, discovery_key).values()
        for label, alike in grouped(found, _label_of).items():
            names = settings_and_variants([same[0] for same in alike], label)
            for same, (setting, variant) in zip(alike, names, strict=True):
                rows += _rows(same, store, setting, variant)
    return Panel(kept[0].definition.task, kept, rows, title, superseded)


def _label_of(same: Sequence[Finished]) -> str:
    """The label of a discovery, if one of its records has one."""
    return next((record.label for record in same if record.label), "")


def _order(record: Finished, methods: Mapping[str, int]) -> tuple[Any, ...]:
    """By method, then by label, by the swept setting, by the other settings and the seed."""
    method, settings = record.definition.method, record.definition.settings
    turned = settings.get(swept(method) or "", 0.0)
    place_on_axis = (0, turned) if isinstance(turned, int | float) else (1, str(turned))
    rest = [(type(value).__name__, value) for _, value in sorted(settings.items())]
    place = methods.get(method, len(methods))
    return place, method, record.label, place_on_axis, rest, record.definition.seed


def _rows(same: Sequence[Finished], store: Store, setting: str, variant: str) -> list[Row]:
    """One discovery's rows and then its matched ones, with intervals over the prompts.

    Of several records, each of its own grid, a circuit of a size counts once.
    """
    if same[0].kind == "circuit":
        same = same[:1]
    found = [(record, row, False) for record in same for row in record.rows]
    found += [(record, row, True) for record in same for row in _matched(record, store)]
    once: dict[tuple[int, int | None], tuple[Finished, RowRecord, bool]] = {}
    for one in found:
        once.setdefault((one[1].edges, one[1].draw), one)
    return [
        Row(
            cell=record.name,
            method=record.definition.method,
            setting=setting,
            variant=variant,
            seed=record.definition.seed,
            is_found=record.kind == "circuit",
            is_matched=is_matched,
            draw=row.draw,
            edges=row.edges,
            sparsity=row.sparsity,
            live_sparsity=row.live_sparsity,
            metrics=estimates_of(row),
            validation=row.validation.get(record.primary_metric),
            truth=row.truth,
        )
        for record, row, is_matched in once.values()
    ]


def _matched(record: Finished, store: Store) -> list[RowRecord]:
    """Raises ValueError for rows of other metrics than the record's."""
    matched = store.matched_rows(record.name)
    for row in matched:
        if row.metrics.keys() != record.metrics.keys() or (
            row.validation.keys() != record.rows[0].validation.keys()
        ):
            raise ValueError(
                f"matched rows of {record.name} have other metrics than its record; remove "
                f"{store.matched / record.name}.json to have them derived again"
            )
    return matched
