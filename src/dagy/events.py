"""What the engine tells its observer: the facts of a run, in the order in which they became true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dagy.artifacts import Output
from dagy.spec import TaskRunSpec
from dagy.status import RunStatus, TaskRunStatus


@dataclass(slots=True)
class TaskStarted:
    """An attempt begins. Times are nanoseconds since the epoch."""

    index: int
    node: TaskRunSpec
    attempt: int
    at_ns: int


@dataclass(slots=True)
class TaskRetrying:
    """An attempt failed and another will follow after `delay_seconds`; the task run stays RUNNING."""

    index: int
    node: TaskRunSpec
    attempt: int
    at_ns: int
    delay_seconds: float
    error_message: str
    trace: str | None


@dataclass(slots=True)
class TaskEnded:
    """A task run reached a final status. `attempt` is 0 and `started_ns` None when it never started."""

    index: int
    node: TaskRunSpec
    status: TaskRunStatus
    attempt: int
    started_ns: int | None
    at_ns: int
    output: Output | None = None
    error_message: str | None = None
    trace: str | None = None


@dataclass(slots=True)
class MapExpanded:
    """A mapped call has its items: `nodes` stand at the positions from `first` on."""

    index: int
    node: TaskRunSpec
    first: int
    nodes: list[TaskRunSpec]


Change = TaskStarted | TaskRetrying | TaskEnded | MapExpanded


@dataclass(slots=True)
class RunEnded:
    """The run reached a final status."""

    status: RunStatus
    at_ns: int
    error_message: str | None = None


class Observer(Protocol):
    """Hears what happens in one run.

    `changed` is called by one thread at a time, in order, before anything that follows from the changes starts: when
    it has returned they must survive a kill of the process. The two `line` methods may be called by any thread.
    """

    def changed(self, changes: Sequence[Change]) -> None: ...

    def task_line(self, index: int, level: str, line: str) -> None: ...

    def run_line(self, level: str, line: str) -> None: ...
