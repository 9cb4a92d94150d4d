"""The page's charts, in Vega-Lite: their controls are parameters of the charts themselves.

Every chart has the parameter `dark`, which the page sets, and is as wide as what holds it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from benchmarks.report.page.data import Datum
from benchmarks.report.page.looks import Look

Spec = dict[str, Any]

PRIMARY = "primary"
BEND = 0.05
"""Errors are linear below about this and logarithmic above."""
_TICKS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
_SPARSITIES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
_DECADES = [step * 10.0**power for power in range(-3, 8) for step in (1, 2, 5)]
_SECONDS, _PASSES = "seconds", "forward-equivalents"

SOFT = alt.ExprRef("dark ? '#9aa4b2' : '#5b6470'")


def dark() -> alt.Parameter:
    return alt.param(name="dark", value=False)


def select(name: str, says: str, options: Mapping[str, str], place: str) -> alt.Parameter:
    """A drop-down menu of values and what they are called."""
    values = list(options)
    bind = alt.binding_select(
        options=values, labels=list(options.values()), name=says, element=place
    )
    return alt.param(name=name, value=values[0], bind=bind)


def tick_box(name: str, says: str, place: str, *, ticked: bool) -> alt.Parameter:
    bind = alt.binding_checkbox(name=says, element=place)
    return alt.param(name=name, value=ticked, bind=bind)


def slider(
    name: str, says: str, place: str, span: tuple[float, float, float], value: float
) -> alt.Parameter:
    """`span`: least, greatest, step."""
    least, most, step = span
    bind = alt.binding_range(min=least, max=most, step=step, name=says, element=place)
    return alt.param(name=name, value=value, bind=bind)


def search_box(name: str, says: str, place: str) -> alt.Parameter:
    bind = alt.BindInput(
        input="search", name=says, element=place, placeholder="e.g. a3.h5, m2, tok"
    )
    return alt.param(name=name, value="", bind=bind)


def method_scales(looks: Sequence[Look]) -> tuple[alt.Color, alt.Shape]:
    """The methods' colours, on either ground, and shapes."""
    names = [look.label for look in looks]
    colours = [alt.ExprRef(f"dark ? '{look.dark}' : '{look.light}'") for look in looks]
    shapes = [look.shape for look in looks]
    return (
        alt.Color("method:N", scale=alt.Scale(domain=names, range=colours), legend=None),
        alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes), legend=None),
    )


def finished(chart: alt.LayerChart, datasets: Mapping[str, Sequence[Datum]], height: int) -> Spec:
    """The specification, as wide as its place on the page; data are found by name."""
    spec = chart.properties(width="container", height=height).to_dict()
    spec["datasets"] = {**spec.get("datasets", {}), **datasets}
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["background"] = "transparent"
    return spec


def curves_chart(
    data: Sequence[Datum],
    units: Mapping[str, str],
    looks: Sequence[Look],
    ticked: Sequence[str],
) -> Spec:
    """A metric of all circuits against sparsity, edges or cost; the methods of `ticked` at first."""
    tasks = list(dict.fromkeys(datum["task"] for datum in data))
    place = "#curve-controls"
    metrics = {
        PRIMARY: "primary metric of the task",
        **{name: _plain(u) for name, u in units.items()},
    }
    across = {"sparsity": "sparsity", "edges": "edges", "seconds": _SECONDS, "passes": _PASSES}
    boxes = [
        tick_box(
            f"m{i}", f"{look.sign} {look.label}", "#curve-methods", ticked=look.label in ticked
        )
        for i, look in enumerate(looks)
    ]
    controls = [
        dark(),
        select("task", "Task", {task: task for task in tasks}, place),
        select("metric", "Metric", metrics, place),
        select("across", "Across", across, place),
        select("from", "From sparsity", {str(s): f"{100 * s:g} %" for s in _SPARSITIES[:7]}, place),
        select("scale", "Scale", {"log": "small values enlarged", "linear": "linear"}, place),
        tick_box("variants", "all settings of rankings", place, ticked=False),
        *boxes,
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
            interval="'[' + format(datum.lowest, '.3~g') + ', ' + format(datum.highest, '.3~g') + ']'",
            **{name: _bent(f"datum.{of}") for name, of in _BENT.items()},
        )
    )
    return finished(_curve_layers(base, looks, controls, tasks, data, units), {"curves": data}, 440)


_BENT = {"y": "value", "low": "lowest", "high": "highest"}


def _curve_layers(
    base: alt.Chart,
    looks: Sequence[Look],
    controls: Sequence[alt.Parameter],
    tasks: Sequence[str],
    data: Sequence[Datum],
    units: Mapping[str, str],
) -> alt.LayerChart:
    colour, shape = method_scales(looks)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(type="log", nice=False, reverse=alt.ExprRef(_REVERSED)),
        axis=alt.Axis(
            values=alt.ExprRef(
                f"across == 'sparsity' ? {[1 - s for s in _SPARSITIES]} : {_DECADES}"
            ),
            labelExpr="across == 'sparsity' ? format(100 * (1 - datum.value), '.4~g')"
            " : format(datum.value, ',~g')",
            title=None,
            labelOverlap="greedy",
            grid=True,
        ),
    )
    ticks = "[" + ",".join(_bent(str(tick), always=True) for tick in _TICKS) + "]"
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(zero=False, nice=False),
        axis=alt.Axis(
            values=alt.ExprRef(f"scale == 'log' ? {ticks} : null"),
            labelExpr=f"format(scale == 'log' ? {BEND} * (exp(datum.value) - 1) : datum.value, '.3~g')",
            title=None,
            labelOverlap="greedy",
        ),
    )
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("variant:N", title="setting"),
        alt.Tooltip("value:Q", format=".4~g"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("of:N", title="which is"),
        alt.Tooltip("percent:N", title="sparsity"),
        alt.Tooltip("edges:Q", format=",~r"),
        alt.Tooltip("seconds:Q", format=",.3~g"),
        alt.Tooltip("passes:Q", title=_PASSES, format=",.4~g"),
    ]
    encoded = base.encode(x=x, y=y, color=colour, detail="line:N")
    rankings = encoded.transform_filter("!datum.found && indexof(['seconds','passes'], across) < 0")
    circuits = encoded.transform_filter("datum.found")
    measured = {
        task: sorted(
            {name for d in data if d["task"] == task for name in (PRIMARY, *units) if name in d}
        )
        for task in tasks
    }
    primary = {datum["task"]: units[datum["primary"]] for datum in data}
    title = (
        f"metric == 'primary' ? {json.dumps(primary)}[task] : "
        f"indexof({json.dumps(measured)}[task], metric) < 0 ? 'This task does not measure that.' : "
        f"{json.dumps(units)}[metric]"
    )
    below = (
        "across == 'sparsity' ? 'sparsity, % of edges removed' : across == 'edges' ? "
        "'edges of the circuit' : across == 'seconds' ? 'seconds of the discovery' : "
        "'forward-equivalents of the discovery'"
    )
    heading = alt.Title(text=alt.ExprRef(title), anchor="start", frame="group", fontSize=13)
    axis_title = (
        alt.Chart(alt.InlineData([{"place": 0}]))
        .transform_calculate(says=below)
        .mark_text(align="right", baseline="bottom", dx=-6, dy=-6, fontSize=12, fill=SOFT)
        .encode(x=alt.value("width"), y=alt.value("height"), text="says:N")
    )
    return (
        alt.layer(
            rankings.mark_area(opacity=0.13).encode(y="low:Q", y2="high:Q"),
            rankings.mark_line(strokeWidth=1.6),
            circuits.mark_rule(opacity=0.7).encode(y="low:Q", y2="high:Q"),
            encoded.mark_point(filled=True, size=70, opacity=1).encode(
                shape=shape, tooltip=tooltip
            ),
            axis_title,
        )
        .add_params(*controls)
        .properties(title=heading)
    )


_REVERSED = "across == 'sparsity' || across == 'edges'"


def _bent(value: str, *, always: bool = False) -> str:
    """Linear near 0, logarithmic beyond, on either side."""
    bent = f"({value} < 0 ? -1 : 1) * log(1 + abs({value}) / {BEND})"
    return bent if always else f"scale == 'log' ? {bent} : {value}"


def _plain(unit: str) -> str:
    return unit.partition(" (lower")[0].partition(" (higher")[0]


def _decades(title: str) -> alt.Axis:
    """A logarithmic axis with plain numbers."""
    return alt.Axis(title=title, values=_DECADES, format=",~g", labelOverlap="greedy")


def costs_chart(data: Sequence[Datum], looks: Sequence[Look]) -> Spec:
    """Quality against cost, at one sparsity of one task."""
    place = "#cost-controls"
    options = dict.fromkeys(datum["at"] for datum in data)
    controls = [
        dark(),
        select("at", "Task and sparsity", {at: at for at in options}, place),
        select("cost", "Cost", {"passes": _PASSES, "seconds": _SECONDS}, place),
    ]
    colour, shape = method_scales(looks)
    units = {datum["at"]: datum["unit"] for datum in data}
    base = (
        alt.Chart(alt.NamedData("costs"))
        .transform_filter("datum.at == at")
        .transform_calculate(x="max(datum[cost], cost == 'passes' ? 0.1 : 0.01)")
        .transform_calculate(
            interval="'[' + format(datum.low, '.3~g') + ', ' + format(datum.high, '.3~g') + ']'"
        )
        .encode(
            x=alt.X(
                "x:Q",
                scale=alt.Scale(type="log", nice=True),
                axis=_decades("cost of the discovery"),
            ),
            color=colour,
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("variant:N", title="setting"),
                alt.Tooltip("value:Q", format=".4~g"),
                alt.Tooltip("interval:N", title="95 % interval"),
                alt.Tooltip("edges:Q", format=",~r"),
                alt.Tooltip("seconds:Q", format=",.3~g"),
                alt.Tooltip("passes:Q", title=_PASSES, format=",.4~g"),
                alt.Tooltip("level:N", title="is"),
            ],
        )
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(type="symlog", constant=BEND),
        axis=alt.Axis(title=None, format=".3~g", values=list(_TICKS), labelOverlap="greedy"),
    )
    title = alt.Title(
        text=alt.ExprRef(f"{json.dumps(units)}[at]"), anchor="start", frame="group", fontSize=13
    )
    return finished(
        alt.layer(
            base.mark_rule().encode(
                y=alt.Y("low:Q", scale=alt.Scale(type="symlog", constant=BEND)), y2="high:Q"
            ),
            base.mark_point(filled=True, size=110, opacity=1).encode(y=y, shape=shape),
            base.mark_text(align="left", dx=9, dy=-8, fontSize=11).encode(
                y=y, text="method:N", color=alt.value(SOFT)
            ),
        )
        .add_params(*controls)
        .properties(title=title),
        {"costs": data},
        380,
    )


def runtimes_chart(data: Sequence[Datum], looks: Sequence[Look]) -> Spec:
    """What every discovery cost, method by method."""
    place = "#runtime-controls"
    tasks = dict.fromkeys(datum["task"] for datum in data)
    quantities = {"seconds": _SECONDS, "passes": _PASSES, "megabytes": "peak memory, MB"}
    controls = [
        dark(),
        select("task", "Task", {"": "all tasks", **{task: task for task in tasks}}, place),
        select("quantity", "Quantity", quantities, place),
    ]
    colour, shape = method_scales(looks)
    tooltip = [
        *(alt.Tooltip(f"{name}:N") for name in ("method", "task", "model", "device")),
        alt.Tooltip("graph:Q", title="edges of the graph", format=","),
        alt.Tooltip("prompts:Q", title="training prompts", format=","),
        alt.Tooltip("seconds:Q", format=",.3~g"),
        alt.Tooltip("passes:Q", title=_PASSES, format=",.4~g"),
        alt.Tooltip("megabytes:Q", title="peak MB", format=",.0f"),
    ]
    base = (
        alt.Chart(alt.NamedData("runtimes"))
        .transform_filter("task == '' || datum.task == task")
        .transform_calculate(x="datum[quantity]")
        .transform_filter("datum.x > 0")
        .encode(
            x=alt.X(
                "x:Q",
                scale=alt.Scale(type="log", nice=True),
                axis=_decades("each discovery; bar: the median"),
            ),
            y=alt.Y(
                "method:N",
                sort=[look.label for look in looks],
                axis=alt.Axis(title=None, labelLimit=220),
            ),
            color=colour,
        )
    )
    chart = alt.layer(
        base.mark_point(filled=True, size=45, opacity=0.55).encode(shape=shape, tooltip=tooltip),
        base.mark_tick(thickness=3, height=16).encode(x="median(x):Q"),
    ).add_params(*controls)
    return finished(chart, {"runtimes": data}, 24 * len({d["method"] for d in data}) + 20)


def growth_chart(data: Sequence[Datum], looks: Sequence[Look]) -> Spec:
    """What discoveries cost against the number of edges of the graph; for several graphs."""
    colour, shape = method_scales(looks)
    controls = [
        dark(),
        select(
            "quantity",
            "Quantity",
            {"seconds": _SECONDS, "passes": _PASSES, "megabytes": "peak memory, MB"},
            "#growth-controls",
        ),
    ]
    log = alt.Scale(type="log", nice=True)
    base = (
        alt.Chart(alt.NamedData("runtimes"))
        .transform_calculate(y="datum[quantity]")
        .transform_filter("datum.y > 0")
        .transform_aggregate(
            middle="median(y)", runs="count()", groupby=["method", "graph", "task"]
        )
        .encode(
            x=alt.X("graph:Q", scale=log, axis=_decades("edges of the graph")),
            y=alt.Y("middle:Q", scale=log, axis=_decades("median of the discoveries")),
            color=colour,
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("method", "task", "runs")),
                alt.Tooltip("graph:Q", title="edges", format=","),
                alt.Tooltip("middle:Q", title="median", format=",.3~g"),
            ],
        )
    )
    return finished(
        alt.layer(
            base.mark_point(filled=True, size=70, opacity=0.9).encode(shape=shape)
        ).add_params(*controls),
        {"runtimes": data},
        340,
    )


def overlaps_chart(data: Sequence[Datum], looks: Sequence[Look]) -> Spec:
    """How far circuits of different seeds overlap, pair by pair, beside chance."""
    tasks = dict.fromkeys(datum["task"] for datum in data)
    controls = [dark(), select("task", "Task", {task: task for task in tasks}, "#overlap-controls")]
    colour, _ = method_scales(looks)
    unit = alt.Scale(domain=[0, 1])
    axis = alt.Axis(title="overlap of two seeds", format=".1f", tickCount=5)
    base = (
        alt.Chart(alt.NamedData("overlaps"))
        .transform_filter("datum.task == task")
        .transform_calculate(name="datum.method + ', ' + datum.setting")
        .encode(y=alt.Y("name:N", axis=alt.Axis(title=None, labelLimit=190)))
    )
    x = alt.X("overlap:Q", scale=unit, axis=axis)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("method", "setting")] + [
        alt.Tooltip(f"{name}:Q", format=".3f") for name in ("overlap", "chance")
    ]
    return finished(
        alt.layer(
            base.mark_tick(thickness=2, height=14, opacity=0.5).encode(
                x=x, color=colour, tooltip=tooltip
            ),
            base.mark_point(filled=True, size=90, opacity=1).encode(
                x="mean(overlap):Q", color=colour
            ),
            base.mark_tick(
                thickness=2, height=22, color=alt.ExprRef("dark ? '#e8e8e8' : '#202020'")
            ).encode(x="mean(chance):Q"),
        ).add_params(*controls),
        {"overlaps": data},
        30 * max(len({d["setting"] + d["method"] for d in data if d["task"] == t}) for t in tasks)
        + 20,
    )
