"""A flow's graph as text: a tree for the terminal, Mermaid and Graphviz for documents.

Pure: a FlowSpec goes in, lines come out. Nothing recurses, and the work grows with the graph's task runs and edges, so
long chains and wide fans are drawn, too. `drawing_svg` draws the picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dagy.graph import DagState
from dagy.layout import shared_depth
from dagy.spec import FlowSpec, TaskRunSpec, TaskSpec

#: Receives what a piece of a line is (`branch`, `name`, `task`, `mark`, `reference`) and its text, gives it coloured.
Paint = Callable[[str, str], str]

#: A branch this many levels deep goes on at the left margin: deeper ones would leave the screen.
DEEPEST_LEVEL = 16

#: How many of a task run's references are named on its line.
_NAMED_REFERENCES = 5

#: Control characters and bidirectional overrides, which would change the terminal or the text around a name, and what
#: is no character at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

#: What might mean something to Mermaid, to Markdown (which Mermaid reads in labels: lists, emphasis) or to HTML.
_MERMAID_SPECIAL = re.compile(
    r"[^A-Za-z0-9 _.,:=/()\[\]+\x80-\U0010ffff-]|^[-+0-9]|(?<![A-Za-z0-9_])_|_(?![A-Za-z0-9])"
)


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


class Links:
    """Who follows whom in a graph. Task runs are integers, positions in `FlowSpec.task_runs`.

    Attributes:
        parents: what each task run depends on, each parent once.
        children: what depends on each task run, in the order of the flow.

    Raises:
        DependencyCycleError: task runs wait for each other or for one that does not exist.
    """

    def __init__(self, spec: FlowSpec) -> None:
        DagState(spec)
        position = {node.id: index for index, node in enumerate(spec.task_runs)}
        self.parents = [[position[parent] for parent in dict.fromkeys(node.depends_on)] for node in spec.task_runs]
        self.children: list[list[int]] = [[] for _ in spec.task_runs]
        for index, parents in enumerate(self.parents):
            for parent in parents:
                self.children[parent].append(index)

    @property
    def edge_count(self) -> int:
        return sum(map(len, self.parents))


def tree(spec: FlowSpec, *, glyphs: Glyphs = UNICODE, paint: Paint = lambda _, text: text) -> Iterator[str]:
    """Yield the graph as a tree, a line per task run.

    A task run hangs below the last of its parents, so it comes after all of them; the other parents name it at the end
    of their line.

    Raises:
        DependencyCycleError: as `Links`.
    """
    links = Links(spec)
    yield f"{paint('name', printable(f'{spec.name}:{spec.version}'))} ({_counts(spec, links)})"
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


def _counts(spec: FlowSpec, links: Links) -> str:
    if not spec.task_runs:
        return "no task runs"
    return f"{_counted(len(spec.task_runs), 'task run')}, {_counted(links.edge_count, 'edge')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def marks(spec: FlowSpec, node: TaskRunSpec) -> list[str]:
    """Return what is special about a task run in short words, such as `retries=3` and `timeout=2s`."""
    task = spec.tasks.get(node.task) or TaskSpec(node.task, "")

    def setting(name: str) -> object:
        return node.options.get(name, getattr(task, name))

    words = [] if node.kind == "task" else [node.kind]
    for word, value in (
        ("retries", setting("retries")),
        ("timeout", _duration(setting("timeout_seconds"))),
        ("concurrency", setting("concurrency_limit")),
        ("executor", setting("executor")),
    ):
        if value:
            words.append(f"{word}={value}")
    words += [word for word in ("map", "when") if getattr(node, word) is not None]
    return words


def _duration(seconds: object) -> str | None:
    return f"{seconds:.12g}s" if isinstance(seconds, (int, float)) else None


def captions(spec: FlowSpec, node: TaskRunSpec) -> list[str]:
    """Return the lines of a task run's box: its id, and if there is more to say, that below it."""
    second = marks(spec, node)
    if not node.id.startswith(f"{node.task}-"):
        second.insert(0, node.task)
    return [node.id, " ".join(second)] if second else [node.id]


def mermaid(spec: FlowSpec) -> Iterator[str]:
    """Yield the graph as lines of a Mermaid flowchart, sub-flows as subgraphs.

    Raises:
        DependencyCycleError: as `Links`.
    """
    links = Links(spec)
    yield "flowchart LR"
    yield from _nested(
        spec,
        opening=lambda number, name: f'subgraph g{number}["{_mermaid_text(name)}"]',
        closing="end",
        member=lambda index: f'n{index}["{_mermaid_label(captions(spec, spec.task_runs[index]))}"]',
    )
    for child, parents in enumerate(links.parents):
        for parent in parents:
            yield f"  n{parent} --> n{child}"


def _mermaid_label(lines: Sequence[str]) -> str:
    return "<br/>".join(map(_mermaid_text, lines))


def _mermaid_text(text: str) -> str:
    """Escape what Mermaid, Markdown or HTML might take for their own, as Mermaid's decimal entities."""
    lines = (_MERMAID_SPECIAL.sub(lambda match: f"#{ord(match[0])};", printable(line)) for line in text.split("\n"))
    return "<br/>".join(lines)


def dot(spec: FlowSpec) -> Iterator[str]:
    """Yield the graph as lines of a Graphviz digraph, sub-flows as clusters.

    Raises:
        DependencyCycleError: as `Links`.
    """
    links = Links(spec)
    ids = [f'"{_dot_id(node.id)}"' for node in spec.task_runs]
    yield f'digraph "{_dot_id(spec.name)}" {{'
    yield "  rankdir=LR;"
    yield '  node [shape=box, style=rounded, fontname="Helvetica"];'
    yield '  graph [fontname="Helvetica", style=rounded];'
    yield from _nested(
        spec,
        opening=lambda number, name: f'subgraph cluster_{number} {{ label="{_dot_label([name])}";',
        closing="}",
        member=lambda index: f'{ids[index]} [label="{_dot_label(captions(spec, spec.task_runs[index]))}"];',
    )
    for child, parents in enumerate(links.parents):
        for parent in parents:
            yield f"  {ids[parent]} -> {ids[child]};"
    yield "}"


def _dot_id(text: str) -> str:
    return printable(text.replace("\\", "\\\\").replace('"', '\\"'))


def _dot_label(lines: Sequence[str]) -> str:
    """Escape a label, in which Graphviz reads backslashes and also HTML's entities."""
    shown = (printable(line) for text in lines for line in text.split("\n"))
    return "\\n".join(line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in shown)


def _nested(
    spec: FlowSpec, *, opening: Callable[[int, str], str], closing: str, member: Callable[[int], str]
) -> Iterator[str]:
    """Yield each task run's line inside the lines that open and close its groups, indented by their depth."""
    paths = group_paths(spec)
    opened = 0
    here: tuple[str, ...] = ()
    for index, path in (*_by_group(paths), (-1, ())):
        shared = shared_depth(here, path)
        for depth in range(len(here), shared, -1):
            yield "  " * depth + closing
        for depth in range(shared, len(path)):
            yield "  " * (depth + 1) + opening(opened, path[depth])
            opened += 1
        if index >= 0:
            yield "  " * (len(path) + 1) + member(index)
        here = path


def group_paths(spec: FlowSpec) -> list[tuple[str, ...]]:
    """Return the groups that each task run is in, the outermost first."""
    return [tuple(node.group.split("/")) if node.group else () for node in spec.task_runs]


def _by_group(paths: Sequence[tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the task runs such that those of a group are together, groups in the order in which they first appear."""
    ranks: dict[tuple[str, ...], int] = {}
    for path in dict.fromkeys(paths):
        for depth in range(1, len(path) + 1):
            ranks.setdefault(path[:depth], len(ranks))
    keys = {path: [ranks[path[:depth]] for depth in range(1, len(path) + 1)] for path in dict.fromkeys(paths)}
    return sorted(enumerate(paths), key=lambda entry: keys[entry[1]])


def printable(text: str) -> str:
    """Return the text on one line, with its control characters spelled out as Python would."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)
