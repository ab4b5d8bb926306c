"""What the body of a flow can say beyond calling tasks: branches, partial success, clean-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from dagy.errors import FlowDefinitionError
from dagy.outputs import AllowFailed, Condition, FirstOf, TaskOutput
from dagy.references import Failure, Settled
from dagy.tasks import Task, building

T = TypeVar("T")


def choose(value: Any, branches: Mapping[Any, Callable[[], Any]], default: Callable[[], Any] | None = None) -> Any:
    """Execute the branch whose key equals an output, and skip the others.

    Args:
        value: an output, or a part of one.
        branches: functions that call tasks, by the value for which they are meant.
        default: for every other value; None executes nothing then.

    Returns:
        What stands for the result of the branch that is executed; None if it is none.
    """
    recorder = building.get()
    if recorder is None:
        branch = branches.get(value, default)
        return None if branch is None else branch()
    if not isinstance(value, TaskOutput):
        raise FlowDefinitionError(
            f"choose() decides by the output of a task, got {type(value).__name__} {value!r}; a value that is known "
            "while the flow is built can be tested with a plain if"
        )
    outputs = []
    for key, branch in branches.items():
        with recorder.under(value == key):
            outputs.append(branch())
    if default is not None:
        others: Any = None
        for key in branches:
            others = value != key if others is None else Condition("and", (others, value != key))
        with recorder.under(others):
            outputs.append(default())
    return FirstOf([each for each in outputs if each is not None])


def allow_failed(output: T) -> Settled:
    """Let a task have what came of task runs of which some failed: their results, and the failures.

    The failures behind it then neither stop the run nor make it fail.

    Args:
        output: of a task or of a map.
    """
    if isinstance(output, TaskOutput):
        return AllowFailed(output)  # type: ignore[return-value]  # stands for it, as a TaskOutput does for its value
    if building.get() is not None:
        raise FlowDefinitionError(f"allow_failed() takes the output of a task, got {type(output).__name__}")
    return Settled(output if isinstance(output, list) else [output], [])


@contextmanager
def tear_down(task: Task[Any, Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Call a task after everything in the block, whatever becomes of it.

        server = start_server()
        with tear_down(stop_server, server):
            test(server)

    It is called when the task runs in the block have ended, also if some failed or the run was stopped, provided that
    those whose output it takes succeeded.
    """
    recorder = building.get()
    if recorder is not None:
        with recorder.torn_down(task, args, kwargs):
            yield
        return
    try:
        yield
    finally:
        task.fn(*args, **kwargs)


__all__ = ["Failure", "Settled", "allow_failed", "choose", "tear_down"]
