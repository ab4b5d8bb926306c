"""The columns of a drawn graph: which one a node stands in, and in which order, so that few edges cross."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dagy.drawing.links import shared_depth

#: Beyond this many waypoints, edges that span columns become direct curves.
MOST_WAYPOINTS = 20_000

#: From this many edges on, crossings are not counted and fewer sweeps are made.
MANY_EDGES = 4_000

_SWEEPS = 12
_SWEEPS_OF_MANY = 4


def columns_of(parents: Sequence[Sequence[int]]) -> list[int]:
    """Return the column of each node: how many edges the longest path to it has."""
    children: list[list[int]] = [[] for _ in parents]
    waiting_for = [len(each) for each in parents]
    for child, each in enumerate(parents):
        for parent in each:
            children[parent].append(child)
    columns = [0] * len(parents)
    ready = [node for node, count in enumerate(waiting_for) if not count]
    for node in ready:
        for child in children[node]:
            columns[child] = max(columns[child], columns[node] + 1)
            waiting_for[child] -= 1
            if not waiting_for[child]:
                ready.append(child)
    return columns


class Net:
    """The graph with a waypoint in each column that an edge passes, so that links join neighbouring columns only.

    Edges that leave the same node share their waypoints, like the lanes of a road, as far as they go.
    """

    def __init__(
        self, parents: Sequence[Sequence[int]], groups: Sequence[tuple[str, ...]], columns: Sequence[int]
    ) -> None:
        self.real_count = len(parents)
        self.column = list(columns)
        self.group = list(groups)
        self.routes: list[tuple[int, int, list[int]]] = []
        self._lanes: dict[int, list[int]] = {}
        passed = sum(columns[child] - columns[parent] - 1 for child, each in enumerate(parents) for parent in each)
        has_waypoints = passed <= MOST_WAYPOINTS
        links: dict[tuple[int, int], None] = {}
        for child, each in enumerate(parents):
            for parent in each:
                waypoints = self._lane(parent, child) if has_waypoints else []
                self.routes.append((parent, child, waypoints))
                path = [parent, *waypoints, child]
                links.update(dict.fromkeys(pairwise(path)))
        self.left: list[list[int]] = [[] for _ in self.column]
        self.right: list[list[int]] = [[] for _ in self.column]
        for start, end in links:
            self.right[start].append(end)
            self.left[end].append(start)
        self.columns: list[list[int]] = [[] for _ in range(max(self.column, default=-1) + 1)]
        for node in self._by_depth_first():
            self.columns[self.column[node]].append(node)

    def is_waypoint(self, node: int) -> bool:
        return node >= self.real_count

    def _lane(self, parent: int, child: int) -> list[int]:
        lane = self._lanes.setdefault(parent, [])
        length = self.column[child] - self.column[parent] - 1
        while len(lane) < length:
            lane.append(len(self.column))
            self.column.append(self.column[parent] + len(lane))
            self.group.append(self.group[parent])
        for waypoint in lane[:length]:
            # A lane stays in a group only as long as all its edges do.
            self.group[waypoint] = self.group[waypoint][: shared_depth(self.group[waypoint], self.group[child])]
        return lane[:length]

    def _by_depth_first(self) -> list[int]:
        """A first order in which what belongs together is together."""
        seen = bytearray(len(self.column))
        order: list[int] = []
        for root in range(len(self.column)):
            todo = [] if self.left[root] else [root]
            while todo:
                node = todo.pop()
                if not seen[node]:
                    seen[node] = 1
                    order.append(node)
                    todo += reversed(self.right[node])
        return order


def order_columns(net: Net) -> None:
    """Sort the columns so that few edges cross and groups stay together."""
    links = sum(map(len, net.right))
    many = links > MANY_EDGES
    best, fewest = None, -1
    for sweep in range(_SWEEPS_OF_MANY if many else _SWEEPS):
        rightwards = sweep % 2 == 0
        neighbours = net.left if rightwards else net.right
        position = _positions(net)
        for column in net.columns if rightwards else reversed(net.columns):
            _sort_column(net, column, neighbours, position)
        if many:
            continue
        crossings = _crossings(net)
        if best is None or crossings < fewest:
            best, fewest = [list(column) for column in net.columns], crossings
        if not crossings:
            break
    if best is not None:
        net.columns = best


def _positions(net: Net) -> list[float]:
    position = [0.0] * len(net.column)
    for column in net.columns:
        for index, node in enumerate(column):
            position[node] = float(index)
    return position


def _sort_column(net: Net, column: list[int], neighbours: Sequence[Sequence[int]], position: list[float]) -> None:
    wish = {
        node: sum(position[each] for each in neighbours[node]) / len(neighbours[node])
        if neighbours[node]
        else position[node]
        for node in column
    }
    wishes_of_groups: dict[tuple[str, ...], list[float]] = {}
    for node in column:
        path = net.group[node]
        for depth in range(1, len(path) + 1):
            wishes_of_groups.setdefault(path[:depth], []).append(wish[node])
    rank = {path: (sum(wishes) / len(wishes), index) for index, (path, wishes) in enumerate(wishes_of_groups.items())}

    def key(node: int) -> list[tuple[float, float]]:
        path = net.group[node]
        outer = [rank[path[:depth]] for depth in range(1, len(path) + 1)]
        return [*outer, (wish[node], position[node])]

    column.sort(key=key)
    for index, node in enumerate(column):
        position[node] = float(index)


def _crossings(net: Net) -> int:
    """Count the pairs of links that cross, with the tree of Barth, Juenger and Mutzel."""
    position = _positions(net)
    total = 0
    for column in net.columns[:-1]:
        ends = [int(end) for node in column for end in sorted(position[each] for each in net.right[node])]
        size = max(ends, default=0) + 1
        counts = [0] * (size + 1)
        for passed, end in enumerate(ends):
            index = end + 1
            not_above = 0
            while index:
                not_above += counts[index]
                index -= index & -index
            total += passed - not_above
            index = end + 1
            while index <= size:
                counts[index] += 1
                index += index & -index
    return total
