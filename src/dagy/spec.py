"""The FlowSpec: a flow's graph as plain data, which is what is built, stored, shipped and executed.

The JSON form is version 1, described by `docs/reference/flow-spec.schema.json`. A reader keeps the keys that it does
not know (`extra`), so an older reader does not lose a newer writer's fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dagy.errors import SpecFormatError

SCHEMA_VERSION = 1

#: The trigger rule of a task run that is to run whatever became of its parents, and also when the run stops.
TEAR_DOWN = "tear_down"

#: Encoded JSON: what `json.loads` may return.
Json = Any


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of the flow: the settings that all its task runs share."""

    name: str
    import_path: str
    description: str = ""
    executor: str | None = None
    retries: int = 0
    retry_delays_seconds: tuple[float, ...] = ()
    retry_rules: tuple[Mapping[str, Json], ...] = ()
    retry_jitter_factor: float = 0.0
    timeout_seconds: float | None = None
    concurrency_limit: int | None = None
    isolation: str = "thread"
    serializer: str | None = None
    code_hash: str = ""
    cache: str | None = None
    cache_expires_seconds: float | None = None
    validate_parameters: bool = True
    signature: Mapping[str, Json] = field(default_factory=dict)
    returns: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskRunSpec:
    """One node of the graph: a call of a task with its inputs, which may refer to outputs of other nodes.

    Attributes:
        depends_on: what must have ended before it.
        tolerates: those of them whose failure it wants to hear of, and which therefore does not fail the run.
        tears_down: for one that tears down, the task runs of its block.
        set_up: and those whose output it takes, which must have succeeded for it to be needed.
        kind: `task`; `flow` starts a run of its own; `item` is made at run time, one for each item of a map.
        when: an encoded condition; if it does not hold, the task run is skipped.
        trigger_rule: what must have become of its parents, see `dagy.graph`.
        map: for a mapped call `{"over": [inputs], "name": template, "max_concurrency": n}`.
        group: the inlined flow that it stands in.
        label: for people, where the id alone says little.
        options: settings of the task that this call overrides.
    """

    id: str
    task: str
    inputs: Mapping[str, Json] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    set_up: tuple[str, ...] = ()
    tears_down: tuple[str, ...] = ()
    kind: str = "task"
    when: Json = None
    trigger_rule: str = "all_succeeded"
    map: Json = None
    group: str | None = None
    label: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A flow's graph, built with one set of parameter values."""

    name: str
    version: str = "latest"
    namespace: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    entrypoint: str = ""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict)
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)
    task_runs: tuple[TaskRunSpec, ...] = ()
    outputs: Json = None
    schema_version: int = SCHEMA_VERSION
    extra: Mapping[str, Json] = field(default_factory=dict)

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Every dependency as (upstream id, downstream id), in the order of the downstream task runs."""
        return [(upstream, node.id) for node in self.task_runs for upstream in node.depends_on]

    def to_dict(self) -> dict[str, Json]:
        """Return the JSON document of this spec."""
        document = self._head()
        document["task_runs"] = [_without_extra(node) for node in self.task_runs]
        document["edges"] = [list(edge) for edge in self.edges]
        return document

    def to_json_lines(self) -> Iterator[str]:
        """Yield the JSON document in pieces, a task run a line, so that a huge graph never stands twice in memory."""
        head = self._head()
        yield "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        yield ', "task_runs": ['
        separator = "\n"
        for node in self.task_runs:
            yield separator + json.dumps(_without_extra(node))
            separator = ",\n"
        yield '\n], "edges": ['
        separator = ""
        for edge in self.edges:
            yield separator + json.dumps(edge)
            separator = ", "
        yield "]}\n"

    @classmethod
    def from_dict(cls, document: Mapping[str, Json]) -> FlowSpec:
        """Return the spec of a JSON document.

        Raises:
            SpecFormatError: it is not a FlowSpec, or of a schema version that this release does not read.
        """
        if not isinstance(document, Mapping):
            raise SpecFormatError(f"A FlowSpec is a JSON object, got {type(document).__name__}")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise SpecFormatError(
                f"FlowSpec schema_version {version!r} is not supported; this release reads version {SCHEMA_VERSION}"
            )
        try:
            known = _known(cls, document, computed=("edges",))
            known["tasks"] = {name: _task_spec(name, entry) for name, entry in document.get("tasks", {}).items()}
            known["task_runs"] = tuple(_task_run_spec(entry) for entry in document.get("task_runs", ()))
            return cls(**known)
        except (TypeError, AttributeError, KeyError) as exc:
            raise SpecFormatError(f"The FlowSpec document is malformed: {exc}") from exc

    def _head(self) -> dict[str, Json]:
        document: dict[str, Json] = dict(self.extra)
        for key in _FLOW_KEYS:
            document[key] = getattr(self, key)
        document["tasks"] = {
            name: {key: value for key, value in _without_extra(task).items() if key != "name"}
            for name, task in self.tasks.items()
        }
        return document


_FLOW_KEYS = tuple(each.name for each in fields(FlowSpec) if each.name not in ("tasks", "task_runs", "extra"))
_TASK_KEYS = tuple(each.name for each in fields(TaskSpec) if each.name != "extra")
_TASK_RUN_KEYS = tuple(each.name for each in fields(TaskRunSpec) if each.name != "extra")


def _without_extra(item: TaskSpec | TaskRunSpec) -> dict[str, Json]:
    keys = _TASK_KEYS if isinstance(item, TaskSpec) else _TASK_RUN_KEYS
    return {**item.extra, **{key: getattr(item, key) for key in keys}}


def _task_spec(name: str, entry: Mapping[str, Json]) -> TaskSpec:
    known = _known(TaskSpec, entry)
    known["name"] = name
    for key in ("retry_delays_seconds", "retry_rules"):
        known[key] = tuple(known.get(key, ()))
    return TaskSpec(**known)


def _task_run_spec(entry: Mapping[str, Json]) -> TaskRunSpec:
    known = _known(TaskRunSpec, entry)
    for name in ("depends_on", "tolerates", "set_up", "tears_down"):
        known[name] = tuple(known.get(name, ()))
    return TaskRunSpec(**known)


def _known(cls: type, entry: Mapping[str, Json], *, computed: tuple[str, ...] = ()) -> dict[str, Json]:
    """Split a document into the fields of `cls` and, under `extra`, what a newer writer added."""
    names = {each.name for each in fields(cls)} - {"extra"}
    known = {key: value for key, value in entry.items() if key in names}
    known["extra"] = {key: value for key, value in entry.items() if key not in names and key not in computed}
    return known
