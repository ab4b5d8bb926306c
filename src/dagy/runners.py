"""One attempt of one task run: resolve its inputs, call the function, store its output. And who calls it: threads.

`execute_attempt` is the same on every host. A `Runner` decides where it happens and reports back to the engine.
"""

from __future__ import annotations

import contextvars
import inspect
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dagy import checks, parameters
from dagy.artifacts import Output, RunOutputs
from dagy.decorators import Task
from dagy.errors import ArtifactSerializationError, DagyError, ParameterTypeError, TaskTimeoutError
from dagy.hooks import Hook, RunContext, State, completed, failed, retrying, running
from dagy.log_capture import Capture, captured
from dagy.references import hydrate
from dagy.spec import TaskRunSpec
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
        error_message: what went wrong, one or more lines; None for a success.
        trace: the traceback from the user's first frame on, if there was an exception.
        timed_out: the attempt was still running at its limit.
        may_retry: whether the task's own rules allow another attempt.
        abandoned: the function goes on unseen, and `Reports.released` follows when it ends.
    """

    output: Output | None = None
    error_message: str | None = None
    trace: str | None = None
    timed_out: bool = False
    may_retry: bool = False
    abandoned: bool = False


class Reports(Protocol):
    """Where a runner reports to: the engine."""

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt ended; the engine may start others before it returns."""

    def released(self, attempt: Attempt) -> None:
        """The function of an abandoned attempt has returned at last."""


class Runner(Protocol):
    """Executes attempts somewhere and reports each end exactly once."""

    def open(self, reports: Reports) -> None:
        """Get ready; attempts report to `reports`."""

    def start(self, attempt: Attempt) -> None:
        """Begin an attempt and return at once."""

    def close(self) -> None:
        """Start nothing more. Attempts in flight are left to themselves."""


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
    ) -> None:
        self.run_id = run_id
        self.outputs = outputs
        self.line = line
        #: Filled by the engine as task runs succeed.
        self.results: dict[str, Output] = {}
        self._tasks = tasks
        self._calls: dict[str, Call] = {}

    def call_of(self, task_name: str) -> Call:
        call = self._calls.get(task_name)
        if call is None:
            call = self._calls[task_name] = Call(self._tasks[task_name])
        return call

    def resolve(self, task_run_id: str) -> Any:
        """Return the output of a task run that succeeded."""
        return self.outputs.load(self.results[task_run_id])


def execute_attempt(attempt: Attempt, workplace: Workplace, *, on_late_end: Callable[[], None]) -> Outcome:
    """Execute one attempt in this thread and return how it ended; never raises."""
    capture = Capture(lambda level, line: workplace.line(attempt.index, level, line))
    with captured(capture):
        try:
            return _Execution(attempt, workplace, capture, on_late_end).run()
        except BaseException as exc:  # the boundary to user code: whatever happens is the outcome of the attempt
            return Outcome(error_message=_message(exc), trace=user_traceback(exc))


class _Execution:
    """One attempt under way."""

    def __init__(
        self, attempt: Attempt, workplace: Workplace, capture: Capture, on_late_end: Callable[[], None]
    ) -> None:
        self._attempt = attempt
        self._workplace = workplace
        self._capture = capture
        self._on_late_end = on_late_end
        self._call = workplace.call_of(attempt.node.task)
        self._task = self._call.task
        self._inputs: dict[str, Any] = {}

    def run(self) -> Outcome:
        try:
            self._inputs = self._call.checked(self._resolved_inputs())
        except ParameterTypeError as exc:
            return self._failed(Outcome(error_message=str(exc)))
        self._before()
        try:
            value = self._value()
            outcome = Outcome(output=self._workplace.outputs.store(self._attempt.node.id, value))
        except _StillRunning as exc:
            outcome = self._timed_out(exc.timeout_seconds)
        except ArtifactSerializationError as exc:
            # The function succeeded; calling it again would repeat its effects and return the same thing.
            outcome = Outcome(error_message=str(exc))
        except BaseException as exc:  # the boundary to user code
            outcome = Outcome(error_message=_message(exc), trace=user_traceback(exc), may_retry=self._may_retry(exc))
        return self._completed(outcome) if outcome.error_message is None else self._failed(outcome)

    def _resolved_inputs(self) -> dict[str, Any]:
        values = {}
        for name, encoded in self._attempt.node.inputs.items():
            try:
                values[name] = hydrate(encoded, self._workplace.resolve)
            except (LookupError, TypeError, FileNotFoundError) as exc:
                raise ParameterTypeError(
                    f"Input {name!r} of {self._attempt.node.id} can not be resolved: {type(exc).__name__}: {exc}"
                ) from exc
        return values

    def _value(self) -> Any:
        if self._task.timeout_seconds is None:
            return self._call(self._inputs)
        return call_with_timeout(
            lambda: self._call(self._inputs), self._task.timeout_seconds, on_late_end=self._on_late_end
        )

    def _timed_out(self, timeout_seconds: float) -> Outcome:
        error = TaskTimeoutError(timeout_seconds)
        self._capture.sink(
            "WARNING", f"abandoned after {timeout_seconds:g}s: its thread goes on and its result is ignored"
        )
        return Outcome(error_message=str(error), timed_out=True, may_retry=self._may_retry(error), abandoned=True)

    def _may_retry(self, error: BaseException) -> bool:
        if self._attempt.number > self._task.retries:
            return False
        if not isinstance(error, Exception):
            return False  # SystemExit and the like mean it
        condition = self._task.retry_condition_fn
        if condition is None:
            return True
        try:
            return bool(condition(error))
        except Exception as exc:  # a broken predicate must not hide the task's own error
            self._capture.sink("ERROR", f"retry_condition_fn raised, so there is no retry: {user_traceback(exc)}")
            return False

    def _before(self) -> None:
        if self._attempt.number == 1:
            self._fire(self._task.on_running, running())
        else:
            self._fire(self._task.on_retry, retrying(self._attempt.last_error))

    def _completed(self, outcome: Outcome) -> Outcome:
        self._fire(self._task.on_completion, completed())
        return outcome

    def _failed(self, outcome: Outcome) -> Outcome:
        if not outcome.may_retry:
            self._fire(self._task.on_failure, failed(outcome.error_message))
        return outcome

    def _fire(self, hooks: tuple[Hook, ...], state: State) -> None:
        if hooks:
            context = RunContext(
                name=self._task.name,
                run_id=self._workplace.run_id,
                parameters=self._inputs,
                attempt=self._attempt.number,
                task_run_id=self._attempt.node.id,
            )
            fire(hooks, context, state, self._capture.sink)


def fire(hooks: tuple[Hook, ...], context: RunContext, state: State, sink: Callable[[str, str], None]) -> None:
    """Call hooks in order; one that raises is logged with its traceback and changes nothing else."""
    for hook in hooks:
        try:
            hook(context, state)
        except Exception as exc:  # the documented promise
            name = getattr(hook, "__name__", repr(hook))
            for line in f"hook {name} raised: {user_traceback(exc)}".split("\n"):
                sink("ERROR", line)


class _StillRunning(Exception):
    def __init__(self, timeout_seconds: float) -> None:
        super().__init__()
        self.timeout_seconds = timeout_seconds


def call_with_timeout(fn: Callable[[], Any], timeout_seconds: float, *, on_late_end: Callable[[], None]) -> Any:
    """Return `fn()`, called in a daemon thread with this thread's context variables.

    Raises:
        _StillRunning: it has not returned in time; when it does, `on_late_end` is called.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    lock = threading.Lock()
    abandoned = False

    def work() -> None:
        answer: tuple[Any, BaseException | None]
        try:
            answer = (fn(), None)
        except BaseException as exc:  # handed over to the waiting thread
            answer = (None, exc)
        with lock:
            if not abandoned:
                answers.put(answer)
                return
        on_late_end()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), daemon=True, name="dagy-timed").start()
    try:
        value, error = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        with lock:
            if answers.empty():
                abandoned = True
                raise _StillRunning(timeout_seconds) from None
        value, error = answers.get()
    if error is not None:
        raise error
    return value


class ThreadRunner:
    """Executes attempts on daemon threads of its own, so that one that hangs never blocks the end of the process.

    The engine starts at most `max_workers` attempts at once, and a thread is made only when no idle one is there. The
    first attempt that follows from an end stays in the thread that reported it: a chain never changes threads.
    """

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._queue: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._here = threading.local()
        self._closed = False

    def open(self, reports: Reports) -> None:
        self._reports = reports

    def start(self, attempt: Attempt) -> None:
        if getattr(self._here, "reporting", False) and self._here.next is None:
            self._here.next = attempt
            return
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                self._threads += 1
                threading.Thread(target=self._work, daemon=True, name=f"dagy-worker-{self._threads}").start()
        self._queue.put(attempt)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def _work(self) -> None:
        here = self._here
        while (attempt := self._queue.get()) is not None:
            here.next = attempt
            while here.next is not None:
                self._run(here)
            with self._lock:
                if self._closed:
                    return
                self._idle += 1

    def _run(self, here: threading.local) -> None:
        attempt: Attempt = here.next
        here.next = None
        outcome = execute_attempt(attempt, self._workplace, on_late_end=lambda: self._reports.released(attempt))
        here.reporting = True
        try:
            self._reports.ended(attempt, outcome)
        finally:
            here.reporting = False


def _message(error: BaseException) -> str:
    """Return what the run's record says of an exception: its text, and its class where the text alone says little."""
    if isinstance(error, DagyError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
