"""Flows: functions whose calls of tasks make a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from dagy.errors import FlowDefinitionError
from dagy.hooks import Hook
from dagy.retry import Retries, RetryDelays, jitter_factor, retry_delay, retry_rules
from dagy.settings import (
    checked_callable,
    checked_description,
    checked_hooks,
    checked_name,
    checked_tags,
    checked_timeout,
    checked_version,
    look_like,
    plain_function,
)
from dagy.tasks import RetryCondition, building

if TYPE_CHECKING:
    from dagy.deploy import DeployResult
    from dagy.local.runner import LocalRunResult
    from dagy.spec import FlowSpec

P = ParamSpec("P")
R = TypeVar("R")


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
        retries: Retries = 0,
        retry_delay_seconds: RetryDelays = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: RetryCondition | None = None,
        validate_parameters: bool = True,
        example: Mapping[str, Any] | None = None,
        on_running: Sequence[Hook] | None = None,
        on_completion: Sequence[Hook] | None = None,
        on_failure: Sequence[Hook] | None = None,
    ) -> None:
        self.fn: Callable[P, R] = plain_function(fn, "flow")
        _refuse_reserved(fn)
        self.name = checked_name(name, fn, "flow")
        owner = f"flow {self.name!r}"
        self.version = checked_version(version, owner)
        self.description = checked_description(description, fn)
        self.namespace = namespace
        self.tags = checked_tags(tags, owner)
        self.executor = executor
        self.execution_mode = execution_mode
        self.timeout_seconds = checked_timeout(timeout_seconds, owner)
        self.retry_rules = retry_rules(retries, retry_delay_seconds, owner=owner)
        self.retry_jitter_factor = jitter_factor(retry_jitter_factor, owner=owner)
        self.retry_condition_fn = checked_callable(retry_condition_fn, "retry_condition_fn", owner)
        self.validate_parameters = validate_parameters
        self.example = dict(example or {})
        self.on_running = checked_hooks(on_running, "on_running", owner)
        self.on_completion = checked_hooks(on_completion, "on_completion", owner)
        self.on_failure = checked_hooks(on_failure, "on_failure", owner)
        look_like(self, fn)

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

    def submit(self, **parameters: Any) -> R:
        """Start a run of its own for this flow, as a task run of the flow that calls it.

        The two runs are linked: the other has its own id, task runs and logs. What stands for its result is what the
        flow returns; if that run fails, the task run fails.

        Raises:
            FlowDefinitionError: it is called outside of a flow.
        """
        recorder = building.get()
        if recorder is None:
            raise FlowDefinitionError(
                f"submit() of flow {self.name!r} is for use inside another flow; call run_local()"
            )
        return cast("R", recorder.submit(self, parameters))

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

    def retry_delay(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds to wait before a run follows one that failed, without jitter; None when none follows.

        The rules and the condition see what the task raised, where that is known.
        """
        cause = error.__cause__
        error = cause if isinstance(cause, Exception) else error
        if self.retry_condition_fn is not None and not self.retry_condition_fn(error):
            return None
        return retry_delay(self.retry_rules, error, attempt)

    def __repr__(self) -> str:
        return f"<flow {self.name}:{self.version}>"


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
