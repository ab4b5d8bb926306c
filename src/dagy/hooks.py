"""What a hook is told: where it is (`RunContext`) and what has just happened (`State`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class RunContext:
    """The run or task run that a hook is called for.

    Attributes:
        name: the task's name, or the flow's for a flow hook.
        attempt: 1 for the first attempt; always 1 for a flow hook.
        parameters: the values that the task (or flow) was called with, by parameter name.
        run_id: the run.
        task_run_id: the task run, or None for a flow hook.
    """

    __slots__ = ("attempt", "name", "parameters", "run_id", "task_run_id")

    def __init__(
        self,
        *,
        name: str,
        run_id: str,
        parameters: Mapping[str, Any],
        attempt: int = 1,
        task_run_id: str | None = None,
    ) -> None:
        self.name = name
        self.run_id = run_id
        self.parameters = parameters
        self.attempt = attempt
        self.task_run_id = task_run_id

    def __repr__(self) -> str:
        return f"RunContext(name={self.name!r}, run_id={self.run_id!r}, attempt={self.attempt})"


class State:
    """What has just happened.

    Attributes:
        type: `RUNNING`, `COMPLETED`, `FAILED` or `RETRYING`, a plain string.
        message: for failures and retries what went wrong, else None.
    """

    __slots__ = ("message", "type")

    def __init__(self, type: str, message: str | None = None) -> None:  # noqa: A002 - the documented name
        self.type = type
        self.message = message

    def __repr__(self) -> str:
        return f"State({self.type!r}, message={self.message!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and (self.type, self.message) == (other.type, other.message)

    def __hash__(self) -> int:
        return hash((self.type, self.message))


def running(message: str | None = None) -> State:
    """Return the state that `on_running` hooks get."""
    return State("RUNNING", message)


def completed(message: str | None = None) -> State:
    """Return the state that `on_completion` hooks get."""
    return State("COMPLETED", message)


def failed(message: str | None = None) -> State:
    """Return the state that `on_failure` hooks get."""
    return State("FAILED", message)


def retrying(message: str | None = None) -> State:
    """Return the state that `on_retry` hooks get."""
    return State("RETRYING", message)


#: Any callable of this shape can be given as a hook.
Hook = Callable[[RunContext, State], None]
