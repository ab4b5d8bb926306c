"""Charts as inline SVG: values in, a string of markup out.

Colours are CSS classes, so the page decides them for light and dark. Every chart has a title and a description for
screen readers, and every mark a tooltip; the page puts a table with the same numbers below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

#: The width of the drawing area; the page scales it. 14 units of text stay readable on a phone.
WIDTH = 720.0
ROW = 26.0


class Bar(NamedTuple):
    """One bar or column; `tip` is its tooltip, `tone` its colour (`plain`, `good`, `bad`), `note` a second label."""

    label: str
    value: float
    text: str
    tip: str
    tone: str = "plain"
    note: str = ""


class Line(NamedTuple):
    """One line of a line chart, with a value or None for each position; `tone` is its colour class."""

    name: str
    values: Sequence[float | None]
    tone: str


class Cell(NamedTuple):
    """One cell of a heat map, placed by the index of its column and row."""

    column: int
    row: int
    value: float
    tip: str


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, ascending and evenly spaced, the first at or below `low` and the last at or above `high`.

    Args:
        low: The smallest value to show.
        high: The largest value to show; one that is not clearly above `low` counts as `low + 1`.
        count: About how many steps there should be, 1 or more.
    """
    high = high if high - low > 0.001 else low + 1
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def bar_chart(name: str, bars: Sequence[Bar], *, title: str, description: str) -> str:
    """Horizontal bars from a common zero; negative values go to the left."""
    low, ticks = _axis([bar.value for bar in bars])
    left, right, bottom = 276.0, WIDTH - 62.0, len(bars) * ROW + 6
    scale = _Scale(low, ticks[-1], left, right)
    body = [_vertical_rule(scale(tick), 0, bottom, strong=tick == 0) for tick in ticks]
    body += [_text(scale(tick), bottom + 18, _number(tick), "tick middle") for tick in ticks]
    for index, bar in enumerate(bars):
        body.append(_horizontal_bar(bar, scale, index * ROW + 6))
    return _svg(name, bottom + 28, title, description, body)


def column_chart(name: str, columns: Sequence[Bar], *, title: str, description: str, height: float = 230.0) -> str:
    """Upright columns from zero, each with its number above and its label below."""
    ticks = nice_ticks(0.0, max(column.value for column in columns), 4)
    left, top, slot = 40.0, 22.0, (WIDTH - 48.0) / len(columns)
    scale = _Scale(ticks[0], ticks[-1], height, top)
    body = _horizontal_rules(ticks, scale, left)
    for index, column in enumerate(columns):
        x, y, width = left + index * slot + slot * 0.16, scale(column.value), slot * 0.68
        body.append(_rect(x, y, width, height - y, f"mark {column.tone}", column.tip))
        body.append(_text(x + width / 2, y - 6, column.text, "value middle"))
        body.append(_text(x + width / 2, height + 19, column.label, "label middle"))
        body.append(_text(x + width / 2, height + 36, column.note, "note middle") if column.note else "")
    below = 45 if any(column.note for column in columns) else 28
    return _svg(name, height + below, title, description, body)


def spark_columns(
    name: str, columns: Sequence[Bar], *, marks: Iterable[tuple[int, str]], title: str, description: str
) -> str:
    """Many thin columns without labels of their own; `marks` writes a label below some of them, by index."""
    height, left, top = 190.0, 40.0, 12.0
    ticks = nice_ticks(0.0, max(column.value for column in columns), 4)
    scale, slot = _Scale(ticks[0], ticks[-1], height, top), (WIDTH - 48.0) / len(columns)
    body = _horizontal_rules(ticks, scale, left)
    for index, column in enumerate(columns):
        y = scale(column.value)
        body.append(_rect(left + index * slot, y, max(slot - 0.4, 0.6), height - y, f"mark {column.tone}", column.tip))
        if column.text:
            body.append(_text(left + (index + 1.5) * slot + 4, y + 10, column.text, "value"))
    body += [_text(left + index * slot, height + 19, label, "label") for index, label in marks]
    return _svg(name, height + 28, title, description, body)


def line_chart(name: str, labels: Sequence[str], lines: Sequence[Line], *, title: str, description: str) -> str:
    """Lines over common positions, each named at its right end; a None leaves a gap."""
    height, left, top, right = 290.0, 40.0, 12.0, WIDTH - 140.0
    low, ticks = _axis([value for line in lines for value in line.values if value is not None])
    scale = _Scale(low, ticks[-1], height, top)
    across = _Scale(0, max(len(labels) - 1, 1), left + 14, right)
    body = _horizontal_rules(ticks, scale, left, right + 10)
    body += [_text(across(index), height + 19, label, "label middle") for index, label in enumerate(labels)]
    for line in lines:
        body += _line_marks(line, labels, across, scale)
    return _svg(name, height + 28, title, description, body)


def heat_map(
    name: str, cells: Sequence[Cell], *, columns: Sequence[str], rows: Sequence[str], title: str, description: str
) -> str:
    """A grid whose cells are the darker the higher their value; missing cells stay empty."""
    left, top, height = 40.0, 4.0, 24.0
    width = (WIDTH - left - 8) / len(columns)
    highest = max((cell.value for cell in cells), default=1.0) or 1.0
    body = [_text(left - 8, top + (index + 0.68) * height, label, "label end") for index, label in enumerate(rows)]
    bottom = top + len(rows) * height
    body += [
        _text(left + (index + 0.5) * width, bottom + 19, label, "label middle") for index, label in enumerate(columns)
    ]
    for cell in cells:
        x, y = left + cell.column * width, top + cell.row * height
        strength = 0.06 + 0.94 * max(cell.value, 0.0) / highest
        body.append(_rect(x + 1, y + 1, width - 2, height - 2, "mark bad", cell.tip, opacity=strength))
    return _svg(name, bottom + 28, title, description, body)


class _Scale(NamedTuple):
    """Maps values from `low` to `high` onto places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _axis(values: Sequence[float]) -> tuple[float, list[float]]:
    """Where an axis that holds zero and all values begins, and its ticks; below zero it ends soon after the values."""
    low, high = min(0.0, *values), max(0.0, *values)
    begin = low * 1.15
    return begin, [tick for tick in nice_ticks(low, high) if tick >= begin]


def _nice_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(magnitude * factor for factor in (1, 2, 2.5, 5, 10, 20) if magnitude * factor >= rough)


def _horizontal_bar(bar: Bar, scale: _Scale, y: float) -> str:
    zero, end = scale(0.0), scale(bar.value)
    return (
        _text(scale.start - 12, y + 14, bar.label, "label end")
        + _rect(min(zero, end), y, abs(end - zero), ROW - 8, f"mark {bar.tone}", bar.tip)
        + _text(max(zero, end) + 6, y + 14, bar.text, "value")
    )


def _line_marks(line: Line, labels: Sequence[str], across: _Scale, scale: _Scale) -> list[str]:
    places = [(across(index), scale(value)) for index, value in enumerate(line.values) if value is not None]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = [f'<polyline class="line {line.tone}" points="{drawn}"/>']
    for index, value in enumerate(line.values):
        if value is not None:
            tip = f"{line.name}, {labels[index]}: {value:.1f}"
            marks.append(_dot(across(index), scale(value), line.tone, tip))
    if places:
        marks.append(_text(places[-1][0] + 12, places[-1][1] + 5, line.name, f"name {line.tone}"))
    return marks


def _horizontal_rules(ticks: Sequence[float], scale: _Scale, left: float, right: float = WIDTH - 8) -> list[str]:
    rules = []
    for tick in ticks:
        y, tone = scale(tick), "rule strong" if tick == 0 else "rule"
        rules.append(f'<line class="{tone}" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>')
        rules.append(_text(left - 8, y + 5, _number(tick), "tick end"))
    return rules


def _vertical_rule(x: float, top: float, bottom: float, *, strong: bool) -> str:
    tone = "rule strong" if strong else "rule"
    return f'<line class="{tone}" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'


def _rect(x: float, y: float, width: float, height: float, tone: str, tip: str, *, opacity: float = 1.0) -> str:
    faded = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0.0):.1f}"'
    return f'<rect class="{tone}" {place} rx="1.5"{faded}><title>{escape(tip)}</title></rect>'


def _dot(x: float, y: float, tone: str, tip: str) -> str:
    return f'<circle class="dot {tone}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(tip)}</title></circle>'


def _text(x: float, y: float, text: str, tone: str) -> str:
    return f'<text class="{tone}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _svg(name: str, height: float, title: str, description: str, body: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{''.join(body)}</svg>"
    )
