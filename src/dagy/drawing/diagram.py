"""The graph in the languages of Mermaid and Graphviz, for documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from dagy.drawing.labels import captions, printable
from dagy.drawing.links import Links, group_paths, shared_depth
from dagy.spec import FlowSpec

#: What might mean something to Mermaid, to Markdown (which Mermaid reads in labels: lists, emphasis) or to HTML.
_MERMAID_SPECIAL = re.compile(
    r"[^A-Za-z0-9 _.,:=/()\[\]+\x80-\U0010ffff-]|^[-+0-9]|:(?=fa-)|(?<![A-Za-z0-9_])_|_(?![A-Za-z0-9])"
)


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


def _by_group(paths: Sequence[tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the task runs such that those of a group are together, groups in the order in which they first appear."""
    ranks: dict[tuple[str, ...], int] = {}
    for path in dict.fromkeys(paths):
        for depth in range(1, len(path) + 1):
            ranks.setdefault(path[:depth], len(ranks))
    keys = {path: [ranks[path[:depth]] for depth in range(1, len(path) + 1)] for path in dict.fromkeys(paths)}
    return sorted(enumerate(paths), key=lambda entry: keys[entry[1]])
