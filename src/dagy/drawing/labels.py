"""What a drawing says about a task run, and how names are made harmless."""

from __future__ import annotations

import json
import re
from typing import Any

from dagy.spec import FlowSpec, TaskRunSpec, TaskSpec

#: A condition that is longer is cut, one that is nested deeper is abridged.
_LONGEST_CONDITION = 60
_DEEPEST_CONDITION = 4

#: Control characters and bidirectional overrides, which would change the terminal or the text around a name, and what
#: is no character at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def marks(spec: FlowSpec, node: TaskRunSpec) -> list[str]:
    """Return what is special about a task run in short words, such as `retries=3` and `timeout=2s`."""
    task = spec.tasks.get(node.task) or TaskSpec(node.task, "")

    def setting(name: str) -> object:
        return node.options.get(name, getattr(task, name))

    settings = (
        ("retries", setting("retries")),
        ("timeout", _duration(setting("timeout_seconds"))),
        ("concurrency", setting("concurrency_limit")),
        ("executor", setting("executor")),
        ("isolation", "" if task.isolation == "thread" else task.isolation),
        ("map", ",".join(node.map.get("over", ())) if isinstance(node.map, dict) else None),
        ("trigger", "" if node.trigger_rule == "all_succeeded" else node.trigger_rule),
        ("when", None if node.when is None else _cut(condition_text(node.when))),
    )
    kind = [] if node.kind == "task" else [node.kind]
    return kind + [f"{word}={value}" for word, value in settings if value]


def condition_text(encoded: Any, *, levels: int = _DEEPEST_CONDITION) -> str:
    """Return a condition of a FlowSpec much as its author wrote it.

    Args:
        levels: how deep to go; what is nested deeper becomes `…`.
    """
    if isinstance(encoded, dict) and "$condition" in encoded:
        if levels == 0:
            return "…"
        parts = [condition_text(each, levels=levels - 1) for each in encoded.get("args", ())]
        op = encoded["$condition"]
        return f"not {parts[0]}" if op == "not" else f"({f' {op} '.join(parts)})"
    if isinstance(encoded, dict) and "$ref" in encoded:
        return str(encoded["$ref"]) + "".join(f"[{json.dumps(key)}]" for key in encoded.get("path", ()))
    return json.dumps(encoded, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CONDITION else f"{text[: _LONGEST_CONDITION - 1]}…"


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
