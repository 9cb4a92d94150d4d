"""The charts of quality and cost, of runtimes, of growth and of the agreement of seeds."""

import json
from collections.abc import Sequence

import altair as alt

from benchmarks.report.page.controls import (
    BEND,
    COSTS,
    SOFT,
    TICKS,
    Spec,
    dark,
    decades,
    finished,
    interval,
    method_scales,
    select,
)
from benchmarks.report.page.data import Datum
from benchmarks.report.page.looks import Look

QUANTITIES = {**COSTS, "megabytes": "peak memory, MB"}


def costs_chart(data: Sequence[Datum], looks: Sequence[Look]) -> Spec:
    """Quality against cost, at one sparsity of one task."""
    place = "#cost-controls"
    options = dict.fromkeys(datum["at"] for datum in data)
    controls = [
        dark(),
        select("at", "Task and sparsity", {at: at for at in options}, place),
        select("cost", "Cost", {"passes": COSTS["passes"], "seconds": COSTS["seconds"]}, place),
    ]
    colour, shape = method_scales(looks)
    units = {datum["at"]: datum["unit"] for datum in data}
    base = (
        alt.Chart(alt.NamedData("costs"))
        .transform_filter("datum.at == at")
        .transform_calculate(x="max(datum[cost], cost == 'passes' ? 0.1 : 0.01)")
        .transform_calculate(interval=interval("low", "high"))
        .encode(
            x=alt.X(
                "x:Q",
                scale=alt.Scale(type="log", nice=True),
                axis=decades("cost of the discovery"),
            ),
            color=colour,
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("variant:N", title="setting"),
                alt.Tooltip("value:Q", format=".4~g"),
                alt.Tooltip("interval:N", title="95 % interval"),
                alt.Tooltip("edges:Q", format=",~r"),
                alt.Tooltip("seconds:Q", format=",.3~g"),
                alt.Tooltip("passes:Q", title=COSTS["passes"], format=",.4~g"),
                alt.Tooltip("level:N", title="is"),
            ],
        )
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(type="symlog", constant=BEND),
        axis=alt.Axis(title=None, format=".3~g", values=list(TICKS), labelOverlap="greedy"),
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
    controls = [
        dark(),
        select("task", "Task", {"": "all tasks", **{task: task for task in tasks}}, place),
        select("quantity", "Quantity", QUANTITIES, place),
    ]
    colour, shape = method_scales(looks)
    tooltip = [
        *(alt.Tooltip(f"{name}:N") for name in ("method", "task", "model", "device")),
        alt.Tooltip("graph:Q", title="edges of the graph", format=","),
        alt.Tooltip("prompts:Q", title="training prompts", format=","),
        alt.Tooltip("seconds:Q", format=",.3~g"),
        alt.Tooltip("passes:Q", title=COSTS["passes"], format=",.4~g"),
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
                axis=decades("each discovery; bar: the median"),
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
            QUANTITIES,
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
            x=alt.X("graph:Q", scale=log, axis=decades("edges of the graph")),
            y=alt.Y("middle:Q", scale=log, axis=decades("median of the discoveries")),
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
