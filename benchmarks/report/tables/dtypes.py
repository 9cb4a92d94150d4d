"""How far results in other dtypes agree with those in float32, all else being the same."""

import json
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.drawing.style import method_style
from benchmarks.record import Finished
from benchmarks.report.panels import grouped
from benchmarks.report.repeats import overlap
from benchmarks.report.results import Results
from benchmarks.report.table import Line, Table
from benchmarks.store import Discovery, Store, draws_of
from edgewise import Circuit

_CAPTION = (
    "The same cells in another dtype and in float32. `overlap`: edges in both circuits over edges "
    "in either; of a ranking, the mean over the numbers of edges that it was cut to, as are the "
    "means of the metric over the test prompts. `rank correlation`: Spearman's, over all edges."
)
REFERENCE = "float32"


def dtypes(results: Results) -> list[Line]:
    """One line per cell that was run in float32 as well, on weights that are surely the same."""
    settings = {row.cell: row.setting for panel in results.panels for row in panel.rows}
    unclear = {record.name for record in not_compared(results)}
    lines: list[Line] = []
    for reference, other in _pairs(results):
        if other.name in unclear:
            continue
        metric = other.primary_metric
        lines.append(
            {
                "task": other.definition.task,
                "model": other.model,
                "method": method_style(other.definition.method).label,
                "setting": settings[other.name],
                "seed": other.definition.seed,
                "dtype": other.dtype,
                **_agreement(results.store, reference, other),
                "metric": metric,
                "mean": _mean(other, metric),
                "mean in float32": _mean(reference, metric),
            }
        )
    return lines


def not_compared(results: Results) -> list[Finished]:
    """The cells that have no line because models of different weights have the same name.

    The hash of a model's weights differs from dtype to dtype, so it cannot say which are the same.
    """
    records = [record for panel in results.panels for record in panel.records]
    weights = {
        model: {record.definition.weights for record in alike}
        for model, alike in grouped(records, _model_in_dtype).items()
    }
    return [
        pair[1]
        for pair in _pairs(results)
        if any(len(weights[_model_in_dtype(record)]) > 1 for record in pair)
    ]


def _model_in_dtype(record: Finished) -> tuple[str, str]:
    return record.model, record.definition.dtype


def _pairs(results: Results) -> Iterator[tuple[Finished, Finished]]:
    """Every cell in another dtype, after the same in float32."""
    with_rows = {row.cell for panel in results.panels for row in panel.rows}
    records = [
        record for panel in results.panels for record in panel.records if record.name in with_rows
    ]
    for group in grouped(records, _all_but_dtype).values():
        reference = next((record for record in group if record.dtype == REFERENCE), None)
        if reference is not None:
            yield from ((reference, other) for other in group if other.dtype != REFERENCE)


def _show(lines: Sequence[Line]) -> list[Line]:
    """Numbers of edges of single circuits, and as many digits as a difference can be seen by."""
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "seed", "dtype")},
            **{name: line[name] for name in ("circuits", "edges", "edges in float32")},
            "overlap": f"{line['overlap']:.3f}",
            "rank correlation": _digits(line["rank correlation"]),
            "metric": line["metric"],
            "mean": _digits(line["mean"]),
            "mean in float32": _digits(line["mean in float32"]),
        }
        for line in lines
    ]


def _all_but_dtype(record: Finished) -> str:
    """Weights are told by the model's name: their hash differs from dtype to dtype."""
    definition = {**record.definition.as_json(), "dtype": None, "weights": None}
    return json.dumps([record.model, record.ablation, definition], sort_keys=True)


def _agreement(store: Store, reference: Finished, other: Finished) -> Line:
    """Of a circuit, the edges in both; of rankings, the same cut by cut, and Spearman's ρ."""
    found = [store.discovery(record.name) for record in (reference, other)]
    masks = map(_masks, (reference, other), found)
    pairs = list(zip(*masks, strict=True))
    is_circuit = other.kind == "circuit"
    return {
        "circuits": len(pairs),
        "edges": other.rows[0].edges if is_circuit else None,
        "edges in float32": reference.rows[0].edges if is_circuit else None,
        "overlap": fmean(overlap(*pair) for pair in pairs),
        "rank correlation": None if is_circuit else _rank_correlation(*found),
    }


def _masks(record: Finished, found: Discovery) -> list[Tensor]:
    """The circuits of a record's rows."""
    if isinstance(found, Circuit):
        return [found.mask]
    draws = draws_of(found)
    return [draws[row.draw or 0].circuit(row.edges).mask for row in record.rows]


def _rank_correlation(*found: Discovery) -> float:
    """The mean over draws, if there are several."""
    correlations: list[float] = []
    for first, second in zip(*map(draws_of, found), strict=True):
        legal = first.graph.legal
        result: Any = spearmanr(first.values[legal], second.values[legal])
        correlations.append(result.statistic)
    return fmean(correlations)


def _mean(record: Finished, metric: str) -> float:
    return fmean(row.metrics[metric] for row in record.rows)


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


TABLE = Table("dtypes", _CAPTION, dtypes, _show, _show)
