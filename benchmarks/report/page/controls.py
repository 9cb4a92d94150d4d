"""What the page's charts share: controls, which are parameters of the charts, and scales.

Every chart has the parameter `dark`, which the page sets, and is as wide as what holds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from benchmarks.report.page.data import Datum
from benchmarks.report.page.looks import Look

Spec = dict[str, Any]

BEND = 0.05
"""Errors are linear below about this and logarithmic above."""
TICKS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
"""Of errors."""
DECADES = [step * 10.0**power for power in range(-3, 8) for step in (1, 2, 5)]
COSTS = {"passes": "forward-equivalents", "seconds": "seconds"}
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


Layers = alt.LayerChart | alt.FacetChart


def finished(chart: Layers, datasets: Mapping[str, Sequence[Datum]], height: int) -> Spec:
    """The specification, as wide as its place on the page; data are found by name."""
    spec = chart.properties(width="container", height=height).to_dict()
    spec["datasets"] = {**spec.get("datasets", {}), **datasets}
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["background"] = "transparent"
    return spec


def decades(title: str) -> alt.Axis:
    """A logarithmic axis with plain numbers."""
    return alt.Axis(title=title, values=DECADES, format=",~g", labelOverlap="greedy")


def interval(low: str, high: str) -> str:
    return f"'[' + format(datum.{low}, '.3~g') + ', ' + format(datum.{high}, '.3~g') + ']'"
