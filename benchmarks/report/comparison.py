"""Which method is best at one sparsity, and which others are not told apart from it.

All methods are compared on the same test prompts: those of the seeds that most of them have. A
method without these seeds is left out.
Rankings are cut at the sparsity; of a method that finds
circuits, each seed's largest one counts that keeps no more edges than that and at least
`LEAST_SHARE` of them, so that none has the advantage of more edges. A method that has both circuits
and rankings is two contenders. A contender is worse than the best if the mean over prompts of the
paired difference is above 0 in a one-sided bootstrap test, with Holm's correction over the
contenders. A prompt that several seeds have is drawn as one.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from benchmarks.drawing.style import method_style
from benchmarks.record import Finished
from benchmarks.report.panels import Estimate, Panel, Row, grouped
from benchmarks.report.resampling import Prompts, Values, holm
from benchmarks.store import Store

DEFAULT_SPARSITIES = (0.9, 0.95, 0.98)
LEAST_SHARE = 0.75
LEVEL = 0.05
NO_CIRCUIT = f"no circuit with {100 * LEAST_SHARE:g} to 100 % of the edges"
NOT_CUT = "ranking not cut at this sparsity"
FEWER_EDGES = "ranking's circuit has fewer edges than this sparsity leaves"
OTHER_SEEDS = "run on other seeds only"
RULE = (
    "Best in bold, with all that are not significantly worse (paired bootstrap over test prompts, "
    "95 %, Holm's correction)."
)


class Contender(NamedTuple):
    """A method, with the circuits that it finds whole or with those cut from its rankings."""

    method: str
    is_found: bool


@dataclass(frozen=True, eq=False)
class Entry:
    """A contender at one sparsity.

    Its primary metric and its edges are means over the seeds, its costs medians over `cells`, those
    of the circuits that count. `values` has the primary metric on each distinct test prompt.
    """

    contender: Contender
    variant: str
    edges: float
    value: Estimate
    seconds: float
    forward_equivalents: float
    values: Values
    cells: Sequence[str]
    is_best: bool = False
    is_level: bool = False
    """Not significantly worse than the best."""
    p: float = 1.0
    """Of being no worse than the best, corrected."""

    @property
    def method(self) -> str:
        return self.contender.method

    @property
    def is_found(self) -> bool:
        return self.contender.is_found

    @property
    def label(self) -> str:
        """The method's, which its circuits and its rankings have in common."""
        return method_style(self.method).label


@dataclass(frozen=True, eq=False)
class Comparison:
    """All contenders of a panel at one sparsity, best first."""

    panel: Panel
    sparsity: float
    edges: int
    seeds: Sequence[int]
    entries: Sequence[Entry]
    left_out: Mapping[Contender, str] = field(default_factory=dict)
    """Others that were run, and why they have no entry."""

    @property
    def best(self) -> Entry:
        return self.entries[0]

    @cached_property
    def level(self) -> Sequence[Entry]:
        """The best and all that are not significantly worse."""
        return [entry for entry in self.entries if entry.is_level]


def labels_of(contenders: Iterable[Contender]) -> dict[Contender, str]:
    """A different name for each contender, for where all are shown together."""
    every = list(dict.fromkeys(contenders))
    finders = {method for method, is_found in every if is_found}
    return {
        one: method_style(one.method).label
        + ("'s ranking" if one.method in finders and not one.is_found else "")
        for one in every
    }


def compare(panel: Panel, store: Store, sparsity: float) -> Comparison | None:
    """None where fewer than two methods have a circuit of that sparsity on the same prompts."""
    edges = panel.edges_at(sparsity)
    found = _candidates(panel, edges)
    common = _common_seeds(found)
    candidates = {one: rows for one, rows in found.items() if common <= _seeds(rows)}
    if len({one.method for one in candidates}) < 2:
        return None
    cells = {row.cell for rows in candidates.values() for row in rows if row.seed in common}
    records = [record for record in panel.records if record.name in cells]
    by_seed = _prompts_by_seed(records, store)
    if by_seed is None:
        return None
    seeds, prompts = list(by_seed), Prompts([one for own in by_seed.values() for one in own])
    entries = [
        _entry(one, [row for row in rows if row.seed in seeds], panel, store, prompts)
        for one, rows in candidates.items()
    ]
    sign = 1 if panel.records[0].metrics[panel.metric].better == "lower" else -1
    entries.sort(key=lambda entry: sign * entry.value.mean)
    differences = sign * np.stack([entry.values - entries[0].values for entry in entries[1:]])
    judged = _judged(entries, prompts.p_values(differences))
    left_out = _left_out(panel, edges, found, candidates)
    return Comparison(panel, sparsity, edges, seeds, judged, left_out)


def nearest_measured(panel: Panel, sparsity: float) -> float:
    """The nearest sparsity to which the panel's rankings were cut.

    Without rankings, the given sparsity: circuits found whole have sparsities of their own.
    """
    cuts = [row.edges for row in panel.rows if not (row.is_found or row.is_matched)]
    edges = panel.n_edges * (1 - sparsity)
    sizes = sorted({size for size in cuts if 0 < size < panel.n_edges})
    if not sizes or round(edges) in cuts:
        return sparsity
    return _shortest(min(sizes, key=lambda size: abs(size - edges)), panel.n_edges)


def _shortest(edges: int, n_edges: int) -> float:
    """The sparsity with the fewest digits that leaves so many edges."""
    exact = 1 - edges / n_edges
    shorter = (round(exact, digits) for digits in range(1, 16))
    return next((at for at in shorter if round(n_edges * (1 - at)) == edges), exact)


def comparisons(
    panels: Iterable[Panel], store: Store, sparsities: Sequence[float] = DEFAULT_SPARSITIES
) -> list[Comparison]:
    """Every panel at every one of these sparsities at which methods can be compared.

    Compiled programs are left out: their true circuits say more than any metric does.
    """
    open_ended = [panel for panel in panels if not panel.records[0].true_circuits]
    pairs = [(panel, sparsity) for panel in open_ended for sparsity in sparsities]
    found = [compare(panel, store, sparsity) for panel, sparsity in pairs]
    return [comparison for comparison in found if comparison is not None]


def _judged(entries: Sequence[Entry], p_values: Sequence[float]) -> list[Entry]:
    """`p_values` are those of all but the first, the best."""
    best, *others = entries
    return [
        replace(best, is_best=True, is_level=True),
        *(
            replace(entry, p=p, is_level=p > LEVEL)
            for entry, p in zip(others, holm(p_values), strict=True)
        ),
    ]


def _contender(row: Row) -> Contender:
    return Contender(row.method, row.is_found)


def _seeds(rows: Iterable[Row]) -> set[int]:
    return {row.seed for row in rows}


def _candidates(panel: Panel, edges: int) -> dict[Contender, list[Row]]:
    """The rows that count: of a ranking, those of the variant best on validation."""
    found: dict[Contender, list[Row]] = {}
    kept = [row for row in panel.rows if row.edges > 0]
    for contender, rows in grouped(kept, _contender).items():
        if contender.is_found:
            fitting = [row for row in rows if LEAST_SHARE * edges <= row.edges <= edges]
            by_seed = grouped(fitting, lambda row: row.seed).values()
            chosen = [max(of_seed, key=lambda row: row.edges) for of_seed in by_seed]
        else:
            chosen = [row for row in rows if row.edges == edges and not row.is_matched]
            if chosen and chosen[0].draw is None:
                best = panel.best(chosen)
                chosen = [row for row in chosen if row.variant == best]
        if chosen:
            found[contender] = chosen
    return found


def _common_seeds(candidates: Mapping[Contender, Sequence[Row]]) -> set[int]:
    """The seeds that most methods share. Ties go to more contenders, then to the lowest seed."""
    having = {
        seed: {one for one, rows in candidates.items() if seed in _seeds(rows)}
        for seed in sorted({row.seed for rows in candidates.values() for row in rows})
    }
    most = max(
        having.values(), key=lambda own: (len({c.method for c in own}), len(own)), default=set()
    )
    return {seed for seed, own in having.items() if own >= most}


def _left_out(
    panel: Panel,
    edges: int,
    found: Collection[Contender],
    compared: Collection[Contender],
) -> dict[Contender, str]:
    """Why others that were run are not compared."""
    scored = [record for record in panel.records if record.kind == "scores"]
    cut = {
        record.definition.method
        for record in scored
        if edges in map(panel.edges_at, record.definition.sparsities)
    }

    def reason(one: Contender) -> str:
        if one in found:
            return OTHER_SEEDS
        if one.is_found:
            return NO_CIRCUIT
        return FEWER_EDGES if one.method in cut else NOT_CUT

    return {one: reason(one) for one in map(_contender, panel.rows) if one not in compared}


def _prompts_by_seed(
    records: Iterable[Finished], store: Store
) -> dict[int, Sequence[Hashable]] | None:
    """The seeds that count, with their test prompts. None if two records of a seed differ in them.

    The package's tasks draw new prompts for each seed; a user's own task may not. For a user's
    task, only seeds with stored hashes count, or the first seed if there are none.
    """
    known: dict[int, Sequence[Hashable]] = {}
    unknown: dict[int, Sequence[Hashable]] = {}
    is_own = False
    for seed, of_seed in grouped(records, lambda record: record.definition.seed).items():
        hashes = {ids for record in of_seed if (ids := store.prompt_ids(record.name)) is not None}
        if len(hashes) > 1 or len({record.n_prompts.test for record in of_seed}) > 1:
            return None
        if hashes:
            known[seed] = hashes.pop()
        else:
            unknown[seed] = [(seed, place) for place in range(of_seed[0].n_prompts.test)]
        is_own = of_seed[0].definition.data is not None
    if is_own and unknown:
        return known or {min(unknown): unknown[min(unknown)]}
    return dict(sorted({**known, **unknown}.items()))


def _entry(
    contender: Contender, rows: Sequence[Row], panel: Panel, store: Store, prompts: Prompts
) -> Entry:
    records = {record.name: record for record in panel.records}
    by_seed = grouped(sorted(rows, key=lambda row: row.seed), lambda row: row.seed).values()
    of_seeds = [np.mean([_values(store, row, records) for row in alike], 0) for alike in by_seed]
    values = prompts.averaged(np.concatenate(of_seeds))
    estimates = [row.metrics[panel.metric] for row in rows]
    mean = fmean(estimate.mean for estimate in estimates)
    variants = dict.fromkeys(row.setting if row.is_found else row.variant for row in rows)
    cells = list(dict.fromkeys(row.cell for row in rows))
    return Entry(
        contender=contender,
        variant="; ".join(filter(None, variants)),
        edges=fmean(row.edges for row in rows),
        value=estimates[0] if len(rows) == 1 else Estimate(mean, *prompts.interval(values)),
        seconds=median(records[cell].seconds for cell in cells),
        forward_equivalents=median(records[cell].forward_equivalents for cell in cells),
        values=values,
        cells=cells,
    )


def _values(store: Store, row: Row, records: Mapping[str, Finished]) -> Values:
    """The primary metric on every test prompt of the row's seed."""
    places = [(one.edges, one.draw) for one in records[row.cell].rows]
    return store.prompts(row.cell)[places.index((row.edges, row.draw))].double().numpy()
