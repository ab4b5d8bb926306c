"""One attempt of one task run: resolve its inputs, call the function, store its output.

This is the same on every host; a runner (`dagy.runners`) decides where the function is called and for how long.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dagy import checks, parameters
from dagy.artifacts import Output, RunOutputs
from dagy.errors import ArtifactSerializationError, DagyError, ParameterTypeError, TaskTimeoutError
from dagy.hooks import Hook, RunContext, State, completed, failed, retrying, running
from dagy.log_capture import Capture
from dagy.references import Failure, Outputs, Settled, hydrate
from dagy.spec import TaskRunSpec
from dagy.tasks import Task
from dagy.tracebacks import user_traceback


@dataclass(slots=True)
class Attempt:
    """What is to be executed: one attempt of one task run."""

    index: int
    node: TaskRunSpec
    number: int
    last_error: str | None = None


@dataclass(slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        output: the stored output; None for a failure.
        items: for a mapped call, the task run of each item.
        error_message: what went wrong, one or more lines; None for a success.
        error: the exception itself, where it is in this process.
        trace: the traceback from the user's first frame on, if there was an exception.
        timed_out: the attempt was still running at its limit.
        may_retry: whether the task's own rules allow another attempt.
        retry_delay_seconds: how long to wait before it, without jitter.
        abandoned: the function goes on unseen, and `Reports.released` follows when it ends.
    """

    output: Output | None = None
    items: Sequence[TaskRunSpec] | None = None
    error_message: str | None = None
    error: BaseException | None = None
    trace: str | None = None
    timed_out: bool = False
    may_retry: bool = False
    retry_delay_seconds: float = 0.0
    abandoned: bool = False


class Call:
    """A task's function with what is needed to call it from a spec's inputs; made once per task and run."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self.task = task
        self.owner = f"task {task.name!r}"
        self._signature = inspect.signature(task.fn)
        annotations = parameters.hints(task.fn) if task.validate_parameters else {}
        self._annotations = {name: hint for name, hint in annotations.items() if name in self._signature.parameters}
        kinds = {each.kind for each in self._signature.parameters.values()}
        self._by_name_only = kinds <= {
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        }

    def checked(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs with their declared types.

        Raises:
            ParameterTypeError: one has another type.
        """
        for name, annotation in self._annotations.items():
            if name in inputs:
                inputs[name] = self._check(name, inputs[name], annotation)
        return inputs

    def _check(self, name: str, value: Any, annotation: Any) -> Any:
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple(checks.check(item, annotation, name=name, owner=self.owner) for item in value)
        if kind is inspect.Parameter.VAR_KEYWORD:
            return {key: checks.check(item, annotation, name=key, owner=self.owner) for key, item in value.items()}
        return checks.check(value, annotation, name=name, owner=self.owner)

    def __call__(self, inputs: dict[str, Any]) -> Any:
        if self._by_name_only:
            return self.task.fn(**inputs)
        arguments = inspect.BoundArguments(self._signature, inputs)
        return self.task.fn(*arguments.args, **arguments.kwargs)


class Workplace:
    """What every attempt of a run shares: the tasks' functions, the outputs so far, and where lines go."""

    def __init__(
        self,
        *,
        run_id: str,
        tasks: Mapping[str, Task[Any, Any]],
        outputs: RunOutputs,
        line: Callable[[int, str, str], None],
        submit: Callable[[Task[Any, Any], dict[str, Any], str], Any] | None = None,
    ) -> None:
        #: Runs a submitted flow with parameters, for a task run, and returns its output.
        self.submit = submit
        self.run_id = run_id
        self.outputs = outputs
        self.line = line
        #: Filled by the engine as task runs succeed.
        self.results: dict[str, Output] = {}
        #: And as they fail: their messages.
        self.failures: dict[str, str] = {}
        #: And as maps are expanded: how many items each has.
        self.item_counts: dict[str, int] = {}
        self._tasks = tasks
        self._calls: dict[Any, Call] = {}

    def call_of(self, node: TaskRunSpec) -> Call:
        """Return how to call the task of a task run, with the settings that this call of it overrides."""
        # The options belong to the spec, which outlives this; the items of a map share theirs.
        key = (node.task, id(node.options)) if node.options else node.task
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = Call(self._tasks[node.task].with_settings(node.options))
        return call

    def resolve(self, task_run_id: str) -> Any:
        """Return the output of a task run: of a mapped one the list of its items' outputs, of a skipped one None."""
        output = self.results.get(task_run_id)
        if output is None:
            return None
        if output.serializer == "map":
            return [self.resolve(f"{task_run_id}[{item}]") for item in range(self.item_counts[task_run_id])]
        return self.outputs.load(output)

    def settle(self, task_run_id: str) -> Settled:
        """Return what came of a task run, or of the items of a mapped one."""
        ids = [task_run_id]
        if task_run_id in self.item_counts:
            ids = [f"{task_run_id}[{item}]" for item in range(self.item_counts[task_run_id])]
        return Settled(
            results=[self.resolve(each) for each in ids if each in self.results],
            failures=[Failure(each, self.failures[each]) for each in ids if each in self.failures],
        )


class StillRunning(Exception):
    """The function has not returned within its task's limit; `abandoned` if it could not be ended either."""

    def __init__(self, *, abandoned: bool) -> None:
        super().__init__()
        self.abandoned = abandoned


class Execution:
    """One attempt under way: `begin`, then call the function somewhere, then one of the three ends."""

    def __init__(self, attempt: Attempt, workplace: Workplace) -> None:
        self.attempt = attempt
        self.call = workplace.call_of(attempt.node)
        self.task = self.call.task
        self.inputs: dict[str, Any] = {}
        self.capture = Capture(lambda level, line: workplace.line(attempt.index, level, line))
        self._workplace = workplace

    def begin(self) -> Outcome | None:
        """Resolve and check the inputs and fire the first hooks; an outcome means that there is nothing to call."""
        try:
            self.inputs = self.call.checked(resolved_inputs(self.attempt.node, self._workplace))
        except ParameterTypeError as exc:
            return self._failed(Outcome(error_message=str(exc)))
        if self.attempt.number == 1:
            self._fire(self.task.on_running, running())
        else:
            self._fire(self.task.on_retry, retrying(self.attempt.last_error))
        return None

    def returned(self, value: Any) -> Outcome:
        """The function returned `value`."""
        try:
            output = self._workplace.outputs.store(self.attempt.node.id, value, serializer=self.task.serializer)
            outcome = Outcome(output=output)
        except ArtifactSerializationError as exc:
            # The function succeeded; calling it again would repeat its effects and return the same thing.
            return self._failed(Outcome(error_message=str(exc)))
        self._fire(self.task.on_completion, completed())
        return outcome

    def raised(self, error: BaseException) -> Outcome:
        """The function raised `error`."""
        delay = self._retry_delay(error)
        return self._failed(
            Outcome(
                error_message=message_of(error),
                error=error,
                trace=getattr(error, "user_traceback", None) or user_traceback(error),
                may_retry=delay is not None,
                retry_delay_seconds=delay or 0.0,
            )
        )

    def timed_out(self, *, abandoned: bool) -> Outcome:
        """The function was still running at the task's limit."""
        error = TaskTimeoutError(self.task.timeout_seconds or 0.0)
        if abandoned:
            seconds = f"{error.timeout_seconds:g}s"
            self.capture.sink("WARNING", f"abandoned after {seconds}: it goes on unseen and its result is ignored")
        delay = self._retry_delay(error)
        return self._failed(
            Outcome(
                error_message=str(error),
                error=error,
                timed_out=True,
                may_retry=delay is not None,
                retry_delay_seconds=delay or 0.0,
                abandoned=abandoned,
            )
        )

    def _retry_delay(self, error: BaseException) -> float | None:
        """Return the seconds to wait before the next attempt, or None when there is none."""
        if not isinstance(error, Exception):
            return None  # SystemExit and the like mean it
        delay = self.task.retry_delay(error, self.attempt.number)
        if delay is None:
            return None
        condition = self.task.retry_condition_fn
        if condition is None:
            return delay
        try:
            return delay if condition(error) else None
        except Exception as exc:  # a broken predicate must not hide the task's own error
            self.capture.sink("ERROR", f"retry_condition_fn raised, so there is no retry: {user_traceback(exc)}")
            return None

    def _failed(self, outcome: Outcome) -> Outcome:
        if not outcome.may_retry:
            self._fire(self.task.on_failure, failed(outcome.error_message))
        return outcome

    def _fire(self, hooks: tuple[Hook, ...], state: State) -> None:
        if hooks:
            context = RunContext(
                name=self.task.name,
                run_id=self._workplace.run_id,
                parameters=self.inputs,
                attempt=self.attempt.number,
                task_run_id=self.attempt.node.id,
            )
            fire(hooks, context, state, self.capture.sink)


class MappedOutputs(Outputs, Protocol):
    """Outputs of which some are those of maps."""

    item_counts: dict[str, int]


def resolved_inputs(node: TaskRunSpec, outputs: Outputs) -> dict[str, Any]:
    """Return the values of a task run's inputs.

    Raises:
        ParameterTypeError: one refers to something that is not there.
    """
    values = {}
    for name, encoded in node.inputs.items():
        try:
            values[name] = hydrate(encoded, outputs)
        except Exception as exc:  # outputs may be of any class, and loaded by a serializer of the user
            raise ParameterTypeError(
                f"Input {name!r} of {node.id} can not be resolved: {type(exc).__name__}: {exc}"
            ) from exc
    return values


def expand(node: TaskRunSpec, outputs: MappedOutputs) -> Outcome:
    """Return the task runs of the items of a mapped call, or why there are none."""
    try:
        lists = {name: _items(name, node, outputs) for name in node.map["over"]}
    except ParameterTypeError as exc:
        return Outcome(error_message=str(exc))
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        return Outcome(error_message=f"{node.id} maps over lists of unequal length: {told}; wrap one in unmapped()")
    fixed = {name: encoded for name, encoded in node.inputs.items() if name not in lists}
    count = next(iter(lengths.values()))
    return Outcome(
        items=[
            item_of(node, number, {**fixed, **{name: items[number] for name, items in lists.items()}})
            for number in range(count)
        ]
    )


def _items(name: str, node: TaskRunSpec, outputs: MappedOutputs) -> list[Any]:
    """Return the encoded items of one mapped argument."""
    encoded = node.inputs[name]["$each"]
    if isinstance(encoded, list):
        return encoded
    mapped = encoded.get("$ref") if isinstance(encoded, dict) and not encoded.get("path") else None
    if mapped in outputs.item_counts:
        return [{"$ref": f"{mapped}[{item}]"} for item in range(outputs.item_counts[mapped])]
    try:
        value = hydrate(encoded, outputs)
    except Exception as exc:  # as above
        raise ParameterTypeError(
            f"Input {name!r} of {node.id} can not be resolved: {type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(value, (list, tuple)):
        raise ParameterTypeError(
            f"{node.id} maps over {name!r}, which is {type(value).__name__} {str(value)[:60]!r} and not a list"
        )
    return [{"$json": item} for item in value]


def item_of(node: TaskRunSpec, number: int, inputs: Mapping[str, Any]) -> TaskRunSpec:
    """Return the task run of one item of a mapped call."""
    template = node.map.get("name")
    return TaskRunSpec(
        id=f"{node.id}[{number}]",
        task=node.task,
        inputs=inputs,
        kind="item",
        group=node.group,
        label=None if template is None else _label(template, inputs),
        options=node.options,
    )


def _label(template: str, inputs: Mapping[str, Any]) -> str:
    """Return the name of an item: its arguments put into the template; what is not known yet stays as it is."""
    values = {
        name: each.get("$json", each.get("$ref", each)) if isinstance(each, dict) else each
        for name, each in inputs.items()
    }
    try:
        return template.format(**values)
    except Exception:  # values of users are formatted, and may do anything
        return template


def fire(hooks: tuple[Hook, ...], context: RunContext, state: State, sink: Callable[[str, str], None]) -> None:
    """Call hooks in order; one that raises is logged with its traceback and changes nothing else."""
    for hook in hooks:
        try:
            hook(context, state)
        except Exception as exc:  # the documented promise
            name = getattr(hook, "__name__", repr(hook))
            for line in f"hook {name} raised: {user_traceback(exc)}".split("\n"):
                sink("ERROR", line)


def message_of(error: BaseException) -> str:
    """Return what the run's record says of an exception: its class, unless it is one of ours, and its text."""
    if isinstance(error, DagyError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
