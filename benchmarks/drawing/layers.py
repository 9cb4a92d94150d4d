"""A drawing in rows: where nodes stand, and how edges pass the rows between.

After Sugiyama, Tagawa and Toda (1981). An edge that spans several rows passes each row between at a
waypoint; the edges of one node share its waypoints, so they leave it as one trunk that branches
just below each target. Barycentre sweeps, up and down, order the rows; the order with the fewest
crossings is kept. A row's places are the least-squares fit to those of its neighbours at which
nothing overlaps: an isotonic regression. Cost: all pairs of links between two rows, per sweep.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

Point = tuple[str, int]
"""A node in its own row, or its waypoint in a higher one."""
Links = Mapping[tuple[Point, Point], float]
"""How strongly a point and one in the next row draw each other."""
Neighbours = Mapping[Point, Mapping[Point, float]]

SWEEPS = 30
TRUNK_SPACE = 0.4
"""What a waypoint takes up of its row; a node takes 1."""
STRAIGHT = 12.0
"""The strength of a link of a trunk; that of a branch is 1."""


@dataclass(frozen=True)
class Layout:
    """Where every point stands in its row, and each node's trunk: its points, upwards."""

    places: Mapping[Point, float]
    trunks: Mapping[str, Sequence[Point]]

    def foot(self, source: str, row: int) -> Point:
        """The point at which an edge to a target in `row` leaves its source's trunk."""
        return _foot(self.trunks[source], row)


def layout(row_of: Mapping[str, int], edges: Iterable[tuple[str, str]]) -> Layout:
    """Places for nodes whose rows are given, for edges that lead to higher rows."""
    edges = list(edges)
    tops = dict(row_of)
    for source, target in edges:
        assert row_of[source] < row_of[target], f"{source}->{target} does not lead upwards"
        tops[source] = max(tops[source], row_of[target] - 1)
    trunks = {
        node: [(node, row) for row in range(lowest, tops[node] + 1)]
        for node, lowest in row_of.items()
    }
    links = {link: STRAIGHT for trunk in trunks.values() for link in pairwise(trunk)}
    for source, target in edges:
        row = row_of[target]
        links[_foot(trunks[source], row), (target, row)] = 1.0
    rows: list[list[Point]] = [[] for _ in range(1 + max(row_of.values()))]
    for point in (point for trunk in trunks.values() for point in trunk):
        rows[point[1]].append(point)
    space = {
        (node, row): 1.0 if row == row_of[node] else TRUNK_SPACE
        for points in rows
        for node, row in points
    }
    return Layout(_arranged(rows, links, space), trunks)


def crossings(places: Mapping[Point, float], links: Links) -> int:
    """How many pairs of links cross."""
    gaps: dict[int, list[tuple[float, float]]] = {}
    for below, above in links:
        gaps.setdefault(below[1], []).append((places[below], places[above]))
    total = 0
    for ends in map(np.array, gaps.values()):
        order = np.sign(ends[:, None] - ends)
        total += int((order[..., 0] * order[..., 1] < 0).sum()) // 2
    return total


def _arranged(
    rows: list[list[Point]], links: Links, space: Mapping[Point, float]
) -> dict[Point, float]:
    """Sweeps that order the rows and place them, then sweeps that keep the best order seen."""
    below: dict[Point, dict[Point, float]] = {point: {} for points in rows for point in points}
    above: dict[Point, dict[Point, float]] = {point: {} for point in below}
    for (low, high), strength in links.items():
        below[high][low] = above[low][high] = strength
    beside = {point: below[point] | above[point] for point in below}
    places: dict[Point, float] = dict.fromkeys(below, 0.0)

    def settle(points: list[Point], near: Neighbours, *, reorder: bool) -> None:
        totals = [sum(near[point].values()) for point in points]
        wishes = [
            sum(places[other] * strength for other, strength in near[point].items()) / total
            if total
            else places[point]
            for point, total in zip(points, totals, strict=True)
        ]
        order = np.argsort(wishes, kind="stable") if reorder else np.arange(len(points))
        points[:] = [points[index] for index in order]
        widths = np.array([space[point] for point in points])
        centres = np.cumsum(widths) - widths / 2
        fit = isotonic_regression(
            np.array(wishes)[order] - centres, weights=[totals[index] or 1.0 for index in order]
        )
        places.update(zip(points, (fit.x + centres).tolist(), strict=True))

    for points in rows:
        settle(points, beside, reorder=False)
    best, fewest = [list(points) for points in rows], crossings(places, links)
    for sweep in range(SWEEPS):
        upwards = sweep % 2 == 0
        for points in rows if upwards else reversed(rows):
            settle(points, below if upwards else above, reorder=True)
        if (found := crossings(places, links)) < fewest:
            best, fewest = [list(points) for points in rows], found
    for _ in range(2 * SWEEPS):
        for points in best:
            settle(points, beside, reorder=False)
    return places


def _foot(trunk: Sequence[Point], row: int) -> Point:
    return next(point for point in reversed(trunk) if point[1] < row)
