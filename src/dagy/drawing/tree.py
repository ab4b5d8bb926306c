"""The graph as a tree of text, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from dagy.drawing.labels import counts, marks, printable
from dagy.drawing.links import Links
from dagy.spec import FlowSpec

#: Receives what a piece of a line is (`branch`, `name`, `task`, `mark`, `reference`) and its text, gives it coloured.
Paint = Callable[[str, str], str]

#: A branch this many levels deep goes on at the left margin: deeper ones would leave the screen.
DEEPEST_LEVEL = 16

#: How many of a task run's references are named on its line.
_NAMED_REFERENCES = 5


class Glyphs(NamedTuple):
    """The characters of which a tree's branches are made."""

    branch: str = "├─ "
    last_branch: str = "└─ "
    line: str = "│  "
    gap: str = "   "
    arrow: str = "→"


UNICODE = Glyphs()

#: For terminals that can not show box-drawing characters.
ASCII = Glyphs("|- ", "`- ", "|  ", "   ", "->")


def tree(spec: FlowSpec, *, glyphs: Glyphs = UNICODE, paint: Paint = lambda _, text: text) -> Iterator[str]:
    """Yield the graph as a tree, a line per task run.

    A task run hangs below the last of its parents, so it comes after all of them; the other parents name it at the end
    of their line.

    Raises:
        DependencyCycleError: as `Links`.
    """
    links = Links(spec)
    yield f"{paint('name', printable(f'{spec.name}:{spec.version}'))} ({counts(spec, edges=links.edge_count)})"
    arranged = _arrange(links)
    todo = [(index, "", index == arranged.tops[-1]) for index in reversed(arranged.tops)]
    while todo:
        index, prefix, is_last = todo.pop()
        branch = prefix + (glyphs.last_branch if is_last else glyphs.branch)
        yield paint("branch", branch) + _tree_line(spec, index, arranged, glyphs, paint)
        inner = prefix + (glyphs.gap if is_last else glyphs.line)
        below = arranged.below[index]
        todo += [(child, inner, child == below[-1]) for child in reversed(below)]


class _Arranged(NamedTuple):
    """Where each task run stands in the tree.

    Attributes:
        tops: those at the left margin.
        below: those drawn below each task run.
        referred: those that each task run only names, because they are drawn further down.
    """

    tops: list[int]
    below: list[list[int]]
    referred: list[list[int]]


def _arrange(links: Links) -> _Arranged:
    waiting_for = [len(parents) for parents in links.parents]
    tops = [index for index, count in enumerate(waiting_for) if not count]
    below: list[list[int]] = [[] for _ in waiting_for]
    referred: list[list[int]] = [[] for _ in waiting_for]
    for top in tops:  # grows while branches are cut off
        todo = [(top, 1)]
        while todo:
            index, level = todo.pop()
            for child in links.children[index]:
                waiting_for[child] -= 1
                if not waiting_for[child] and level < DEEPEST_LEVEL:
                    below[index].append(child)
                    continue
                referred[index].append(child)
                if not waiting_for[child]:
                    tops.append(child)
            todo += [(child, level + 1) for child in reversed(below[index])]
    return _Arranged(tops, below, referred)


def _tree_line(spec: FlowSpec, index: int, arranged: _Arranged, glyphs: Glyphs, paint: Paint) -> str:
    node = spec.task_runs[index]
    parts = [paint("name", printable(node.id)), paint("task", printable(node.task))]
    parts += [paint("mark", printable(mark)) for mark in marks(spec, node)]
    if node.group is not None:
        parts.append(paint("mark", f"group={printable(node.group)}"))
    referred = arranged.referred[index]
    if referred:
        names = ", ".join(printable(spec.task_runs[child].id) for child in referred[:_NAMED_REFERENCES])
        more = len(referred) - _NAMED_REFERENCES
        names += f" and {more:,} more" if more > 0 else ""
        parts.append(paint("reference", f"{glyphs.arrow} {names} (see below)"))
    return " ".join(parts)
