"""What a drawing says about a task run, and how names are made harmless."""

from __future__ import annotations

import re

from dagy.spec import FlowSpec, TaskRunSpec, TaskSpec

#: Control characters and bidirectional overrides, which would change the terminal or the text around a name, and what
#: is no character at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


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


def counts(spec: FlowSpec, *, edges: int) -> str:
    """Return how large a graph is, in words."""
    if not spec.task_runs:
        return "no task runs"
    return f"{_counted(len(spec.task_runs), 'task run')}, {_counted(edges, 'edge')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """Return the text on one line, with its control characters spelled out as Python would."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)
