"""The chart of curves: a metric of all circuits across sparsity, edges or cost."""

import json
from collections.abc import Mapping, Sequence

import altair as alt

from benchmarks.report.page.controls import (
    BEND,
    COSTS,
    DECADES,
    SOFT,
    TICKS,
    Layers,
    Spec,
    dark,
    finished,
    interval,
    method_scales,
    select,
    tick_box,
)
from benchmarks.report.page.data import Datum
from benchmarks.report.page.looks import Look

PRIMARY = "primary"
_SPARSITIES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
_BENT = {"y": "value", "low": "lowest", "high": "highest"}
_REVERSED = "across == 'sparsity' || across == 'edges'"
_BELOW = (
    "across == 'sparsity' ? 'sparsity, % of edges removed' : across == 'edges' ? "
    "'edges of the circuit' : across == 'seconds' ? 'seconds of the discovery' : "
    "'forward-equivalents of the discovery'"
)


def curves_chart(
    data: Sequence[Datum], units: Mapping[str, str], looks: Sequence[Look], ticked: Sequence[str]
) -> Spec:
    """A metric of all circuits across sparsity, edges or cost; at first, methods in `ticked`."""
    boxes = [
        tick_box(
            f"m{i}", f"{look.sign} {look.label}", "#curve-methods", ticked=look.label in ticked
        )
        for i, look in enumerate(looks)
    ]
    picked = "[" + ",".join(box.name for box in boxes) + "]"
    names = json.dumps([look.label for look in looks])
    base = (
        alt.Chart(alt.NamedData("curves"))
        .transform_filter("datum.task == task && (variants || datum.best)")
        .transform_filter(f"{picked}[indexof({names}, datum.method)]")
        .transform_filter("datum.sparsity >= toNumber(from) - 1e-9")
        .transform_calculate(
            shown="metric == 'primary' ? datum.primary : metric",
            line="datum.method + ' ' + datum.variant",
            x="across == 'sparsity' ? datum.kept : max(datum[across], 1e-3)",
        )
        .transform_filter("isValid(datum[datum.shown])")
        .transform_calculate(
            value="datum[datum.shown]",
            lowest="datum[datum.shown + '_low']",
            highest="datum[datum.shown + '_high']",
            percent="format(100 * datum.sparsity, '.2f') + ' %'",
            interval=interval("lowest", "highest"),
            **{name: _bent(f"datum.{of}") for name, of in _BENT.items()},
        )
    )
    title = alt.Title(
        text=alt.ExprRef(_title(data, units)), anchor="start", frame="group", fontSize=13
    )
    chart = _layers(base, looks).add_params(*_controls(data, units), *boxes).properties(title=title)
    return finished(chart, {"curves": data}, 440)


def _controls(data: Sequence[Datum], units: Mapping[str, str]) -> list[alt.Parameter]:
    place = "#curve-controls"
    tasks = {datum["task"]: datum["task"] for datum in data}
    metrics = {name: _plain(unit) for name, unit in units.items()}
    across = {"sparsity": "sparsity", "edges": "edges", **COSTS}
    least = {str(sparsity): f"{100 * sparsity:g} %" for sparsity in _SPARSITIES[:7]}
    return [
        dark(),
        select("task", "Task", tasks, place),
        select("metric", "Metric", {PRIMARY: "primary metric of the task", **metrics}, place),
        select("across", "Across", across, place),
        select("from", "From sparsity", least, place),
        select("scale", "Scale", {"log": "small values enlarged", "linear": "linear"}, place),
        tick_box("variants", "all settings of rankings", place, ticked=False),
    ]


def _title(data: Sequence[Datum], units: Mapping[str, str]) -> str:
    """An expression: the metric's name, or that the task does not measure it."""
    measured: dict[str, list[str]] = {}
    for datum in data:
        known = measured.setdefault(datum["task"], [])
        known += [name for name in units if name in datum and name not in known]
    primary = {datum["task"]: units[datum["primary"]] for datum in data}
    return (
        f"metric == 'primary' ? {json.dumps(primary)}[task] : "
        f"indexof({json.dumps(measured)}[task], metric) < 0 ? 'This task does not measure that.' : "
        f"{json.dumps(units)}[metric]"
    )


def _layers(base: alt.Chart, looks: Sequence[Look]) -> Layers:
    colour, shape = method_scales(looks)
    encoded = base.encode(x=_x(), y=_y(), color=colour, detail="line:N")
    rankings = encoded.transform_filter("!datum.found && indexof(['seconds','passes'], across) < 0")
    circuits = encoded.transform_filter("datum.found")
    axis_title = (
        alt.Chart(alt.InlineData([{"place": 0}]))
        .transform_calculate(says=_BELOW)
        .mark_text(align="right", baseline="bottom", dx=-6, dy=-6, fontSize=12, fill=SOFT)
        .encode(x=alt.value("width"), y=alt.value("height"), text="says:N")
    )
    points = encoded.mark_point(filled=True, size=70, opacity=1)
    return alt.layer(
        rankings.mark_area(opacity=0.13).encode(y="low:Q", y2="high:Q"),
        rankings.mark_line(strokeWidth=1.6),
        circuits.mark_rule(opacity=0.7).encode(y="low:Q", y2="high:Q"),
        points.encode(shape=shape, tooltip=_tooltip()),
        axis_title,
    )


def _x() -> alt.X:
    kept = [1 - sparsity for sparsity in _SPARSITIES]
    axis = alt.Axis(
        values=alt.ExprRef(f"across == 'sparsity' ? {kept} : {DECADES}"),
        labelExpr="across == 'sparsity' ? format(100 * (1 - datum.value), '.4~g')"
        " : format(datum.value, ',~g')",
        title=None,
        labelOverlap="greedy",
        grid=True,
    )
    scale = alt.Scale(type="log", nice=False, reverse=alt.ExprRef(_REVERSED))
    return alt.X("x:Q", scale=scale, axis=axis)


def _y() -> alt.Y:
    ticks = "[" + ",".join(_bent(str(tick), always=True) for tick in TICKS) + "]"
    axis = alt.Axis(
        values=alt.ExprRef(f"scale == 'log' ? {ticks} : null"),
        labelExpr=f"format(scale == 'log' ? {BEND} * (exp(datum.value) - 1) : datum.value, '.3~g')",
        title=None,
        labelOverlap="greedy",
    )
    return alt.Y("y:Q", scale=alt.Scale(zero=False, nice=False), axis=axis)


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("variant:N", title="setting"),
        alt.Tooltip("value:Q", format=".4~g"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("of:N", title="which is"),
        alt.Tooltip("percent:N", title="sparsity"),
        alt.Tooltip("edges:Q", format=",~r"),
        alt.Tooltip("seconds:Q", format=",.3~g"),
        alt.Tooltip("passes:Q", title=COSTS["passes"], format=",.4~g"),
    ]


def _bent(value: str, *, always: bool = False) -> str:
    """Linear near 0, logarithmic beyond, on either side."""
    bent = f"({value} < 0 ? -1 : 1) * log(1 + abs({value}) / {BEND})"
    return bent if always else f"scale == 'log' ? {bent} : {value}"


def _plain(unit: str) -> str:
    return unit.partition(" (lower")[0].partition(" (higher")[0]
