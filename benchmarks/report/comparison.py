"""Which method is best at one sparsity, and which others are not told apart from it.

All methods are compared on the same test prompts: those of the seeds that most of them have. A
method without these seeds is left out.
Rankings are cut at the sparsity; of a method that finds circuits, each seed's largest one counts
that keeps no more edges than that and at least `LEAST_SHARE` of them, so that none has the
advantage of more edges. A method is worse than the best if the mean over prompts of the paired
difference is above 0 in a one-sided bootstrap test, with Holm's correction over the methods.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from statistics import fmean, median
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.drawing.style import method_style
from benchmarks.report.panels import Estimate, Panel, Row, grouped
from benchmarks.store import Store

DEFAULT_SPARSITIES = (0.9, 0.95, 0.98)
LEAST_SHARE = 0.75
DRAWS, LEVEL = 10_000, 0.05
NO_CIRCUIT = f"no circuit with {100 * LEAST_SHARE:g} to 100 % of the edges"
NOT_CUT = "ranking not cut at this sparsity"
OTHER_SEEDS = "run on other seeds only"
RULE = (
    "Best in bold, with all that are not significantly worse (paired bootstrap over test prompts, "
    "95 %, Holm's correction)."
)

Values = Float[np.ndarray, " prompt"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A method at one sparsity: its primary metric, edges and costs are means over the seeds.

    `cells` are those of the circuits that count.
    """

    method: str
    is_found: bool
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
    def label(self) -> str:
        return method_style(self.method).label


@dataclass(frozen=True, eq=False)
class Comparison:
    """All methods of a panel at one sparsity, best first."""

    panel: Panel
    sparsity: float
    edges: int
    seeds: Sequence[int]
    entries: Sequence[Entry]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Other methods that were run, and why they have no entry."""

    @property
    def best(self) -> Entry:
        return self.entries[0]

    @cached_property
    def level(self) -> Sequence[Entry]:
        """The best and all that are not significantly worse."""
        return [entry for entry in self.entries if entry.is_level]


def compare(panel: Panel, store: Store, sparsity: float) -> Comparison | None:
    """None where fewer than two methods have a circuit of that sparsity, on the same seeds."""
    edges = round(panel.n_edges * (1 - sparsity))
    found = _candidates(panel, edges)
    seeds = _common_seeds(found)
    candidates = [rows for rows in found if seeds <= {row.seed for row in rows}]
    if len(candidates) < 2:
        return None
    entries: list[Entry] = []
    for rows in candidates:
        of_seeds = [row for row in rows if row.seed in seeds]
        entries.append(_entry(panel, store, of_seeds, seeds))
    if len({len(entry.values) for entry in entries}) > 1:
        return None
    sign = 1 if panel.records[0].metrics[panel.metric].better == "lower" else -1
    entries.sort(key=lambda entry: sign * entry.value.mean)
    values = sign * np.stack([entry.values for entry in entries])
    left_out = _left_out(panel, found, {entry.method for entry in entries})
    return Comparison(panel, sparsity, edges, sorted(seeds), _judged(entries, values), left_out)


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: each is at most `level` where its hypothesis is rejected."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def p_values_of_differences(differences: Float[np.ndarray, "method prompt"]) -> list[float]:
    """One-sided bootstrap p-values that each mean is not above 0."""
    means = _weights(differences.shape[1]) @ differences.T
    return ((1 + (means <= 0).sum(0)) / (1 + DRAWS)).tolist()


def _judged(entries: Sequence[Entry], values: Float[np.ndarray, "method prompt"]) -> list[Entry]:
    best, *others = entries
    corrected = holm(p_values_of_differences(values[1:] - values[0]))
    changes: list[dict[str, Any]] = [{"is_best": True, "is_level": True}]
    changes += [{"p": p, "is_level": p > LEVEL} for p in corrected]
    return [
        Entry(**{**vars(entry), **change})
        for entry, change in zip([best, *others], changes, strict=True)
    ]


def _candidates(panel: Panel, edges: int) -> list[list[Row]]:
    """Per method and kind, the rows that count: of a ranking, the variant best on validation."""
    found: list[list[Row]] = []
    kept = [row for row in panel.rows if row.edges > 0]
    for (_, is_found), rows in grouped(kept, lambda row: (row.method, row.is_found)).items():
        if is_found:
            fitting = [row for row in rows if LEAST_SHARE * edges <= row.edges <= edges]
            by_seed = grouped(fitting, lambda row: row.seed).values()
            chosen = [max(of_seed, key=lambda row: row.edges) for of_seed in by_seed]
        else:
            chosen = [row for row in rows if row.edges == edges and not row.is_matched]
            if chosen and chosen[0].draw is None:
                best = panel.best(chosen)
                chosen = [row for row in chosen if row.variant == best]
        if chosen:
            found.append(chosen)
    return found


def _left_out(
    panel: Panel, found: Sequence[Sequence[Row]], compared: Collection[str]
) -> dict[str, str]:
    """Why methods that were run are not compared."""
    others_seeds = {rows[0].method for rows in found} - set(compared)
    is_found = {row.method: row.is_found for row in panel.rows if row.method not in compared}
    return {
        method: OTHER_SEEDS if method in others_seeds else (NO_CIRCUIT if whole else NOT_CUT)
        for method, whole in is_found.items()
    }


def _common_seeds(candidates: Sequence[Sequence[Row]]) -> set[int]:
    """The seeds on which the most methods can be compared, of equal ones with the lowest seed."""
    having = {
        seed: {place for place, rows in enumerate(candidates) if any(r.seed == seed for r in rows)}
        for seed in sorted({row.seed for rows in candidates for row in rows})
    }
    most = max(having.values(), key=len, default=set())
    return {seed for seed, methods in having.items() if methods >= most}


def _entry(panel: Panel, store: Store, rows: Sequence[Row], seeds: set[int]) -> Entry:
    records = {record.name: record for record in panel.records}
    by_seed = grouped(sorted(rows, key=lambda row: row.seed), lambda row: row.seed)
    assert by_seed.keys() == seeds
    values = np.concatenate(
        [np.mean([_prompts(store, row, records) for row in alike], 0) for alike in by_seed.values()]
    )
    estimates = [row.metrics[panel.metric] for row in rows]
    variants = dict.fromkeys(row.setting if row.is_found else row.variant for row in rows)
    cells = list(dict.fromkeys(row.cell for row in rows))
    return Entry(
        method=rows[0].method,
        is_found=rows[0].is_found,
        variant="; ".join(filter(None, variants)),
        edges=fmean(row.edges for row in rows),
        value=estimates[0] if len(estimates) == 1 else _pooled(estimates, values),
        seconds=median(records[cell].seconds for cell in cells),
        forward_equivalents=median(records[cell].forward_equivalents for cell in cells),
        values=values,
        cells=cells,
    )


def _pooled(estimates: Sequence[Estimate], values: Values) -> Estimate:
    """The mean over seeds or draws, and its interval over all prompts."""
    low, high = np.percentile(_weights(len(values)) @ values, (2.5, 97.5)).tolist()
    return Estimate(fmean(value.mean for value in estimates), low, high)


@cache
def _weights(n_prompts: int) -> Float[np.ndarray, "draw prompt"]:
    """How much each prompt counts in each draw of the bootstrap; the same for all methods."""
    picked = np.random.default_rng(0).integers(n_prompts, size=(DRAWS, n_prompts))
    offsets = np.arange(DRAWS)[:, None] * n_prompts
    counts = np.bincount((picked + offsets).ravel(), minlength=DRAWS * n_prompts)
    return counts.reshape(DRAWS, n_prompts) / n_prompts


def _prompts(store: Store, row: Row, records: Any) -> Values:
    record = records[row.cell]
    place = next(
        place
        for place, one in enumerate(record.rows)
        if (one.edges, one.draw) == (row.edges, row.draw)
    )
    return store.prompts(row.cell)[place].double().numpy()
