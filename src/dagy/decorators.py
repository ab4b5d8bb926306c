"""`@task` and `@flow`: the two words in which users write.

This module is all that a flow file loads, so it imports nothing heavy: signatures are read, specs made and engines
loaded when a flow is built or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

from dagy.errors import FlowDefinitionError
from dagy.hooks import Hook
from dagy.retry import Retries, RetryDelays, jitter_factor, retry_after_seconds, retry_rules

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dagy.deploy import DeployResult
    from dagy.local.runner import LocalRunResult
    from dagy.spec import FlowSpec

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])

RetryCondition = Callable[[Exception], bool]


class Recorder(Protocol):
    """What notes the calls of tasks while the body of a flow runs."""

    def record(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Any: ...

    def record_map(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Any: ...

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
        validate_parameters: bool = True,
        on_running: Sequence[Hook] | None = None,
        on_completion: Sequence[Hook] | None = None,
        on_failure: Sequence[Hook] | None = None,
        on_retry: Sequence[Hook] | None = None,
        retry_condition_fn: RetryCondition | None = None,
    ) -> None:
        self.fn: Callable[P, R] = _plain_function(fn, "task")
        self.name = _checked_name(name, fn, "task")
        owner = f"task {self.name!r}"
        self.description = _description(description, fn)
        self.executor = executor
        self.retry_rules = retry_rules(retries, retry_delay_seconds, owner=owner)
        self.retry_jitter_factor = jitter_factor(retry_jitter_factor, owner=owner)
        self.timeout_seconds = _checked_timeout(timeout_seconds, owner)
        self.concurrency_limit = _checked_limit(concurrency_limit, owner)
        self.isolation = _checked_isolation(isolation, fn, owner)
        self.validate_parameters = validate_parameters
        self.on_running = _checked_hooks(on_running, "on_running", owner)
        self.on_completion = _checked_hooks(on_completion, "on_completion", owner)
        self.on_failure = _checked_hooks(on_failure, "on_failure", owner)
        self.on_retry = _checked_hooks(on_retry, "on_retry", owner)
        self.retry_condition_fn = _checked_callable(retry_condition_fn, "retry_condition_fn", owner)
        _look_like(self, fn)

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
        after: Sequence[Any] = (),
        trigger_rule: str | None = None,
        name: str | None = None,
        map_name: str | None = None,
        max_concurrency: int | None = None,
        **settings: Any,
    ) -> TaskCall[P, R]:
        """Return the task with settings for one call of it.

        Args:
            when: an output, or a condition on outputs; if it does not hold, the task run is skipped.
            after: outputs of task runs that must have ended before, although nothing of theirs is used.
            trigger_rule: what must have become of its parents: `all_succeeded`, `none_failed`, `any_succeeded` or
                `all_done`.
            name: the name of the task run, instead of the task's.
            map_name: how the items of a map are called, a format string of their arguments such as `"{customer}"`.
            max_concurrency: how many items of the map run at once.
            settings: `retries`, `timeout_seconds` and the other settings of `@task`, for this call.

        Raises:
            FlowDefinitionError, RetryConfigurationError: a setting can not work.
        """
        return TaskCall(
            self,
            CallOptions(
                when=when,
                after=tuple(after),
                trigger_rule=_checked_rule(trigger_rule, self.name),
                name=name,
                map_name=map_name,
                max_concurrency=_checked_limit(max_concurrency, f"the map of task {self.name!r}"),
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
            retries = changes.get("retries", self.retries)
            other.retry_rules = retry_rules(retries, changes.get("retry_delay_seconds"), owner=owner)
        if "retry_jitter_factor" in changes:
            other.retry_jitter_factor = jitter_factor(changes["retry_jitter_factor"], owner=owner)
        if "timeout_seconds" in changes:
            other.timeout_seconds = _checked_timeout(changes["timeout_seconds"], owner)
        if "executor" in changes:
            other.executor = changes["executor"]
        return other

    @property
    def retries(self) -> int:
        """The largest number of retries of any rule."""
        return max((len(rule.delays_seconds) for rule in self.retry_rules), default=0)

    def retry_delay(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds to wait after this failed attempt, without jitter; None when it is not to be repeated."""
        for rule in self.retry_rules:
            if isinstance(error, rule.exceptions):
                if attempt > len(rule.delays_seconds):
                    return None
                return max(rule.delays_seconds[attempt - 1], retry_after_seconds(error) or 0.0)
        return None

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


class Flow(Generic[P, R]):
    """A function whose calls of tasks make a graph.

    `build` gives the graph, `run_local` executes it on this machine, `deploy` registers it. Called inside another flow
    it adds its task runs to that one, as a named group. Called anywhere else it is plain Python: the body and its tasks
    run as ordinary functions and nothing is recorded.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        version: str = "latest",
        description: str | None = None,
        namespace: str | None = None,
        tags: Mapping[str, str] | None = None,
        executor: str | None = None,
        execution_mode: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        example: Mapping[str, Any] | None = None,
        on_running: Sequence[Hook] | None = None,
        on_completion: Sequence[Hook] | None = None,
        on_failure: Sequence[Hook] | None = None,
    ) -> None:
        self.fn: Callable[P, R] = _plain_function(fn, "flow")
        _refuse_reserved(fn)
        self.name = _checked_name(name, fn, "flow")
        owner = f"flow {self.name!r}"
        self.version = _checked_version(version, owner)
        self.description = _description(description, fn)
        self.namespace = namespace
        self.tags = _checked_tags(tags, owner)
        self.executor = executor
        self.execution_mode = execution_mode
        self.timeout_seconds = _checked_timeout(timeout_seconds, owner)
        self.validate_parameters = validate_parameters
        self.example = dict(example or {})
        self.on_running = _checked_hooks(on_running, "on_running", owner)
        self.on_completion = _checked_hooks(on_completion, "on_completion", owner)
        self.on_failure = _checked_hooks(on_failure, "on_failure", owner)
        _look_like(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        recorder = building.get()
        if recorder is None:
            return self.fn(*args, **kwargs)
        return cast("R", recorder.inline(self, args, kwargs))

    def build(self, *args: P.args, **kwargs: P.kwargs) -> FlowSpec:
        """Return the graph that the flow makes of these parameters, without executing any task.

        Raises:
            ParameterError: a parameter is missing or unknown.
            ParameterTypeError: a parameter has another type than declared.
            FlowDefinitionError: the body can not be turned into a graph.
        """
        from dagy.building import build_flow  # noqa: PLC0415 - loads inspect and dataclasses

        return build_flow(self, args, kwargs).spec

    def run_local(
        self,
        *,
        max_workers: int = 1,
        fail_fast: bool = True,
        **parameters: Any,
    ) -> LocalRunResult:
        """Execute the flow on this machine, record it below `DAGY_LOCAL_DIR`, and return how it ended.

        Args:
            max_workers: how many attempts run at once, 1 or more.
            fail_fast: stop at the first failed task and raise; False runs what does not depend on it first.
            parameters: the flow's own parameters.

        Raises:
            TaskFailedError: with `fail_fast`, the first task that failed after its attempts.
            FlowFailedError: the flow exceeded its own time limit.
            ParameterError, ParameterTypeError, FlowDefinitionError: as `build`.
            LocalStoreError: the local directory can not be used.
        """
        from dagy.local.runner import run_local  # noqa: PLC0415 - a flow file must load without the engine

        return run_local(self, parameters, max_workers=max_workers, fail_fast=fail_fast)

    def deploy(
        self,
        *,
        name: str | None = None,
        namespace: str | None = None,
        schedule: str | None = None,
        timezone: str = "America/New_York",
        tags: Mapping[str, str] | None = None,
        bucket: str | None = None,
    ) -> DeployResult:
        """Build the flow, upload its artifact and register it as a deployment.

        Args:
            name: the deployment; the flow's name when absent.
            namespace: instead of the one that is derived from where the source lies.
            schedule: a cron expression of five fields.
            timezone: the zone of the schedule.
            tags: replace the flow's own.
            bucket: the S3 bucket, instead of `DAGY_ARTIFACT_BUCKET` or the account's own.
        """
        from dagy.deploy import deploy_flow  # noqa: PLC0415 - loads packaging and an HTTP or S3 client

        return deploy_flow(
            self, name=name, namespace=namespace, schedule=schedule, timezone=timezone, tags=tags, bucket=bucket
        )

    def __repr__(self) -> str:
        return f"<flow {self.name}:{self.version}>"


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
        validate_parameters: check parameter types before the flow is built.
        example: values for parameters without a default, used for the preview that a deployment stores.
        on_running, on_completion, on_failure: hooks, called in order with `(RunContext, State)`, once per run.
    """
    if fn is not None:
        return Flow(fn)
    known = _known_settings(Flow, settings)
    return lambda function: Flow(function, **known)


def _plain_function(fn: Any, word: str) -> Any:
    if isinstance(fn, (Task, Flow)):
        raise FlowDefinitionError(f"{fn!r} is decorated already; @{word} takes a plain function")
    if not callable(fn):
        raise FlowDefinitionError(
            f"@{word} decorates a function, got {fn!r}; write @{word} or @{word}(...) above a def"
        )
    return fn


#: What `Flow.run_local` takes besides the flow's own parameters.
_RESERVED = ("max_workers", "fail_fast")


def _refuse_reserved(fn: Any) -> None:
    code = getattr(fn, "__code__", None)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    for name in _RESERVED:
        if name in names:
            raise FlowDefinitionError(
                f"Flow {fn.__name__!r} has a parameter {name!r}, which run_local() takes for itself; rename it"
            )


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


def _look_like(self: Task[Any, Any] | Flow[Any, Any], fn: Callable[..., Any]) -> None:
    """What `functools.update_wrapper` copies, so that help(), IDEs and inspect see the user's function."""
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(fn, attribute):
            setattr(self, attribute, getattr(fn, attribute))
    self.__wrapped__ = fn  # type: ignore[union-attr]  # the protocol of inspect.unwrap


def _checked_name(name: str | None, fn: Any, word: str) -> str:
    chosen = getattr(fn, "__name__", "") if name is None else name
    if not chosen and name is None:
        raise FlowDefinitionError(f"{fn!r} has no name of its own; give the {word} one with @{word}(name=...)")
    if not isinstance(chosen, str) or not chosen.strip():
        raise FlowDefinitionError(f"name of a {word} must be a non-empty string, got {chosen!r}")
    if "\x00" in chosen or "\n" in chosen:
        raise FlowDefinitionError(f"name of a {word} must be one line of text, got {chosen!r}")
    return chosen


def _checked_version(version: str, owner: str) -> str:
    if not isinstance(version, str) or not version.strip():
        raise FlowDefinitionError(f"version of {owner} must be a non-empty string, got {version!r}")
    return version


def _checked_tags(tags: Mapping[str, str] | None, owner: str) -> dict[str, str]:
    tags = dict(tags or {})
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise FlowDefinitionError(f"tags of {owner} must be strings by strings, got {key!r}: {value!r}")
    return tags


def _description(description: str | None, fn: Any) -> str:
    return (fn.__doc__ or "").strip() if description is None else description


def _checked_timeout(timeout_seconds: float | None, owner: str) -> float | None:
    if timeout_seconds is None:
        return None
    if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, (int, float)) or timeout_seconds <= 0:
        raise FlowDefinitionError(f"timeout_seconds of {owner} must be a number above 0, got {timeout_seconds!r}")
    return timeout_seconds


def _checked_limit(limit: int | None, owner: str) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise FlowDefinitionError(f"concurrency_limit of {owner} must be a whole number from 1, got {limit!r}")
    return limit


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


def _checked_isolation(isolation: str | None, fn: Any, owner: str) -> str:
    is_async = bool(getattr(getattr(fn, "__code__", None), "co_flags", 0) & _CO_COROUTINE)
    if isolation is None:
        return "async" if is_async else "thread"
    if isolation not in ("thread", "process"):
        raise FlowDefinitionError(f"isolation of {owner} must be 'thread' or 'process', got {isolation!r}")
    if is_async:
        raise FlowDefinitionError(f"isolation of {owner} can not be set: an async function runs on the event loop")
    return isolation


def _checked_hooks(hooks: Sequence[Hook] | None, setting: str, owner: str) -> tuple[Hook, ...]:
    if hooks is None:
        return ()
    if callable(hooks) or isinstance(hooks, str) or not all(callable(hook) for hook in hooks):
        raise FlowDefinitionError(f"{setting} of {owner} must be a list of functions, got {hooks!r}")
    return tuple(hooks)


def _checked_callable(fn: F | None, setting: str, owner: str) -> F | None:
    if fn is not None and not callable(fn):
        raise FlowDefinitionError(f"{setting} of {owner} must be a function, got {fn!r}")
    return fn
