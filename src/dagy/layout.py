"""Where the boxes and edges of a drawn graph go: columns from left to right, few crossings, straight lines.

The method of Sugiyama: a column is the longest path to it, orders come from barycenter sweeps, heights from least
squares. Pure, without recursion, and in time that grows a little faster than the graph.

Considered instead: the `dot` program, which users would have to install; grandalf and igraph's `layout_sugiyama`, which
are GPL (igraph is 3 MB of C besides); networkx, which neither orders columns nor routes edges.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

#: Beyond this many waypoints, edges that span columns become direct curves.
MOST_WAYPOINTS = 20_000

#: From this many edges on, crossings are not counted and fewer sweeps are made.
MANY_EDGES = 4_000

_SWEEPS = 12
_SWEEPS_OF_MANY = 4
_COLUMN_GAP = 64.0
_WIDEST_COLUMN_GAP = 220.0
_ROW_GAP = 18.0
_WAYPOINT_GAP = 10.0

#: The frame of a group keeps this distance from what is in it; its name needs more room above.
FRAME_PADDING = 12.0
FRAME_TOP = 26.0


class Box(NamedTuple):
    """A rectangle: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


class Frame(NamedTuple):
    """The rectangle around a group, or around its part in one column where other task runs stand between."""

    path: tuple[str, ...]
    box: Box


class Layout(NamedTuple):
    """A drawing in a coordinate system that begins at (0, 0).

    Attributes:
        boxes: one per node.
        routes: (parent, child, waypoints) per edge; a waypoint is a flat stretch of width `width` at height `y`.
        frames: of the groups, outer ones first.
        width, height: of the whole.
    """

    boxes: list[Box]
    routes: list[tuple[int, int, list[Box]]]
    frames: list[Frame]
    width: float
    height: float


def lay_out(
    parents: Sequence[Sequence[int]], sizes: Sequence[tuple[float, float]], groups: Sequence[tuple[str, ...]]
) -> Layout:
    """Return where everything goes.

    Args:
        parents: of each node; acyclic, each parent once.
        sizes: (width, height) of each node's box.
        groups: what each node belongs to, the outermost group first.
    """
    net = _Net(parents, groups, columns_of(parents))
    _order(net)
    heights = [size[1] for size in sizes] + [0.0] * (len(net.column) - len(sizes))
    middles = _middles(net, heights)
    lefts, widths = _column_places(net, sizes, middles)
    places = [
        Box(lefts[column], middles[node] - heights[node] / 2, widths[column], heights[node])
        for node, column in enumerate(net.column)
    ]
    boxes = places[: len(sizes)]
    routes = [(parent, child, [places[waypoint] for waypoint in waypoints]) for parent, child, waypoints in net.routes]
    return _moved_to_origin(boxes, routes, _frames(net, boxes))


def shared_depth(path: Sequence[str], other: Sequence[str]) -> int:
    """Return how many of their outermost groups two paths have in common."""
    depth = 0
    for one, another in zip(path, other, strict=False):
        if one != another:
            break
        depth += 1
    return depth


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


class _Net:
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


def _order(net: _Net) -> None:
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


def _positions(net: _Net) -> list[float]:
    position = [0.0] * len(net.column)
    for column in net.columns:
        for index, node in enumerate(column):
            position[node] = float(index)
    return position


def _sort_column(net: _Net, column: list[int], neighbours: Sequence[Sequence[int]], position: list[float]) -> None:
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


def _crossings(net: _Net) -> int:
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


def _middles(net: _Net, heights: Sequence[float]) -> list[float]:
    """Return the height of each node's middle: near its neighbours', no closer to the next one than allowed."""
    middles = [0.0] * len(net.column)
    offsets = [_offsets(net, column, heights) for column in net.columns]
    for column, offset in zip(net.columns, offsets, strict=True):
        for node, each in zip(column, offset, strict=True):
            middles[node] = each - offset[-1] / 2
    both = [left + right for left, right in zip(net.left, net.right, strict=True)]
    for neighbours in (net.left, net.right, net.left, net.right, both, both, net.left, both):
        for index in range(len(net.columns)):
            # Towards the left neighbours the columns follow each other from left to right, and the other way round.
            at = -1 - index if neighbours is net.right else index
            wishes = [_wish(net, node, neighbours[node], middles) for node in net.columns[at]]
            for node, middle in zip(net.columns[at], spread(wishes, offsets[at]), strict=True):
                middles[node] = middle
    return middles


def _wish(net: _Net, node: int, neighbours: Sequence[int], middles: Sequence[float]) -> float:
    if not neighbours:
        return middles[node]
    total = weight = 0.0
    for each in neighbours:
        # Long edges should be straight before short ones are.
        pull = 1.0 + 3.0 * net.is_waypoint(node) * net.is_waypoint(each) + 1.0 * net.is_waypoint(each)
        total += pull * middles[each]
        weight += pull
    return total / weight


def spread(wishes: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Return the places nearest to the wishes, by least squares, that keep the order and the distances.

    Args:
        wishes: where each would like to be.
        offsets: where each would be if all stood as close as allowed; the first is 0.
    """
    # With the distances subtracted, places may be equal but must not decrease: pool those that violate that.
    means: list[float] = []
    sizes: list[int] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        mean, size = wish - offset, 1
        while means and means[-1] >= mean:
            last, last_size = means.pop(), sizes.pop()
            mean = (last * last_size + mean * size) / (last_size + size)
            size += last_size
        means.append(mean)
        sizes.append(size)
    pooled = [mean for mean, size in zip(means, sizes, strict=True) for _ in range(size)]
    return [place + offset for place, offset in zip(pooled, offsets, strict=True)]


def _offsets(net: _Net, column: Sequence[int], heights: Sequence[float]) -> list[float]:
    offsets = [0.0]
    for upper, lower in pairwise(column):
        gap = _WAYPOINT_GAP if net.is_waypoint(upper) or net.is_waypoint(lower) else _ROW_GAP
        shared = shared_depth(net.group[upper], net.group[lower])
        gap += FRAME_PADDING * (len(net.group[upper]) - shared) + FRAME_TOP * (len(net.group[lower]) - shared)
        offsets.append(offsets[-1] + heights[upper] / 2 + gap + heights[lower] / 2)
    return offsets[: len(column)]


def _column_places(
    net: _Net, sizes: Sequence[tuple[float, float]], middles: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return left edge and width of each column; a steep edge wants more room to bend."""
    widths = [
        max((sizes[node][0] for node in column if not net.is_waypoint(node)), default=0.0) for column in net.columns
    ]
    lefts = []
    at = 0.0
    for column, width in zip(net.columns, widths, strict=True):
        lefts.append(at)
        steepest = max((abs(middles[node] - middles[end]) for node in column for end in net.right[node]), default=0.0)
        at += width + min(_COLUMN_GAP + steepest * 0.12, _WIDEST_COLUMN_GAP) + _frame_room(net, column)
    return lefts, widths


def _frame_room(net: _Net, column: Sequence[int]) -> float:
    return FRAME_PADDING * max((len(net.group[node]) for node in column), default=0)


def _frames(net: _Net, boxes: Sequence[Box]) -> list[Frame]:
    members: dict[tuple[str, ...], list[int]] = {}
    for node, path in enumerate(net.group[: net.real_count]):
        for depth in range(1, len(path) + 1):
            members.setdefault(path[:depth], []).append(node)
    inner_levels = _inner_levels(members)
    stacks = _stacks(net, boxes)
    frames = []
    for path, nodes in sorted(members.items(), key=lambda entry: len(entry[0])):
        whole = _around([boxes[node] for node in nodes], inner_levels[path])
        if _is_undisturbed(whole, len(nodes), [stacks[column] for column in {net.column[node] for node in nodes}]):
            frames.append(Frame(path, whole))
            continue
        by_column: dict[int, list[Box]] = {}
        for node in nodes:
            by_column.setdefault(net.column[node], []).append(boxes[node])
        frames += [Frame(path, _around(part, inner_levels[path])) for _, part in sorted(by_column.items())]
    return frames


def _inner_levels(members: dict[tuple[str, ...], list[int]]) -> dict[tuple[str, ...], int]:
    """Return how many frames lie inside each group's frame, one in the other."""
    levels = dict.fromkeys(members, 0)
    for path in members:
        for depth in range(1, len(path)):
            levels[path[:depth]] = max(levels[path[:depth]], len(path) - depth)
    return levels


def _around(boxes: Sequence[Box], inner_levels: int) -> Box:
    padding = FRAME_PADDING * (inner_levels + 1)
    left, top = min(box.x for box in boxes) - padding, min(box.y for box in boxes) - FRAME_TOP * (inner_levels + 1)
    right, bottom = max(box.right for box in boxes) + padding, max(box.bottom for box in boxes) + padding
    return Box(left, top, right - left, bottom - top)


def _stacks(net: _Net, boxes: Sequence[Box]) -> list[list[float]]:
    """Return the middles of each column's boxes from top to bottom."""
    return [[boxes[node].middle for node in column if not net.is_waypoint(node)] for column in net.columns]


def _is_undisturbed(frame: Box, expected: int, stacks: Sequence[Sequence[float]]) -> bool:
    """Whether a frame holds the middles of no other boxes than those of its group."""
    found = sum(bisect_right(stack, frame.bottom) - bisect_left(stack, frame.y) for stack in stacks)
    return found == expected


def _moved_to_origin(
    boxes: Sequence[Box], routes: Sequence[tuple[int, int, list[Box]]], frames: Sequence[Frame]
) -> Layout:
    everything = [*boxes, *(frame.box for frame in frames), *(box for _, _, waypoints in routes for box in waypoints)]
    if not everything:
        return Layout([], [], [], 0.0, 0.0)
    left, top = min(box.x for box in everything), min(box.y for box in everything)

    def moved(box: Box) -> Box:
        return Box(box.x - left, box.y - top, box.width, box.height)

    return Layout(
        [moved(box) for box in boxes],
        [(parent, child, [moved(box) for box in waypoints]) for parent, child, waypoints in routes],
        [Frame(path, moved(box)) for path, box in frames],
        max(box.right for box in everything) - left,
        max(box.bottom for box in everything) - top,
    )
