"""Tasks: functions that a flow calls as nodes of its graph, and what one call of them may set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from dagy.errors import FlowDefinitionError, RetryConfigurationError
from dagy.hooks import Hook
from dagy.outputs import Unknown
from dagy.retry import Retries, RetryDelays, jitter_factor, retry_delay, retry_rules
from dagy.settings import (
    checked_callable,
    checked_description,
    checked_hooks,
    checked_label,
    checked_limit,
    checked_name,
    checked_timeout,
    look_like,
    plain_function,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from dagy.flows import Flow

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

RetryCondition = Callable[[Exception], bool]


class Recorder(Protocol):
    """What notes the calls of tasks while the body of a flow runs."""

    def record(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Any: ...

    def record_map(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Any: ...

    def submit(self, flow: Flow[Any, Any], parameters: dict[str, Any]) -> Any: ...

    def inline(self, flow: Flow[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    def under(self, condition: Any) -> AbstractContextManager[None]: ...

    def torn_down(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AbstractContextManager[None]: ...


#: The recorder of the flow that is being built in this context; None means that tasks are plain functions.
building: ContextVar[Recorder | None] = ContextVar("dagy_building", default=None)


class Task(Generic[P, R]):
    """A function that a flow can call as one node of its graph.

    Called inside a flow it records a task run and returns a `TaskOutput`; called anywhere else it is the plain
    function. `fn` is that function.
    """

    def __init__(
        self,
        fn: Callable[P, R],
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
    ) -> None:
        self.fn: Callable[P, R] = plain_function(fn, "task")
        self.name = checked_name(name, fn, "task")
        owner = f"task {self.name!r}"
        self.description = checked_description(description, fn)
        self.executor = executor
        self.retry_rules = retry_rules(retries, retry_delay_seconds, owner=owner)
        #: As they were given, because one call may set only one of the two.
        self._retry_settings = (retries, retry_delay_seconds)
        self.retry_jitter_factor = jitter_factor(retry_jitter_factor, owner=owner)
        self.timeout_seconds = checked_timeout(timeout_seconds, owner)
        self.concurrency_limit = checked_limit(concurrency_limit, "concurrency_limit", owner)
        self.isolation = _checked_isolation(isolation, fn, owner)
        self.serializer = _checked_serializer(serializer, owner)
        self.cache = _checked_cache(cache, owner)
        self.cache_expires_seconds = _expiry(cache_expires_after, owner)
        self.validate_parameters = validate_parameters
        self.on_running = checked_hooks(on_running, "on_running", owner)
        self.on_completion = checked_hooks(on_completion, "on_completion", owner)
        self.on_failure = checked_hooks(on_failure, "on_failure", owner)
        self.on_retry = checked_hooks(on_retry, "on_retry", owner)
        self.retry_condition_fn = checked_callable(retry_condition_fn, "retry_condition_fn", owner)
        look_like(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        recorder = building.get()
        if recorder is None:
            return self.fn(*args, **kwargs)
        return cast("R", recorder.record(self, args, kwargs, CallOptions()))

    def map(self, *args: Any, **kwargs: Any) -> list[R]:
        """Call the task once for each item of its arguments, which are lists of equal length, zipped.

        A list may be the output of another task, whose length is known only when the flow runs. What is wrapped in
        `unmapped()` is passed whole to every item. The result stands for the list of the items' results.
        """
        return self.options().map(*args, **kwargs)

    def options(
        self,
        *,
        when: Any = None,
        after: Any = (),
        trigger_rule: str | None = None,
        name: str | None = None,
        map_name: str | None = None,
        max_concurrency: int | None = None,
        **settings: Any,
    ) -> TaskCall[P, R]:
        """Return the task with settings for one call of it.

        Args:
            when: an output, or a condition on outputs; if it does not hold, the task run is skipped.
            after: an output, or a list of them, of task runs that must have ended before, although nothing of theirs
                is used.
            trigger_rule: what must have become of its parents: `all_succeeded`, `none_failed`, `any_succeeded` or
                `all_done`.
            name: the name of the task run, instead of the task's.
            map_name: how the items of a map are called, a format string of their arguments such as `"{customer}"`.
            max_concurrency: how many items of the map run at once.
            settings: `retries`, `timeout_seconds` and the other settings of `@task`, for this call. Of `retries` and
                `retry_delay_seconds`, the one that is not set is the task's.

        Raises:
            FlowDefinitionError, RetryConfigurationError: a setting can not work.
        """
        call = f"call of task {self.name!r}"
        return TaskCall(
            self,
            CallOptions(
                when=when,
                after=_checked_after(after, call),
                trigger_rule=_checked_rule(trigger_rule, self.name),
                name=checked_label(name, "name", f"a {call}"),
                map_name=checked_label(map_name, "map_name", f"a {call}"),
                max_concurrency=checked_limit(max_concurrency, "max_concurrency", f"the map of task {self.name!r}"),
                settings=_checked_overrides(self, settings),
            ),
        )

    def with_settings(self, settings: Mapping[str, Any]) -> Task[P, R]:
        """Return the same task with other settings; itself if there are none."""
        changes = {name: value for name, value in settings.items() if name in _OVERRIDABLE}
        if not changes:
            return self
        other = Task.__new__(Task)
        other.__dict__.update(self.__dict__)
        owner = f"task {self.name!r}"
        if "retries" in changes or "retry_delay_seconds" in changes:
            other._retry_settings = _changed_retries(self._retry_settings, changes, owner)
            other.retry_rules = retry_rules(*other._retry_settings, owner=owner)
        if "retry_jitter_factor" in changes:
            other.retry_jitter_factor = jitter_factor(changes["retry_jitter_factor"], owner=owner)
        if "timeout_seconds" in changes:
            other.timeout_seconds = checked_timeout(changes["timeout_seconds"], owner)
        if "executor" in changes:
            other.executor = changes["executor"]
        return other

    @property
    def retries(self) -> int:
        """The largest number of retries of any rule."""
        return max((len(rule.delays_seconds) for rule in self.retry_rules), default=0)

    def retry_delay(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds to wait after this failed attempt, without jitter; None when it is not to be repeated."""
        return retry_delay(self.retry_rules, error, attempt)

    def __repr__(self) -> str:
        return f"<task {self.name}>"


class CallOptions(NamedTuple):
    """What `Task.options` sets for one call."""

    when: Any = None
    after: tuple[Any, ...] = ()
    trigger_rule: str | None = None
    name: str | None = None
    map_name: str | None = None
    max_concurrency: int | None = None
    settings: Mapping[str, Any] = {}
    kind: str = "task"


class TaskCall(Generic[P, R]):
    """A task with the settings of one call; see `Task.options`."""

    def __init__(self, task: Task[P, R], options: CallOptions) -> None:
        self._task = task
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        recorder = building.get()
        if recorder is None:
            return self._task.fn(*args, **kwargs)
        return cast("R", recorder.record(self._task, args, kwargs, self._options))

    def map(self, *args: Any, **kwargs: Any) -> list[R]:
        """As `Task.map`."""
        recorder = building.get()
        if recorder is None:
            return _map_now(self._task.fn, args, kwargs)
        return cast("list[R]", recorder.record_map(self._task, args, kwargs, self._options))


class Unmapped(NamedTuple):
    """An argument of a map that every item gets whole."""

    value: Any


def unmapped(value: V) -> V:
    """Pass `value` whole to every item of a map, instead of an item of it to each."""
    return cast("V", Unmapped(value))


def _map_now(fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[R]:
    """What a map is outside of a flow: a loop."""
    arguments: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    lists = {key: value for key, value in arguments.items() if not isinstance(value, Unmapped)}
    fixed = {key: value.value for key, value in arguments.items() if isinstance(value, Unmapped)}
    results = []
    for items in zip(*lists.values(), strict=True):
        call = {**fixed, **dict(zip(lists, items, strict=True))}
        positional = [call.pop(key) for key in range(len(args))]
        results.append(fn(*positional, **call))
    return results


#: The settings of `@task` that one call may override.
_OVERRIDABLE = ("retries", "retry_delay_seconds", "retry_jitter_factor", "timeout_seconds", "executor")


def _checked_overrides(task: Task[Any, Any], settings: dict[str, Any]) -> Mapping[str, Any]:
    for name in settings:
        if name not in _OVERRIDABLE:
            raise FlowDefinitionError(
                f"options() of task {task.name!r} has no setting {name!r}; it has: {', '.join(_OVERRIDABLE)}"
            )
    if not isinstance(settings.get("retries", 0), int):
        raise FlowDefinitionError(f"retries of one call of task {task.name!r} is a number; rules belong into @task")
    task.with_settings(settings)
    return settings


def _changed_retries(
    settings: tuple[Retries, RetryDelays], changes: Mapping[str, Any], owner: str
) -> tuple[Retries, RetryDelays]:
    """Return `retries` and `retry_delay_seconds` of one call; what it does not set is the task's."""
    retries, delays = settings
    if isinstance(retries, (list, tuple)) and "retries" not in changes:
        raise RetryConfigurationError(
            f"{owner} has rules in retries, which a delay for one call does not change; give this call retries, too, "
            "and its number and delay replace the rules"
        )
    return changes.get("retries", retries), changes.get("retry_delay_seconds", delays)


def _checked_after(after: Any, call: str) -> tuple[Any, ...]:
    # Outside of a flow a task gives plain values, which order nothing.
    if isinstance(after, Unknown) or building.get() is None:
        return (after,)
    if isinstance(after, (str, bytes, Mapping)) or not isinstance(after, Iterable):
        raise FlowDefinitionError(f"after of a {call} must be a task output or a list of them, got {after!r}")
    return tuple(after)


def _checked_rule(rule: str | None, name: str) -> str | None:
    if rule is not None and rule not in CALL_TRIGGER_RULES:
        raise FlowDefinitionError(
            f"trigger_rule of task {name!r} must be one of {', '.join(CALL_TRIGGER_RULES)}, got {rule!r}"
        )
    return rule


#: The trigger rules of `dagy.graph` that a call may choose.
CALL_TRIGGER_RULES = ("all_succeeded", "none_failed", "any_succeeded", "all_done")

#: `inspect.CO_COROUTINE`, without loading inspect into every flow file.
_CO_COROUTINE = 0x80


def _checked_cache(
    cache: str | Callable[[Mapping[str, Any]], str] | None, owner: str
) -> str | Callable[[Mapping[str, Any]], str] | None:
    if cache is None or cache in ("inputs", "code") or callable(cache):
        return cache
    raise FlowDefinitionError(
        f"cache of {owner} must be 'inputs', 'code' or a function of the arguments that returns a string, got {cache!r}"
    )


def _expiry(after: float | timedelta | None, owner: str) -> float | None:
    if after is None:
        return None
    # Asked for by its method, so that a flow file need not load datetime.
    seconds = after.total_seconds() if hasattr(after, "total_seconds") else after
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < float("inf"):
        raise FlowDefinitionError(
            f"cache_expires_after of {owner} must be a finite number of seconds above 0 or a timedelta, got {after!r}"
        )
    return seconds


def _checked_serializer(serializer: str | None, owner: str) -> str | None:
    if serializer is None:
        return None
    from dagy.serializers import known_names  # noqa: PLC0415 - only for tasks that name one

    if serializer not in known_names():
        raise FlowDefinitionError(
            f"serializer of {owner} must be one of {', '.join(known_names())}, got {serializer!r}; one of your own is "
            "known after register_serializer()"
        )
    return serializer


def _checked_isolation(isolation: str | None, fn: Any, owner: str) -> str:
    is_async = bool(getattr(getattr(fn, "__code__", None), "co_flags", 0) & _CO_COROUTINE)
    if isolation is None:
        return "async" if is_async else "thread"
    if isolation not in ("thread", "process"):
        raise FlowDefinitionError(f"isolation of {owner} must be 'thread' or 'process', got {isolation!r}")
    if is_async:
        raise FlowDefinitionError(f"isolation of {owner} can not be set: an async function runs on the event loop")
    return isolation
