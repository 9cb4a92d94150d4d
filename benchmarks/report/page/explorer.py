"""The circuit explorer: a graph's nodes in layers, and the edges of one circuit or of two."""

import json

import altair as alt

from benchmarks.drawing.style import BLUE, RED
from benchmarks.report.page.circuits import STRONGEST, Explored
from benchmarks.report.page.controls import (
    Spec,
    dark,
    finished,
    search_box,
    select,
    slider,
    tick_box,
)

ROW_PIXELS = 34
NONE = "none"
LOOKS = {
    "positive": (BLUE, "#58b0ee", [1, 0]),
    "negative": (RED, "#ff8a4c", [5, 3]),
    "no sign": ("#555555", "#b4b8bf", [1, 0]),
    "in both": ("#555555", "#b4b8bf", [1, 0]),
    "only in the first": (BLUE, "#58b0ee", [1, 0]),
    "only in the second": (RED, "#ff8a4c", [5, 3]),
}
"""What is said of an edge -> its colour on a light and a dark ground, and its dashes."""
_SIGNS = {"positive": "positive: removal hurts", "negative": "negative: removal helps"}
SHOWN = ("all", "in both", "only in the first", "only in the second")


def explorer_chart(graph: Explored) -> Spec:
    """The chart of one graph; it is drawn when the page shows it."""
    kinds = [
        tick_box(f"kind{i}", f"into {kind}", "#explorer-kinds", ticked=True)
        for i, kind in enumerate(graph.kinds)
    ]
    picked = "[" + ",".join(box.name for box in kinds) + "]"
    edges = _edges().transform_filter(
        f"{picked}[indexof({json.dumps(list(graph.kinds))}, datum.kind)]"
    )
    nodes = alt.Chart(alt.NamedData("nodes"))
    touched = (
        edges.transform_fold(["from", "into"], as_=["end", "node"])
        .transform_aggregate(edges="count()", groupby=["node"])
        .transform_lookup(
            "node",
            from_=alt.LookupData(
                alt.NamedData("nodes"), "node", ["label", "x", "y", "wide", "role"]
            ),
        )
    )
    layers = [_lines(edges, graph), _boxes(nodes, graph), _labels(nodes, graph)]
    layers += [
        _boxes(touched, graph, touched=True),
        _labels(touched, graph, touched=True),
        _counts(edges),
    ]
    chart = alt.layer(*layers).add_params(*_controls(graph), *kinds)
    datasets = {
        "circuits": graph.circuits,
        "writers": graph.writers,
        "readers": graph.readers,
        "nodes": graph.nodes,
    }
    return finished(chart, datasets, max(240, ROW_PIXELS * (graph.rows + 1)))


def _controls(graph: Explored) -> list[alt.Parameter]:
    names = [one["c"] for one in graph.circuits]
    most = min(STRONGEST, max(len(one["e"]) for one in graph.circuits))
    start = min(most, max(10, min(60, graph.n_edges // 15)))
    place = "#explorer-controls"
    listed = {name: name for name in names}
    return [
        dark(),
        select("first", "Circuit", listed, place),
        select("second", "compared with", {NONE: NONE, **listed}, place),
        slider("size", "Edges of a ranking", place, (1, most, 1), start),
        select("status", "Show", {name: name for name in SHOWN}, place),
        search_box("search", "Find a head or an edge", place),
    ]


def _edges() -> alt.Chart:
    """The edges of the circuits that are asked for, with their ends and how they are shown."""
    return (
        alt.Chart(alt.NamedData("circuits"))
        .transform_filter("datum.c == first || datum.c == second")
        .transform_filter("datum.least <= size && size <= datum.most")
        .transform_flatten(["e", "s"])
        .transform_window(rank="row_number()", groupby=["c"])
        .transform_filter("datum.n == 0 || datum.rank <= size")
        .transform_joinaggregate(both="count()", groupby=["e"])
        .transform_filter("first == second || datum.both == 1 || datum.c == first")
        .transform_calculate(
            w="datum.e % datum.W",
            r="floor(datum.e / datum.W)",
            where="datum.both == 2 ? 'in both' : datum.c == first ? 'only in the first'"
            " : 'only in the second'",
            sign="datum.s >= 2 ? 'no sign' : datum.s < 0 ? 'negative' : 'positive'",
            strength="datum.s >= 2 ? datum.s - 2 : abs(datum.s)",
        )
        .transform_lookup(
            "w", from_=alt.LookupData(alt.NamedData("writers"), "w", ["from", "x1", "y1"])
        )
        .transform_lookup(
            "r",
            from_=alt.LookupData(alt.NamedData("readers"), "r", ["to", "into", "x2", "y2", "kind"]),
        )
        .transform_calculate(
            look=f"second == '{NONE}' || first == second ? datum.sign : datum.where",
            edge="datum.from + '->' + datum.to",
        )
        .transform_filter(f"second == '{NONE}' || status == 'all' || datum.where == status")
        .transform_filter("search == '' || indexof(lower(datum.edge), lower(trim(search))) >= 0")
    )


def _x(field: str, columns: int) -> alt.X:
    domain = [-0.7, columns - 0.3]
    return alt.X(field, axis=None, scale=alt.Scale(zero=False, nice=False, domain=domain))


def _y(field: str, rows: int) -> alt.Y:
    """Above `out` there is room for the legend."""
    domain = [-0.6, rows + 0.9]
    return alt.Y(field, axis=None, scale=alt.Scale(zero=False, nice=False, domain=domain))


def _look() -> alt.Color:
    colours = [alt.ExprRef(f"dark ? '{dark}' : '{light}'") for light, dark, _ in LOOKS.values()]
    return alt.Color("look:N", scale=alt.Scale(domain=list(LOOKS), range=colours), legend=None)


def _lines(edges: alt.Chart, graph: Explored) -> alt.Chart:
    """Edges as curves that leave and arrive upright."""
    dashes = [dash for _, _, dash in LOOKS.values()]
    return (
        edges.transform_calculate(t="[0, 1, 2, 3]")
        .transform_flatten(["t"])
        .transform_calculate(
            x="datum.t < 2 ? datum.x1 : datum.x2",
            y="datum.t == 0 ? datum.y1 : datum.t == 3 ? datum.y2 : (datum.y1 + datum.y2) / 2",
        )
        .mark_line(interpolate="basis", opacity=0.75, strokeCap="butt")
        .encode(
            x=_x("x:Q", graph.columns),
            y=_y("y:Q", graph.rows),
            order="t:O",
            detail="edge:N",
            color=_look(),
            strokeDash=alt.StrokeDash(
                "look:N", scale=alt.Scale(domain=list(LOOKS), range=dashes), legend=None
            ),
            strokeWidth=alt.StrokeWidth(
                "strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.6, 3.5]), legend=None
            ),
            tooltip=[
                alt.Tooltip("edge:N"),
                alt.Tooltip("rank:Q", title="place in the ranking"),
                alt.Tooltip("sign:N"),
                alt.Tooltip("strength:Q", title="root of score / greatest", format=".2f"),
                alt.Tooltip("where:N", title="is"),
            ],
        )
    )


def _boxes(nodes: alt.Chart, graph: Explored, *, touched: bool = False) -> alt.Chart:
    """A box for each node; a wide one for an MLP, an embedding and `out`."""
    ground = "dark ? '#20252d' : '#ffffff'" if touched else "dark ? '#171a1f' : '#ffffff'"
    border = "dark ? '#aab2be' : '#3a424d'" if touched else "dark ? '#39404a' : '#d4d8de'"
    return (
        nodes.transform_calculate(
            left="datum.x - (datum.wide ? 0.62 : 0.36)",
            right="datum.x + (datum.wide ? 0.62 : 0.36)",
            low="datum.y - 0.27",
            high="datum.y + 0.27",
        )
        .mark_rect(cornerRadius=4, fill=alt.ExprRef(ground), stroke=alt.ExprRef(border))
        .encode(
            x=_x("left:Q", graph.columns),
            x2="right:Q",
            y=_y("low:Q", graph.rows),
            y2="high:Q",
            tooltip=_node_tooltip(touched),
            strokeWidth=alt.condition("datum.role != ''", alt.value(3), alt.value(1)),
        )
    )


def _labels(nodes: alt.Chart, graph: Explored, *, touched: bool = False) -> alt.Chart:
    """Names, as large as there is room for; of heads, none where there is too little."""
    room = f"width / {graph.columns + 1}"
    size = alt.ExprRef(f"{room} < 24 ? 7.5 : {room} < 34 ? 9 : 11")
    colour = "dark ? '#e7eaee' : '#202428'" if touched else "dark ? '#6b7480' : '#9aa2ad'"
    return nodes.mark_text(fontSize=size, fill=alt.ExprRef(colour)).encode(
        x=_x("x:Q", graph.columns),
        y=_y("y:Q", graph.rows),
        text="label:N",
        tooltip=_node_tooltip(touched),
        opacity=alt.condition(f"{room} < 17 && !datum.wide", alt.value(0), alt.value(1)),
    )


def _node_tooltip(touched: bool) -> list[alt.Tooltip]:
    known = [alt.Tooltip("node:N"), alt.Tooltip("role:N", title="published role")]
    return [*known, alt.Tooltip("edges:Q", title="edges shown")] if touched else known


def _counts(edges: alt.Chart) -> alt.Chart:
    """How many edges of each look are shown: the legend."""
    says = " : ".join(f"datum.look == '{look}' ? '{text}'" for look, text in _SIGNS.items())
    return (
        edges.transform_aggregate(n="count()", groupby=["look"])
        .transform_window(line="row_number()", sort=[alt.SortField("look")])
        .transform_calculate(
            text="(indexof(['negative', 'only in the second'], datum.look) < 0 ? '━ ' : '╍ ')"
            " + datum.n + "
            f"(datum.n == 1 ? ' edge, ' : ' edges, ') + ({says} : datum.look)"
        )
        .mark_text(
            align="left",
            baseline="top",
            fontSize=12,
            fontWeight="bold",
            dy=alt.ExprRef("16 * (datum.line - 1)"),
        )
        .encode(x=alt.value(0), y=alt.value(0), text="text:N", color=_look())
    )
