"""What is wrong with a flow before anything is spent: its graph, annotations and settings; no task is executed.

    check_flow      all findings of a built flow
    refuse_errors   what a build does with them

What is not certain is not reported; `dagy.type_fit` has what annotations say.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal, Union

from dagy import parameters
from dagy.artifacts import LocalArtifact
from dagy.checks import describe
from dagy.errors import FlowDefinitionError
from dagy.loader import attribute_of
from dagy.references import NotEncodable, Upstream, encode
from dagy.serializers import JSON, known_names
from dagy.shapes import Kind, shape_of
from dagy.spec import TEAR_DOWN, TaskRunSpec
from dagy.type_fit import can_be_equal, can_be_ordered, fits, is_json, item_of, part_of, told

if TYPE_CHECKING:
    from dagy.building import BuiltFlow
    from dagy.tasks import Task

#: Code -> severity; `docs/how-to/check-a-flow.md` explains each.
SEVERITIES: Mapping[str, Literal["error", "warning"]] = {
    "DAGY101": "error",  # an argument does not fit its parameter
    "DAGY102": "error",  # a map over something else than a list
    "DAGY103": "error",  # a default that can not be written into a spec
    "DAGY104": "error",  # an unknown executor or execution mode
    "DAGY105": "error",  # a condition that orders what has no order
    "DAGY106": "warning",  # a result that nothing uses
    "DAGY107": "warning",  # a return type that JSON does not have
    "DAGY108": "warning",  # a task that other processes can not find
    "DAGY109": "warning",  # limits and delays beyond the flow's own limit
    "DAGY110": "warning",  # a retry rule behind a broader one
    "DAGY111": "warning",  # settings for retries, without retries
    "DAGY112": "warning",  # a comparison of what is never equal
    "DAGY113": "warning",  # a task run whose condition is false
}

#: What `dagy.deploy` accepts, which stands above this module.
EXECUTORS = ("lambda", "step-functions", "ecs", "local", "ray")
EXECUTION_MODES = ("in-process", "task-isolated", "nano", "micro", "small", "medium", "large", "xlarge")

_SERIALIZERS = {JSON, "parquet", "pickle"}
#: Libraries of the tables that are stored as Parquet.
_TABLES = ("pandas", "polars", "pyarrow")

#: Of a longer list in the body of a flow, only the beginning is looked at.
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a flow.

    Attributes:
        code: `DAGY101` and so on.
        severity: an `error` refuses the build, a `warning` does not.
        message: what is wrong.
        fix: what to write instead.
        task_run_id: the first task run that it is about; None if it is the flow or a task as such.
        file, line: where the task's (or flow's) function begins.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    fix: str
    task_run_id: str | None
    file: str
    line: int

    def shown(self, cwd: str) -> str:
        """Return the line for people; a file below `cwd` is named from there."""
        file = self.file_from(cwd)
        return f"{file}:{self.line}: {self.code} {self.severity} {self.message} ({self.fix})"

    def file_from(self, cwd: str) -> str:
        """Return the file, relative if it lies below `cwd`."""
        return os.path.relpath(self.file, cwd) if self.file.startswith(os.path.join(cwd, "")) else self.file


def check_flow(built: BuiltFlow) -> list[Finding]:
    """Return what is wrong with a built flow, by file, line and code; the same thing of many task runs only once."""
    graph = _Graph(built)
    tasks = [finding for task in built.tasks.values() for finding in _of_task(task, built, graph)]
    runs = [finding for node in built.spec.task_runs for finding in graph.findings(node)]
    unique = {
        (each.file, each.line, each.code, each.message): each for each in reversed([*_of_flow(built), *tasks, *runs])
    }
    return sorted(unique.values(), key=lambda each: (each.file, each.line, each.code, each.message))


def refuse_errors(name: str, findings: Iterable[Finding], *, cwd: str) -> None:
    """Do nothing if the findings about the flow `name` are only warnings.

    Raises:
        FlowDefinitionError: there are errors; the message has a line for each.
    """
    lines = [each.shown(cwd) for each in findings if each.severity == "error"]
    if lines:
        what = "an error" if len(lines) == 1 else f"{len(lines)} errors"
        raise FlowDefinitionError("\n  ".join([f"Flow {name!r} has {what} that would stop its runs:", *lines]))


def _finding(code: str, fn: Any, message: str, fix: str, task_run_id: str | None = None) -> Finding:
    source = getattr(inspect.unwrap(fn), "__code__", None)
    file, line = (source.co_filename, source.co_firstlineno) if source else ("<unknown>", 0)
    return Finding(code, SEVERITIES[code], message, fix, task_run_id, file, line)


def _of_flow(built: BuiltFlow) -> Iterator[Finding]:
    flow, owner = built.flow, f"Flow {built.flow.name!r}"
    yield from _executor(flow.executor, flow.fn, owner)
    if flow.execution_mode is not None and flow.execution_mode not in EXECUTION_MODES:
        what = f"{owner} names the execution mode {flow.execution_mode!r}"
        yield _finding("DAGY104", flow.fn, what, f"use one of {', '.join(EXECUTION_MODES)}")
    for name, each in inspect.signature(flow.fn).parameters.items():
        try:
            encode(each.default if each.default is not each.empty else None, Upstream())
        except (NotEncodable, RecursionError):
            what = f"{owner} has a default for {name!r} that can not be stored: it is {type(each.default).__name__}"
            yield _finding("DAGY103", flow.fn, what, "use None or a JSON value and make the object inside a task")


def _executor(name: str | None, fn: Any, owner: str, task_run_id: str | None = None) -> Iterator[Finding]:
    if name is not None and name not in EXECUTORS:
        fix = f"use one of {', '.join(EXECUTORS)}"
        yield _finding("DAGY104", fn, f"{owner} names the executor {name!r}", fix, task_run_id)


def _of_task(task: Task[Any, Any], built: BuiltFlow, graph: _Graph) -> Iterator[Finding]:
    owner = f"Task {task.name!r}"
    if not _can_be_stored(graph.returned(task.name)):
        what = f"{owner} returns {describe(graph.returned(task.name))}, which JSON does not have"
        yield _finding("DAGY107", task.fn, what, "return JSON values or a LocalArtifact, or name a serializer in @task")
    modules = (sys.modules.get(task.fn.__module__), sys.modules.get(built.flow.fn.__module__))
    if not any(module is not None and attribute_of(module, task) for module in modules):
        what = f"{owner} is no attribute of its module, so it runs on this machine only"
        yield _finding("DAGY108", task.fn, what, "define it at the top level of its file")
    yield from _shadowed(task)
    nodes = [node for node in built.spec.task_runs if node.task == task.name]
    if not any(each.retries for each in (task, *(task.with_settings(node.options) for node in nodes if node.options))):
        settings = ("retry_jitter_factor", "retry_condition_fn", "on_retry")
        idle = [name for name in settings if getattr(task, name)]
        if idle:
            what = f"{owner} sets {', '.join(idle)} and is never retried"
            yield _finding("DAGY111", task.fn, what, "set retries, or leave it out")


def _can_be_stored(returned: object) -> bool:
    shape = shape_of(returned)
    members = shape.args if shape.kind is Kind.UNION else (returned,)
    # What serializers of users accept is known only of values.
    return set(known_names()) > _SERIALIZERS or all(is_json(each) or _is_file(each) for each in members)


def _is_file(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        issubclass(annotation, LocalArtifact) or annotation.__module__.partition(".")[0] in _TABLES
    )


def _shadowed(task: Task[Any, Any]) -> Iterator[Finding]:
    for number, rule in enumerate(task.retry_rules):
        earlier = tuple(kind for before in task.retry_rules[:number] for kind in before.exceptions)
        hidden = [kind.__name__ for kind in rule.exceptions if issubclass(kind, earlier)]
        if hidden:
            what = f"Task {task.name!r} has a retry rule for {', '.join(hidden)} behind a broader one, which decides"
            yield _finding("DAGY110", task.fn, what, "put the narrower rule first")


class _Graph:
    """The task runs of a flow, with the types that their tasks declare."""

    def __init__(self, built: BuiltFlow) -> None:
        self._built = built
        self._nodes = {node.id: node for node in built.spec.task_runs}
        self._used = {id_ for node in built.spec.task_runs for id_ in node.depends_on} | set(_refs(built.spec.outputs))
        self._hints = {name: parameters.hints(task.fn) for name, task in built.tasks.items()}
        self._wanted = {name: self._parameters(task) for name, task in built.tasks.items()}
        self._seen: set[object] = set()

    def returned(self, task: str) -> Any:
        """The declared type of a task's output; Any also if another serializer than JSON gives it back."""
        is_json_only = self._built.tasks[task].serializer in (None, JSON)
        return self._hints[task].get("return", Any) if is_json_only else Any

    def _parameters(self, task: Task[Any, Any]) -> dict[str, object]:
        """The types of the parameters that are checked when the task is called; `*args` are left out."""
        kinds = inspect.signature(task.fn).parameters if task.validate_parameters else {}
        return {name: self._hints[task.name].get(name, Any) for name, p in kinds.items() if "VAR_" not in p.kind.name}

    def findings(self, node: TaskRunSpec) -> Iterator[Finding]:
        fn, owner = self._built.tasks[node.task].fn, f"Task {node.task!r}"

        def found(code: str, message: str, fix: str) -> Finding:
            return _finding(code, fn, f"{owner} {message}", fix, node.id)

        for name, encoded in node.inputs.items():
            yield from self._input(node.task, name, encoded, found)
        yield from self._condition(node.when, found)
        if _is_false(node.when):
            fix = "leave out the call with a plain if, or make the condition depend on an output"
            yield found("DAGY113", "is never executed, because its condition is false", fix)
        if node.id not in self._used and node.trigger_rule != TEAR_DOWN:
            returned = shape_of(self._hints[node.task].get("return", Any))
            if returned.kind is not Kind.ANY and returned.base is not type(None):
                fix = "use it, return it from the flow, or declare -> None"
                yield found("DAGY106", f"returns {told(returned.annotation)}, which nothing uses", fix)
        if (node.task, repr(node.options)) not in self._seen:
            self._seen.add((node.task, repr(node.options)))
            yield from self._settings(node, found)

    def _settings(self, node: TaskRunSpec, found: Callable[[str, str, str], Finding]) -> Iterator[Finding]:
        task, limit = self._built.tasks[node.task].with_settings(node.options), self._built.flow.timeout_seconds
        yield from _executor(task.executor, task.fn, f"Task {task.name!r}", node.id)
        if limit is None:
            return
        fix = f"raise timeout_seconds of flow {self._built.flow.name!r}, or lower this"
        waits = max((sum(rule.delays_seconds) for rule in task.retry_rules), default=0)
        if task.timeout_seconds is not None and task.timeout_seconds > limit:
            yield found("DAGY109", f"may run {task.timeout_seconds:g}s, and the whole flow only {limit:g}s", fix)
        if waits >= limit:
            yield found("DAGY109", f"waits {waits:g}s between its retries, and the whole flow runs {limit:g}s", fix)

    def _input(
        self, task: str, name: str, encoded: Any, found: Callable[[str, str, str], Finding]
    ) -> Iterator[Finding]:
        each = isinstance(encoded, dict) and "$each" in encoded
        encoded = encoded["$each"] if each else encoded
        key = (task, name, each, self._key(encoded))
        if key[-1] is not None and key in self._seen:
            return
        self._seen.add(key)
        types, source = [self._type(encoded)], self._source(encoded)
        if each and isinstance(encoded, list):
            types = [self._type(item) for item in encoded[:_MOST_ITEMS]]
        elif each:
            if not fits(types[0], list):
                what = f"maps over {name!r}, which is {told(types[0])}{source} and not a list"
                yield found("DAGY102", what, "return a list, or wrap it in unmapped() to pass it whole")
                return
            types = [item_of(types[0])]
        wanted = self._wanted[task].get(name, Any)
        for given in types:
            if not fits(given, wanted):
                what = f"gets {told(given)}{source} for {name!r}, which takes {describe(wanted)}"
                yield found("DAGY101", what, "change one of the two, or convert in a task between them")

    def _key(self, encoded: Any) -> object:
        """What the type of an output follows from; None for other values."""
        if not isinstance(encoded, dict) or "$ref" not in encoded:
            return None
        node = self._nodes[encoded["$ref"]]
        return node.task, node.map is None, *encoded.get("path", ())

    def _source(self, encoded: Any) -> str:
        return f" from task {self._nodes[encoded['$ref']].task!r}" if self._key(encoded) else ""

    def _type(self, encoded: Any) -> Any:
        """The type of an encoded argument, in which a constant is a Literal and a list of the body a tuple."""
        if isinstance(encoded, list):
            types = tuple(map(self._type, encoded)) if len(encoded) <= _MOST_ITEMS else ()
            return GenericAlias(tuple, types) if types else list
        if not isinstance(encoded, dict):
            return Literal[encoded]
        if "$ref" in encoded:
            node = self._nodes[encoded["$ref"]]
            annotation = self.returned(node.task) if node.kind == "task" else Any
            whole: Any = annotation if node.map is None else GenericAlias(list, (annotation,))
            for key in encoded.get("path", ()):
                whole = part_of(whole, key)
            return whole
        if any(key.startswith("$") for key in encoded):
            return Any
        values = tuple(map(self._type, list(encoded.values())[:_MOST_ITEMS]))
        return GenericAlias(dict, (str, Union[values])) if values else dict  # noqa: UP007 - of a tuple

    def _condition(self, when: Any, found: Callable[[str, str, str], Finding]) -> Iterator[Finding]:
        operation = when.get("$condition") if isinstance(when, dict) else None
        if operation in ("and", "or", "not"):
            for each in when["args"]:
                yield from self._condition(each, found)
        elif operation in ("==", "<", "<=", ">", ">="):
            left, right = map(self._type, when["args"])
            what = f"has the condition {told(left)} {operation} {told(right)}"
            if operation == "==" and not can_be_equal(left, right):
                yield found("DAGY112", f"{what}, which never holds", "compare with a possible value")
            elif operation != "==" and not can_be_ordered(left, right):
                yield found("DAGY105", f"{what}, which raises", "compare values of one type")


def _is_false(when: Any) -> bool:
    if not isinstance(when, dict):
        return when is not None and not when
    decide = {"and": any, "or": all}.get(when.get("$condition", ""))
    return decide is not None and decide(map(_is_false, when["args"]))


def _refs(encoded: Any) -> Iterator[str]:
    """The ids of the task runs that an encoded value refers to."""
    if isinstance(encoded, list):
        yield from (id_ for each in encoded for id_ in _refs(each))
    elif isinstance(encoded, dict):
        yield from (encoded[marker] for marker in ("$ref", "$settled") if isinstance(encoded.get(marker), str))
        yield from (id_ for each in encoded.values() for id_ in _refs(each))
