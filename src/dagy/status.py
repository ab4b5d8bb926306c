"""The legal states of a run and of a task run, as two tables.

Nothing else in the code base decides what may follow what: every status change goes through
`check_run_transition` or `check_task_transition`, so a terminal state never comes back to life.
"""

from __future__ import annotations

from enum import Enum

from dagy.errors import IllegalTransition


class RunStatus(str, Enum):
    """Where a run is. The value is what is stored, printed and sent."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    __str__ = str.__str__
    __hash__ = str.__hash__
    __format__ = str.__format__  # type: ignore[assignment]  # printed as the plain text, padding included

    @property
    def is_terminal(self) -> bool:
        return not RUN_TRANSITIONS[self]


class TaskRunStatus(str, Enum):
    """Where a task run is. `RUNNING` also covers the time between two attempts."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    CACHED = "CACHED"

    __str__ = str.__str__
    __hash__ = str.__hash__
    __format__ = str.__format__  # type: ignore[assignment]  # printed as the plain text, padding included

    @property
    def is_terminal(self) -> bool:
        return not TASK_RUN_TRANSITIONS[self]

    @property
    def is_success(self) -> bool:
        """Whether the task run has an output that later tasks may use."""
        return self in (TaskRunStatus.SUCCEEDED, TaskRunStatus.CACHED)


RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.PAUSED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.PAUSED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

TASK_RUN_TRANSITIONS: dict[TaskRunStatus, frozenset[TaskRunStatus]] = {
    TaskRunStatus.PENDING: frozenset(
        {
            TaskRunStatus.RUNNING,
            TaskRunStatus.SKIPPED,
            TaskRunStatus.CACHED,
            TaskRunStatus.CANCELLED,
            TaskRunStatus.FAILED,  # its input or its callable could not be resolved
        }
    ),
    TaskRunStatus.RUNNING: frozenset(
        {
            TaskRunStatus.RUNNING,  # the next attempt
            TaskRunStatus.SUCCEEDED,
            TaskRunStatus.FAILED,
            TaskRunStatus.TIMED_OUT,
            TaskRunStatus.CANCELLED,
        }
    ),
    TaskRunStatus.SUCCEEDED: frozenset(),
    TaskRunStatus.FAILED: frozenset(),
    TaskRunStatus.SKIPPED: frozenset(),
    TaskRunStatus.TIMED_OUT: frozenset(),
    TaskRunStatus.CANCELLED: frozenset(),
    TaskRunStatus.CACHED: frozenset(),
}


def check_run_transition(old: RunStatus, new: RunStatus) -> None:
    """Raise `IllegalTransition` unless a run may go from `old` to `new`."""
    if new not in RUN_TRANSITIONS[old]:
        raise IllegalTransition("run", old, new, RUN_TRANSITIONS[old])


def check_task_transition(old: TaskRunStatus, new: TaskRunStatus) -> None:
    """Raise `IllegalTransition` unless a task run may go from `old` to `new`."""
    if new not in TASK_RUN_TRANSITIONS[old]:
        raise IllegalTransition("task run", old, new, TASK_RUN_TRANSITIONS[old])
