"""Tables and figures of timings: what `pytest --benchmark --benchmark-json FILE` wrote."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.drawing.style import method_style, save
from benchmarks.report.table import Line, aligned, write_table
from benchmarks.speed.scaling import QUANTITIES, Timing, along_axes, fit, scaling_figure, series

MEGABYTE = 2**20

_UNITS = (
    "Forward-equivalents: matrix-product operations executed over those of one plain forward pass "
    "of the same prompts."
)
_COSTS = (
    "Medians; where there is a ratio, timed in turns with what it is measured against, and in "
    "brackets the ratio's quartiles over the pairs. "
    + _UNITS
    + " Tested: the edge's removal was evaluated; edges dropped with dead components are not "
    "counted. Peak memory is the process's, model included."
)
_METHODS = (
    "Whole discoveries on small tasks. Rankings are cut to a tenth of the edges or, where the true "
    "circuit is known, to its size; of several draws the first is shown. " + _UNITS
)
_SCALING = "Costs along one axis at a time. " + _UNITS
_EXPONENTS = (
    "Exponents of the costs along each axis, fitted by least squares on logarithms, with their "
    "standard errors; they hold for the range measured."
)
_MEMORY = (
    "Peak memory of a step of Edge Pruning above what was held before it, measured in a process "
    "of its own, against model size. One store is writers × tokens × d_model numbers; the "
    "prediction counts stores and what the backward pass keeps of the readers' inputs."
)


def report_timings(file: Path) -> tuple[list[str], list[Path]]:
    """Write tables and figures beside the file; gives the main tables, and what was written.

    Raises ValueError if the file holds no timings of ours.
    """
    timings, notes = load_timings(file)
    costs, methods = cost_lines(timings), method_lines(timings)
    points, exponents = scaling_lines(timings), exponent_lines(timings)
    memory = memory_lines(timings)
    tables = {
        "costs": (costs, show_costs(costs), _COSTS),
        "methods": (methods, _shown(methods), _METHODS),
        "scaling": (points, _shown(points), _SCALING),
        "exponents": (exponents, show_exponents(exponents), _EXPONENTS),
        "memory": (memory, _shown(memory), _MEMORY),
    }
    written: list[Path] = []
    for name, (numbers, shown, caption) in tables.items():
        if numbers:
            folder = file.parent / "tables"
            written += write_table(folder, name, numbers, shown, caption, notes)
    figure = scaling_figure(timings, " ".join(notes))
    if figure is not None:
        written += [save(figure, file.parent / "figures" / f"scaling.{k}") for k in ("png", "svg")]
    main = [show_costs(costs), show_exponents(exponents)]
    return [aligned(lines, "simple") for lines in main if lines], written


def load_timings(file: Path) -> tuple[list[Timing], list[str]]:
    """The benchmarks' extra information, and sentences on what all numbers depend on."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        entries, machine = content["benchmarks"], content["machine_info"]
        timings = [{"benchmark": one["name"], **one["extra_info"]} for one in entries]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no output of --benchmark-json: {error!r}") from None
    timings = [one for one in timings if "flops" in one or "predicted_bytes" in one]
    if not timings:
        raise ValueError(f"{file} holds no timings of this suite's benchmarks")
    packages = ", ".join(f"{name} {v}" for name, v in machine.get("packages", {}).items())
    notes = [f"Measured on {machine.get('device_name', 'an unknown device')}; {packages}; float32."]
    models = dict.fromkeys(one["weights"] for one in timings if "weights" in one)
    if models:
        notes.append(f"Models: {'; '.join(models)}.")
    graphs = {one["graph"].partition("(")[2].rstrip(")") for one in timings if "graph" in one}
    notes.append(f"Graph: {'; '.join(sorted(graphs))}; numbers of edges stand with each row.")
    notes.append("Interchange ablation and seed 0, but for compiled programs their own ablation.")
    work = {method_style(one["method"]).label: one["work"] for one in timings if "work" in one}
    if work:
        done = "; ".join(f"{label}: {text}" for label, text in sorted(work.items()))
        notes.append(f"Timed along the axes, {done}.")
    if any("tested" in one and "axis" in one for one in timings):
        notes.append(
            "Costs of a search are those of the whole search; how many edges it tests depends on "
            "the weights."
        )
    return timings, notes


def cost_lines(timings: Iterable[Timing]) -> list[Line]:
    """Steps, searches and curves: what is neither on an axis nor a discovery on a task."""
    return [
        {
            "benchmark": one["benchmark"],
            "method": method_style(one["method"]).label if "method" in one else "",
            **{name: one[name] for name in ("edges", "prompts", "tokens", "seconds")},
            **{name: one.get(name) for name in ("against", "against_seconds", "ratio")},
            **{name: one.get(name) for name in ("lower_quartile", "upper_quartile", "pairs")},
            "gflop": one["flops"] / 1e9,
            "forward_equivalents": one["forward_equivalents"],
            **{name: one.get(name) for name in ("tested", "dropped", "kept", "threshold")},
            "peak_mb": one["peak_bytes"] / MEGABYTE,
        }
        for one in timings
        if "seconds" in one and not {"axis", "task"} & one.keys()
    ]


def show_costs(lines: Iterable[Line]) -> list[Line]:
    return [
        {
            "benchmark": line["benchmark"].removeprefix("test_").replace("_", " "),
            "seconds": f"{line['seconds']:.3f}",
            "against": line["against"],
            "ratio": _ratio(line),
            "pairs": line["pairs"],
            "forward-eq.": f"{line['forward_equivalents']:,.4g}",
            "per tested edge": _per_tested_edge(line),
            "peak, MB": f"{line['peak_mb']:,.0f}",
        }
        for line in lines
    ]


def _ratio(line: Line) -> str:
    if line["ratio"] is None:
        return ""
    return f"{line['ratio']:.2f} ({line['lower_quartile']:.2f} to {line['upper_quartile']:.2f})"


def _per_tested_edge(line: Line) -> str:
    return f"{line['forward_equivalents'] / line['tested']:.3f}" if line["tested"] else ""


def method_lines(timings: Iterable[Timing]) -> list[Line]:
    """Whole discoveries, with the quality of what was found."""
    return [
        {
            "task": one["task"],
            "method": method_style(one["method"]).label,
            "edges": one["edges"],
            "train prompts": one["prompts"],
            **_costs(one),
            "kept": one["kept"],
            "test prompts": one["test_prompts"],
            "metric": one["metric"],
            "value": one["quality"],
            "missing": one.get("missing"),
            "extra": one.get("extra"),
        }
        for one in timings
        if "task" in one
    ]


def scaling_lines(timings: Iterable[Timing]) -> list[Line]:
    """Every point of the scaling figure."""
    return [
        {
            "axis": axis,
            "value": one["value"],
            "method": method_style(method).label,
            **{name: one[name] for name in ("layers", "heads", "d_model", "edges", "prompts")},
            "tokens": one["tokens"],
            **_costs(one),
            "tested": one.get("tested"),
            "kept": one.get("kept"),
        }
        for axis, methods in along_axes(timings).items()
        for method, some in methods.items()
        for one in some
    ]


def exponent_lines(timings: Iterable[Timing]) -> list[Line]:
    """The fits of each axis and method; None where there are too few points."""
    lines = []
    for axis, methods in along_axes(timings).items():
        for method, some in methods.items():
            line: Line = {
                "axis": axis,
                "method": method_style(method).label,
                "from": some[0]["value"],
                "to": some[-1]["value"],
                "points": len(some),
            }
            for quantity in QUANTITIES:
                fitted = fit(*series(some, quantity))
                line[quantity] = None if fitted is None else fitted.exponent
                line[f"{quantity}_error"] = None if fitted is None else fitted.error
            lines.append(line)
    return lines


def show_exponents(lines: Iterable[Line]) -> list[Line]:
    names = {"added_bytes": "peak memory"}
    return [
        {
            **{name: line[name] for name in ("axis", "method", "from", "to", "points")},
            **{
                names.get(quantity, QUANTITIES[quantity]): ""
                if line[quantity] is None
                else f"{line[quantity]:.2f} ± {line[f'{quantity}_error']:.2f}"
                for quantity in QUANTITIES
            },
        }
        for line in lines
    ]


def memory_lines(timings: Iterable[Timing]) -> list[Line]:
    """Measured and predicted peak memory, from the smallest model up."""
    lines = [
        {
            **{name: one[name] for name in ("layers", "heads", "d_model", "edges", "writers")},
            "tokens": one["tokens"],
            "one store, MB": one["store_bytes"] / MEGABYTE,
            "measured, MB": one["added_bytes"] / MEGABYTE,
            "predicted, MB": one["predicted_bytes"] / MEGABYTE,
            "measured / predicted": one["added_bytes"] / one["predicted_bytes"],
        }
        for one in timings
        if "predicted_bytes" in one
    ]
    return sorted(lines, key=lambda line: line["one store, MB"])


def _costs(one: Mapping[str, Any]) -> Line:
    return {
        "seconds": one["seconds"],
        "forward-equivalents": one["forward_equivalents"],
        "peak, MB": one["peak_bytes"] / MEGABYTE,
        "above the start, MB": one["added_bytes"] / MEGABYTE,
    }


def _shown(lines: Sequence[Line]) -> list[Line]:
    """Numbers rounded for people."""
    return [
        {
            name: f"{value:,.4g}" if isinstance(value, float) else value
            for name, value in line.items()
        }
        for line in lines
    ]
