"""Where the boxes and edges of a drawn graph go: columns from left to right, few crossings, straight lines.

The method of Sugiyama: a column is the longest path to it, orders come from barycenter sweeps, heights from least
squares. Pure, without recursion, and in time that grows a little faster than the graph.

Considered instead: the `dot` program, which users would have to install; grandalf and igraph's `layout_sugiyama`, which
are GPL (igraph is 3 MB of C besides); networkx, which neither orders columns nor routes edges.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from dagy.drawing.columns import Net, columns_of, order_columns
from dagy.drawing.links import shared_depth

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
    net = Net(parents, groups, columns_of(parents))
    order_columns(net)
    heights = [size[1] for size in sizes] + [0.0] * (len(net.column) - len(sizes))
    middles = _middles(net, heights)
    _part_groups(net, middles, heights)
    lefts, widths = _column_places(net, sizes, middles)
    places = [
        Box(lefts[column], middles[node] - heights[node] / 2, widths[column], heights[node])
        for node, column in enumerate(net.column)
    ]
    boxes = places[: len(sizes)]
    routes = [(parent, child, [places[waypoint] for waypoint in waypoints]) for parent, child, waypoints in net.routes]
    return _moved_to_origin(boxes, routes, _frames(net, boxes))


def _middles(net: Net, heights: Sequence[float]) -> list[float]:
    """Return the height of each node's middle: near its neighbours', no closer to the next one than allowed."""
    middles = [0.0] * len(net.column)
    levels = _inner_levels(net.group)
    offsets = [_offsets(net, column, heights, levels) for column in net.columns]
    for column, offset in zip(net.columns, offsets, strict=True):
        for node, each in zip(column, offset, strict=True):
            middles[node] = each - offset[-1] / 2
    both = [left + right for left, right in zip(net.left, net.right, strict=True)]
    for neighbours in (net.left, net.right, net.left, net.right, both, both, net.left, both):
        for index in range(len(net.columns)):
            # Towards the left neighbours the columns follow each other from left to right, and the other way round.
            at = -1 - index if neighbours is net.right else index
            wishes = [_wish(net, node, neighbours[node], middles) for node in net.columns[at]]
            # What has no neighbours at all makes way for what has.
            weights = [1.0 if both[node] else 0.01 for node in net.columns[at]]
            for node, middle in zip(net.columns[at], spread(wishes, offsets[at], weights), strict=True):
                middles[node] = middle
    return middles


def _wish(net: Net, node: int, neighbours: Sequence[int], middles: Sequence[float]) -> float:
    if not neighbours:
        return middles[node] if net.left[node] or net.right[node] else 0.0
    total = weight = 0.0
    for each in neighbours:
        # Long edges should be straight before short ones are.
        pull = 1.0 + 3.0 * net.is_waypoint(node) * net.is_waypoint(each) + 1.0 * net.is_waypoint(each)
        total += pull * middles[each]
        weight += pull
    return total / weight


def spread(wishes: Sequence[float], offsets: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the places nearest to the wishes, by least squares, that keep the order and the distances.

    Args:
        wishes: where each would like to be.
        offsets: where each would be if all stood as close as allowed; the first is 0.
        weights: how much each wish counts, above 0.
    """
    # With the distances subtracted, places may be equal but must not decrease: pool those that violate that.
    pools: list[tuple[float, float, int]] = []
    for wish, offset, weight in zip(wishes, offsets, weights, strict=True):
        mean, size = wish - offset, 1
        while pools and pools[-1][0] >= mean:
            last, last_weight, last_size = pools.pop()
            mean = (last * last_weight + mean * weight) / (last_weight + weight)
            weight += last_weight
            size += last_size
        pools.append((mean, weight, size))
    pooled = [mean for mean, _, size in pools for _ in range(size)]
    return [place + offset for place, offset in zip(pooled, offsets, strict=True)]


def _offsets(
    net: Net, column: Sequence[int], heights: Sequence[float], levels: Mapping[tuple[str, ...], int]
) -> list[float]:
    offsets = [0.0]
    for upper, lower in pairwise(column):
        gap = _WAYPOINT_GAP if net.is_waypoint(upper) or net.is_waypoint(lower) else _ROW_GAP
        inner = shared_depth(net.group[upper], net.group[lower]) + 1
        gap += FRAME_PADDING * (levels.get(net.group[upper][:inner], -1) + 1) * (len(net.group[upper]) >= inner)
        gap += FRAME_TOP * (levels.get(net.group[lower][:inner], -1) + 1) * (len(net.group[lower]) >= inner)
        offsets.append(offsets[-1] + heights[upper] / 2 + gap + heights[lower] / 2)
    return offsets[: len(column)]


def _part_groups(net: Net, middles: list[float], heights: Sequence[float]) -> None:
    """Move outermost groups down, each as a whole, until their frames keep clear of what is above them.

    Groups of which each is above the other somewhere stay as they are.
    """
    if not any(net.group):
        return
    levels = _inner_levels(net.group)
    blocks: dict[object, list[int]] = {}
    for node, path in enumerate(net.group):
        blocks.setdefault(path[0] if path else node, []).append(node)
    block_of = {node: name for name, nodes in blocks.items() for node in nodes}
    above: dict[object, set[object]] = {name: set() for name in blocks}
    for column in net.columns:
        for upper, lower in pairwise(column):
            if block_of[upper] != block_of[lower]:
                above[block_of[lower]].add(block_of[upper])
    bottoms: dict[object, float] = {}
    for name in _sorted_by_dependency(above):
        nodes = blocks[name]
        level = levels.get(net.group[nodes[0]][:1], -1) + 1
        top = min(middles[node] - heights[node] / 2 for node in nodes) - FRAME_TOP * level
        down = max((bottoms[other] + _WAYPOINT_GAP - top for other in above[name]), default=0.0)
        for node in nodes if down > 0 else ():
            middles[node] += down
        bottoms[name] = max(middles[node] + heights[node] / 2 for node in nodes) + FRAME_PADDING * level


def _sorted_by_dependency(above: Mapping[object, set[object]]) -> list[object]:
    """Return the keys such that each comes after those above it, or none if there is no such order."""
    waiting_for = {name: len(names) for name, names in above.items()}
    below: dict[object, list[object]] = {name: [] for name in above}
    for name, names in above.items():
        for upper in names:
            below[upper].append(name)
    ready = [name for name, count in waiting_for.items() if not count]
    for name in ready:
        for lower in below[name]:
            waiting_for[lower] -= 1
            if not waiting_for[lower]:
                ready.append(lower)
    return ready if len(ready) == len(above) else []


def _column_places(
    net: Net, sizes: Sequence[tuple[float, float]], middles: Sequence[float]
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


def _frame_room(net: Net, column: Sequence[int]) -> float:
    return FRAME_PADDING * max((len(net.group[node]) for node in column), default=0)


def _frames(net: Net, boxes: Sequence[Box]) -> list[Frame]:
    members: dict[tuple[str, ...], list[int]] = {}
    for node, path in enumerate(net.group[: net.real_count]):
        for depth in range(1, len(path) + 1):
            members.setdefault(path[:depth], []).append(node)
    inner_levels = _inner_levels(members)
    columns = [[boxes[node] for node in column if not net.is_waypoint(node)] for column in net.columns]
    frames = []
    for path, nodes in sorted(members.items(), key=lambda entry: len(entry[0])):
        whole = _around([boxes[node] for node in nodes], inner_levels[path])
        spanned = [net.column[node] for node in nodes]
        if _is_undisturbed(whole, len(nodes), columns[min(spanned) : max(spanned) + 1]):
            frames.append(Frame(path, whole))
            continue
        by_column: dict[int, list[Box]] = {}
        for node in nodes:
            by_column.setdefault(net.column[node], []).append(boxes[node])
        frames += [Frame(path, _around(part, inner_levels[path])) for _, part in sorted(by_column.items())]
    return frames


def _inner_levels(groups: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Return how many frames lie inside each group's frame, one in the other."""
    levels: dict[tuple[str, ...], int] = {}
    for path in dict.fromkeys(groups):
        for depth in range(1, len(path) + 1):
            levels[path[:depth]] = max(levels.get(path[:depth], 0), len(path) - depth)
    return levels


def _around(boxes: Sequence[Box], inner_levels: int) -> Box:
    padding = FRAME_PADDING * (inner_levels + 1)
    left, top = min(box.x for box in boxes) - padding, min(box.y for box in boxes) - FRAME_TOP * (inner_levels + 1)
    right, bottom = max(box.right for box in boxes) + padding, max(box.bottom for box in boxes) + padding
    return Box(left, top, right - left, bottom - top)


def _is_undisturbed(frame: Box, expected: int, columns: Sequence[Sequence[Box]]) -> bool:
    """Whether a frame touches no other boxes than those of its group; each column is sorted from top to bottom."""
    found = 0
    for column in columns:
        first = bisect_left(column, frame.y, key=lambda box: box.bottom)
        found += bisect_right(column, frame.bottom, key=lambda box: box.y) - first
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
