"""`@task` and `@flow`: the two words in which users write.

This module and what it imports is all that a flow file loads, so none of it is heavy: signatures are read, specs made
and engines loaded when a flow is built or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from dagy.errors import FlowDefinitionError
from dagy.flows import Flow
from dagy.hooks import Hook
from dagy.retry import Retries, RetryDelays
from dagy.tasks import RetryCondition, Task

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
R = TypeVar("R")


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    executor: str | None = None,
    retries: Retries = 0,
    retry_delay_seconds: RetryDelays = None,
    retry_jitter_factor: float | None = None,
    timeout_seconds: float | None = None,
    concurrency_limit: int | None = None,
    isolation: str | None = None,
    serializer: str | None = None,
    cache: str | Callable[[Mapping[str, Any]], str] | None = None,
    cache_expires_after: float | timedelta | None = None,
    validate_parameters: bool = True,
    on_running: Sequence[Hook] | None = None,
    on_completion: Sequence[Hook] | None = None,
    on_failure: Sequence[Hook] | None = None,
    on_retry: Sequence[Hook] | None = None,
    retry_condition_fn: RetryCondition | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Callable[P, R] | None = None, /, **settings: Any) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task; usable bare (`@task`) and with settings (`@task(retries=3)`).

    Args:
        name: display name; the function's name when absent.
        description: for people; the docstring when absent.
        executor: preferred backend: `lambda`, `step-functions` or `ecs`.
        retries: how many attempts may follow a failed first one, or rules by exception: a list of
            `(exception, retries, delay_seconds)` of which the first that fits decides. An exception with a
            `retry_after`, or whose response has a Retry-After header, is not retried sooner than that.
        retry_delay_seconds: seconds before each retry: a number, a list (the last value repeats), or a function that
            is called with `retries` and returns the list.
        retry_jitter_factor: 0.0 to 1.0; each delay is lengthened by a random part of up to this factor.
        timeout_seconds: an attempt that runs longer fails with `TaskTimeoutError`. A thread can not be killed: its
            function goes on unseen, and its result is ignored.
        concurrency_limit: how many attempts of this task may run at once.
        isolation: `process` calls the function in another process, which a timeout or a stop really ends. By default
            a function runs on a thread, and an `async def` on the event loop.
        serializer: how the output is stored: `json`, `parquet`, `pickle` or one from `register_serializer`. By default
            JSON, or else the first one that accepts the value, which `pickle` never is.
        cache: whether an earlier output is used again: `inputs` when the task's code, its inputs and the dependency
            pins are the same, `code` whatever the inputs are, or a function of the arguments that returns the key.
        cache_expires_after: how long an output may be used again, in seconds or as a timedelta.
        validate_parameters: check argument types before the function is called.
        on_running, on_completion, on_failure, on_retry: hooks, called in order with `(RunContext, State)`: once when
            the task starts, once when it succeeded, once when it finally failed, and before each retry.
        retry_condition_fn: called with the exception; a false answer means no more retries.

    Raises:
        RetryConfigurationError: the retry settings can not work.
        FlowDefinitionError: another setting can not work.
    """
    if fn is not None:
        return Task(fn)
    known = _known_settings(Task, settings)
    return lambda function: Task(function, **known)


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(
    *,
    name: str | None = None,
    version: str = "latest",
    description: str | None = None,
    namespace: str | None = None,
    tags: Mapping[str, str] | None = None,
    executor: str | None = None,
    execution_mode: str | None = None,
    timeout_seconds: float | None = None,
    retries: Retries = 0,
    retry_delay_seconds: RetryDelays = None,
    retry_jitter_factor: float | None = None,
    retry_condition_fn: RetryCondition | None = None,
    validate_parameters: bool = True,
    example: Mapping[str, Any] | None = None,
    on_running: Sequence[Hook] | None = None,
    on_completion: Sequence[Hook] | None = None,
    on_failure: Sequence[Hook] | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Callable[P, R] | None = None, /, **settings: Any) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow; usable bare (`@flow`) and with settings (`@flow(name="etl", version="1.0.0")`).

    Args:
        name: what the flow is registered as; the function's name when absent.
        version: immutable once registered.
        description: for people; the docstring when absent.
        namespace: a path such as `data/ingestion`; derived from where the source lies when absent.
        tags: labels, changeable later.
        executor: preferred backend of its runs.
        execution_mode: `in-process`, `task-isolated` or the name of a tier.
        timeout_seconds: a run that takes longer is stopped and fails.
        retries, retry_delay_seconds, retry_jitter_factor, retry_condition_fn: as for a task. A run that failed is
            followed by another, which uses the outputs of what succeeded again.
        validate_parameters: check parameter types before the flow is built.
        example: values for parameters without a default, used for the preview that a deployment stores.
        on_running, on_completion, on_failure: hooks, called in order with `(RunContext, State)`, once per run.
    """
    if fn is not None:
        return Flow(fn)
    known = _known_settings(Flow, settings)
    return lambda function: Flow(function, **known)


def _known_settings(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a decorator, or name the one that it does not have."""
    code = kind.__init__.__code__  # type: ignore[misc]  # read from the class, never from an instance
    known = code.co_varnames[2 : 2 + code.co_kwonlyargcount]
    for name in settings:
        if name not in known:
            import difflib  # noqa: PLC0415 - only for the message

            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has: {', '.join(known)}"
            raise FlowDefinitionError(f"@{kind.__name__.lower()} has no setting {name!r}; {hint}")
    return settings
