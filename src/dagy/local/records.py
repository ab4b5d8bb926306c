"""What is known of a run: the one shape in which journal, files, database and commands speak of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dagy.clock import iso
from dagy.status import RunStatus, TaskRunStatus


@dataclass(slots=True)
class TaskRunRecord:
    """A task run. `attempt` is 0 until the first one starts; times are nanoseconds since the epoch."""

    position: int
    task_run_id: str
    task_name: str
    label: str | None = None
    status: TaskRunStatus = TaskRunStatus.PENDING
    attempt: int = 0
    started_ns: int | None = None
    ended_ns: int | None = None
    output: dict[str, Any] | None = None
    error_message: str | None = None
    trace: str | None = None

    @property
    def output_reference(self) -> dict[str, Any] | None:
        """Where the output lies and what it is, without its text."""
        if self.output is None:
            return None
        return {key: value for key, value in self.output.items() if key != "inline"}

    def to_dict(self) -> dict[str, Any]:
        """Return it for people and programs: times as text, output by reference."""
        document = {name: getattr(self, name) for name in _TASK_RUN_FIELDS}
        document["status"] = str(self.status)
        document["output"] = self.output_reference
        return _with_times(document)


@dataclass(slots=True)
class RunRecord:
    """A run and, where they were asked for, its task runs in the order of the flow.

    `target` is the `<path>:<flow_fn>` that it was started from, `retry_of` the run that it resumes,
    `parent` the task run, as `<run_id>/<task_run_id>`, that submitted it.
    """

    run_id: str
    flow_name: str
    flow_version: str
    namespace: str = ""
    status: RunStatus = RunStatus.PENDING
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    target: str = ""
    retry_of: str | None = None
    parent: str | None = None
    pid: int | None = None
    created_ns: int = 0
    started_ns: int | None = None
    ended_ns: int | None = None
    error_message: str | None = None
    task_runs: list[TaskRunRecord] = field(default_factory=list)

    def to_dict(self, *, with_task_runs: bool = True) -> dict[str, Any]:
        """Return it for people and programs."""
        document = {name: getattr(self, name) for name in _RUN_FIELDS if name != "task_runs"}
        document["status"] = str(self.status)
        document = _with_times(document)
        if with_task_runs:
            document["task_runs"] = [each.to_dict() for each in self.task_runs]
        return document


#: Read once: `dataclasses.asdict` would copy every value deeply, for each of thousands of task runs.
_TASK_RUN_FIELDS = tuple(each.name for each in fields(TaskRunRecord))
_RUN_FIELDS = tuple(each.name for each in fields(RunRecord))


def _with_times(document: dict[str, Any]) -> dict[str, Any]:
    started, ended = document["started_ns"], document["ended_ns"]
    timed: dict[str, Any] = {}
    for key, value in document.items():
        if key.endswith("_ns"):
            timed[key.removesuffix("_ns") + "_at"] = None if value is None else iso(value)
        else:
            timed[key] = value
    # From whole microseconds, which is what is stored of a time.
    timed["duration_seconds"] = None if started is None or ended is None else (ended // 1000 - started // 1000) / 1e6
    return timed


def from_dict(document: dict[str, Any]) -> RunRecord:
    """Return the record of a document that `RunRecord.to_dict` made."""
    known = _without_times(document, RunRecord)
    known["status"] = RunStatus(known["status"])
    known["task_runs"] = [task_run_from_dict(each) for each in document.get("task_runs", ())]
    return RunRecord(**known)


def task_run_from_dict(document: dict[str, Any]) -> TaskRunRecord:
    """Return the record of a document that `TaskRunRecord.to_dict` made."""
    known = _without_times(document, TaskRunRecord)
    known["status"] = TaskRunStatus(known["status"])
    return TaskRunRecord(**known)


def _without_times(document: dict[str, Any], cls: type) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for each in fields(cls):
        if each.name.endswith("_ns"):
            text = document.get(each.name.removesuffix("_ns") + "_at")
            known[each.name] = None if text is None else epoch_ns(text)
        elif each.name in document:
            known[each.name] = document[each.name]
    return known


def epoch_ns(text: str) -> int:
    """Return nanoseconds since the epoch for `2026-03-04T12:00:00.123456Z`."""
    import datetime  # noqa: PLC0415 - only reading mirrors back needs it

    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
