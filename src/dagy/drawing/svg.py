"""A flow's graph as a picture: one SVG file that needs nothing else, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unicodedata import combining, east_asian_width
from xml.sax.saxutils import escape, quoteattr

from dagy.drawing.labels import captions, counts, printable
from dagy.drawing.layout import FRAME_PADDING, Box, Frame, lay_out
from dagy.drawing.links import Links, group_paths
from dagy.spec import FlowSpec, TaskRunSpec

#: Ids stand in a monospaced font, whose characters are 0.6 of its size wide: so boxes fit without measuring.
_CELL = 7.85
_SMALL_CELL = 6.6
_PADDING = 14.0
_LONGEST_NAME = 36
_LONGEST_CAPTION = 48
_LINE_HEIGHT = 36.0
_TWO_LINES_HEIGHT = 50.0
_MARGIN = 28.0
_HEADING = 44.0
_ARROW = 7.0

#: How many colours tell tasks apart; as many `.t<n>` rules are in the style.
_COLORS = ("#5b8def", "#12a594", "#e5803b", "#9470e0", "#d6569c", "#6b9b37", "#c9a227", "#4aa3c7")

_STYLE = """\
svg{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.page{fill:#fbfbfd}
.heading{font-size:16px;font-weight:600;fill:#1c2430}
.about{font-size:12px;font-weight:400;fill:#6b7686}
.box{fill:#fff;stroke:#d3d9e2;stroke-width:1.2}
.name{font:600 13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1c2430}
.caption{font-size:11px;fill:#6b7686}
.edge{fill:none;stroke:#a3aebd;stroke-width:1.6}
.head{fill:#a3aebd}
.frame{fill:#5b7fb0;fill-opacity:.06;stroke:#5b7fb0;stroke-opacity:.45;stroke-dasharray:5 4}
.frame-name{font-size:11px;font-weight:600;fill:#58708f}
.node:hover .box{stroke:#5b8def;stroke-width:2}
.edge:hover{stroke:#5b8def;stroke-width:2.6}
@media (prefers-color-scheme:dark){
.page{fill:#12161d}
.heading,.name{fill:#e8edf4}
.about,.caption{fill:#94a0b1}
.box{fill:#1b212b;stroke:#36404f}
.edge{stroke:#5f6c7e}
.head{fill:#5f6c7e}
.frame{fill:#7fa3d6;fill-opacity:.07;stroke:#7fa3d6;stroke-opacity:.4}
.frame-name{fill:#9db7da}
}"""


def svg(spec: FlowSpec) -> Iterator[str]:
    """Yield the graph as lines of an SVG document: columns from left to right, sub-flows in frames.

    Raises:
        DependencyCycleError: task runs wait for each other or for one that does not exist.
    """
    links = Links(spec)
    labels = [_label(spec, node) for node in spec.task_runs]
    layout = lay_out(links.parents, [_size(label) for label in labels], group_paths(spec))
    heading = printable(f"{spec.name}:{spec.version}")
    about = counts(spec, edges=links.edge_count)
    left, top = _MARGIN, _MARGIN + _HEADING
    width = max(layout.width, 9.5 * _cells(heading) + 6.5 * len(about) + 20) + 2 * _MARGIN
    height = layout.height + _HEADING + 2 * _MARGIN
    yield from _opening(heading, about, width, height)
    yield f'<g transform="translate({left:g} {top:g})">'
    yield from (_frame(frame) for frame in layout.frames)
    for parent, child, waypoints in layout.routes:
        ends = f"data-from={_attribute(spec.task_runs[parent].id)} data-to={_attribute(spec.task_runs[child].id)}"
        route = _route(layout.boxes[parent], waypoints, layout.boxes[child])
        yield f'<path class="edge" {ends} d="{route}" marker-end="url(#dagy-head)"/>'
    colors = {task: index % len(_COLORS) for index, task in enumerate(spec.tasks)}
    for node, label, box in zip(spec.task_runs, labels, layout.boxes, strict=True):
        yield _node(spec, node, label=label, box=box, color=colors.get(node.task, 0))
    yield "</g>"
    yield "</svg>"


def _opening(heading: str, about: str, width: float, height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="dagy-title dagy-desc">'
    )
    yield f'<title id="dagy-title">{escape(heading)}</title>'
    yield f'<desc id="dagy-desc">The graph of the flow {escape(heading)}: {about}.</desc>'
    yield f"<style>{_STYLE}"
    yield from (f".t{index}{{fill:{color}}}" for index, color in enumerate(_COLORS))
    yield "</style>"
    yield (
        '<defs><marker id="dagy-head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0.5 0.5 8 4 0.5 7.5 2 4z"/></marker></defs>'
    )
    yield '<rect class="page" width="100%" height="100%" rx="12"/>'
    yield (
        f'<text class="heading" x="{_MARGIN:g}" y="{_MARGIN + 12:g}">{escape(heading)}'
        f'<tspan class="about" dx="12">{about}</tspan></text>'
    )


def _label(spec: FlowSpec, node: TaskRunSpec) -> list[str]:
    name, *more = (printable(line) for line in captions(spec, node))
    return [_cut(name, _LONGEST_NAME), *(_cut(line, _LONGEST_CAPTION) for line in more)]


def _size(label: Sequence[str]) -> tuple[float, float]:
    width = max(_cells(label[0]) * _CELL, *(_cells(line) * _SMALL_CELL for line in label[1:]), 56.0)
    return width + 2 * _PADDING, _LINE_HEIGHT if len(label) == 1 else _TWO_LINES_HEIGHT


def _frame(frame: Frame) -> str:
    box, name = frame.box, frame.path[-1]
    room = max(4, int((box.width - FRAME_PADDING) / 6.4))
    return (
        f'<g class="group" data-group={_attribute("/".join(frame.path))}>'
        f'<rect class="frame" {_rectangle(box)} rx="12"/>'
        f'<text class="frame-name" x="{_number(box.x + FRAME_PADDING)}" y="{_number(box.y + 17)}">'
        f"{escape(_cut(printable(name), room))}</text></g>"
    )


def _node(spec: FlowSpec, node: TaskRunSpec, *, label: Sequence[str], box: Box, color: int) -> str:
    x = box.x + _PADDING
    first = box.middle + (4.5 if len(label) == 1 else -3.5)
    second = f'<text class="caption" x="{_number(x)}" y="{_number(first + 17)}">' if len(label) > 1 else ""
    told = "\n".join(printable(line) for line in (*captions(spec, node), *([f"in {node.group}"] if node.group else [])))
    return (
        f'<g class="node" data-id={_attribute(node.id)}><title>{escape(told)}</title>'
        f'<rect class="box" {_rectangle(box)} rx="8"/>'
        f'<path class="t{color}" d="{_stripe(box)}"/>'
        f'<text class="name" x="{_number(x)}" y="{_number(first)}">{escape(label[0])}</text>'
        + (f"{second}{escape(label[1])}</text>" if second else "")
        + "</g>"
    )


def _stripe(box: Box) -> str:
    """The coloured left edge of a box, round where the box is."""
    x, top, bottom = _number(box.x), _number(box.y + 8), _number(box.bottom - 8)
    return (
        f"M{_number(box.x + 4)} {_number(box.y + 0.9)}Q{x} {_number(box.y + 2)} {x} {top}V{bottom}"
        f"Q{x} {_number(box.bottom - 2)} {_number(box.x + 4)} {_number(box.bottom - 0.9)}z"
    )


def _route(parent: Box, waypoints: Sequence[Box], child: Box) -> str:
    """A path from the right side of one box, flat through each waypoint, to the left side of another."""
    x, y = parent.right, parent.middle
    parts = [f"M{_number(x)} {_number(y)}"]
    for waypoint in waypoints:
        parts.append(_curve(x, y, waypoint.x, waypoint.middle))
        parts.append(f"H{_number(waypoint.right)}")
        x, y = waypoint.right, waypoint.middle
    parts.append(_curve(x, y, child.x - _ARROW - 1, child.middle))
    return "".join(parts)


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (to_x - x) / 2
    return " ".join(
        (f"C{_number(x + bend)}", _number(y), _number(to_x - bend), _number(to_y), _number(to_x), _number(to_y))
    )


def _rectangle(box: Box) -> str:
    return f'x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}"'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _attribute(text: str) -> str:
    return quoteattr(printable(text))


def _cells(text: str) -> int:
    """How many columns of a monospaced font a text takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _cut(text: str, cells: int) -> str:
    if len(text) <= cells and _cells(text) <= cells:
        return text
    kept, used = [], 1
    for char in text:
        used += _cells(char)
        if used > cells:
            break
        kept.append(char)
    return "".join(kept) + "…"
