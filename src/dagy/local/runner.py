"""Runs a flow on this machine: builds it, executes it with threads, records it below the local directory."""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from dagy.artifacts import RunOutputs
from dagy.attempts import Workplace, fire
from dagy.building import BuiltFlow, SubmittedFlow, build_flow
from dagy.clock import Clock, SystemClock
from dagy.engine import Engine, EngineResult, Reuse, Stop
from dagy.errors import FlowFailedError, ParameterError, TaskFailedError
from dagy.events import Change, RunEnded
from dagy.fingerprints import short_hash
from dagy.flows import Flow
from dagy.hooks import RunContext, completed, failed, running
from dagy.local.home import Home
from dagy.local.journal import SPEC_NAME, Journal, change_line, run_ended_line, run_started_line
from dagy.local.mirror import Mirror
from dagy.local.records import RunRecord
from dagy.local.reuse import Cache, EarlierRun, FirstOf, Resume
from dagy.local.store import LocalStore
from dagy.log_capture import Capture, capture_logging, capture_streams, captured
from dagy.names import slug
from dagy.object_store import LocalObjectStore
from dagy.references import NotEncodable, Upstream, encode, hydrate
from dagy.retry import with_jitter
from dagy.runners import LocalRunner
from dagy.spec import FlowSpec
from dagy.status import RunStatus
from dagy.tasks import Task


class Listener(Protocol):
    """Watches a run from the outside, for example to show its progress. Called as `dagy.events.Observer` is."""

    def run_created(self, run_id: str, spec: FlowSpec) -> None: ...

    def changed(self, changes: Sequence[Change]) -> None: ...

    def line(self, task_run_id: str | None, level: str, line: str) -> None: ...


class LocalRunResult:
    """How a local run ended.

    Attributes:
        run_id: by which `dagy runs show` finds it.
        status: `SUCCEEDED`, `FAILED` or `CANCELLED`.
        error_message: why it did not succeed, else None.
        duration_seconds: from its start to its end.
    """

    def __init__(self, record: RunRecord, output: Callable[[], Any]) -> None:
        self.run_id = record.run_id
        self.status = record.status
        self.error_message = record.error_message
        self.duration_seconds = ((record.ended_ns or 0) - (record.started_ns or 0)) / 1e9
        self._output = output

    def output(self) -> Any:
        """Return what the flow returned, with the outputs of its tasks in place.

        Raises:
            FlowFailedError: the run did not succeed, so there is none.
        """
        if self.status is not RunStatus.SUCCEEDED:
            raise FlowFailedError(
                f"Run {self.run_id} has no output, it ended {self.status}: {self.error_message}", run_id=self.run_id
            )
        return self._output()

    def __repr__(self) -> str:
        return f"LocalRunResult(run_id={self.run_id!r}, status={str(self.status)!r})"


def run_local(
    flow: Flow[Any, Any],
    parameters: Mapping[str, Any],
    *,
    max_workers: int = 1,
    fail_fast: bool = True,
    home: Home | str | os.PathLike[str] | None = None,
    resume: str | None = None,
    parent: str | None = None,
    listener: Listener | None = None,
    print_capture: bool = False,
    log_level: int | None = None,
    clock: Clock | None = None,
) -> LocalRunResult:
    """Execute a flow on this machine and return how it ended; `Flow.run_local` documents the rest.

    Args:
        resume: the id of an earlier run of the flow, whose outputs are used again where code and inputs are the same.
        parent: the task run that this run is started for, `<run_id>/<task_run_id>`.
        listener: is told of every change and line.
        print_capture: whether `print` in a task goes to its log, too; logging always does.
        log_level: what the root logger lets through meanwhile; None leaves it as the program set it.
        clock: the time, for tests.

    Raises:
        KeyboardInterrupt: the user stopped the run; it is recorded as CANCELLED.
    """
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise ParameterError(f"max_workers must be a whole number from 1, got {max_workers!r}")
    place = home if isinstance(home, Home) else Home.from_environ(os.environ, home)
    clock = clock or SystemClock()
    attempt = 1
    while True:
        built = build_flow(flow, (), parameters)
        earlier = None if resume is None else _earlier(place, resume, built.spec.name)
        try:
            run = _LocalRun(built, place, clock=clock, listener=listener, earlier=earlier, parent=parent)
            result, failure = run.execute(
                max_workers=max_workers, fail_fast=fail_fast, print_capture=print_capture, log_level=log_level
            )
        except OSError as exc:
            raise place.unusable(exc) from exc
        delay = None if failure is None else flow.retry_delay(failure, attempt)
        if delay is None:
            if failure is not None and fail_fast:
                raise failure
            return result
        clock.wait(queue.SimpleQueue(), with_jitter(delay, flow.retry_jitter_factor, random.random), busy=False)
        attempt, resume = attempt + 1, result.run_id


def _earlier(home: Home, run_id: str, flow_name: str) -> EarlierRun:
    earlier = EarlierRun.load(home, run_id, warn=lambda _: None)
    if earlier.record.flow_name != flow_name:
        raise ParameterError(f"Run {run_id} is one of flow {earlier.record.flow_name!r}, not of {flow_name!r}")
    return earlier


def new_run_id(flow_name: str, now_ns: int) -> str:
    """Return `<flow>-<UTC>Z-<6 hex>`, which is also safe as a folder name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 1_000_000_000))
    return f"{slug(flow_name)}-{stamp}-{random.getrandbits(24):06x}"


class _LocalRun:
    """One run under way, and the observer of its engine."""

    def __init__(
        self,
        built: BuiltFlow,
        home: Home,
        *,
        clock: Clock,
        listener: Listener | None,
        earlier: EarlierRun | None,
        parent: str | None,
    ) -> None:
        self._built = built
        self._home = home
        self._clock = clock
        self._listener = listener
        # Before the run is accepted, because a broken lock file would be an error.
        is_cached = any(task.cache is not None for task in built.spec.tasks.values())
        pins = _pins(built.flow) if is_cached else ""
        now = clock.now_ns()
        self._record = RunRecord(
            run_id=new_run_id(built.spec.name, now),
            flow_name=built.spec.name,
            flow_version=built.spec.version,
            namespace=built.spec.namespace,
            tags=dict(built.spec.tags),
            target=_target(built.flow),
            retry_of=None if earlier is None else earlier.record.run_id,
            parent=parent,
            parameters={name: _shown(value) for name, value in built.parameters.items()},
            pid=os.getpid(),
            created_ns=now,
        )
        self._journal = self._accept()
        self._mirror = Mirror(home, self._record.run_id, built.spec)
        self._workplace = Workplace(
            run_id=self._record.run_id,
            tasks=built.tasks,
            outputs=RunOutputs(LocalObjectStore(home.path), self._record.run_id, max_bytes=home.artifact_max_bytes),
            line=self.task_line,
            submit=self._submit,
        )
        self._max_workers = 1
        several: list[Resume | Cache] = []
        if earlier is not None:
            several.append(Resume(earlier, built.spec, say=lambda sentence: self.run_line("INFO", sentence)))
        if is_cached:
            several.append(Cache(home, self._record.run_id, built.spec, built.tasks, clock=clock, pins=pins))
        self._reuse: Reuse | None = FirstOf(*several) if several else None

    def _accept(self) -> Journal:
        """Make the run's folder with its spec and journal; from here on a kill leaves a run that is known."""
        folder = self._home.run_folder(self._record.run_id)
        folder.mkdir(parents=True)
        try:
            with open(folder / SPEC_NAME, "w", encoding="utf-8", errors="surrogatepass") as file:
                file.writelines(self._built.spec.to_json_lines())
            return Journal.create(folder, self._record)
        except BaseException:
            for each in folder.iterdir():
                each.unlink()
            folder.rmdir()
            raise

    def execute(
        self, *, max_workers: int, fail_fast: bool, print_capture: bool, log_level: int | None
    ) -> tuple[LocalRunResult, TaskFailedError | FlowFailedError | None]:
        """Execute the flow and return how it ended, with the error that says why it failed, if it did.

        Raises:
            KeyboardInterrupt: the user stopped it.
        """
        self._max_workers = max_workers
        engine = Engine(
            self._built.spec,
            workplace=self._workplace,
            runner=LocalRunner(self._workplace),
            observer=self,
            max_workers=max_workers,
            fail_fast=fail_fast,
            reuse=self._reuse,
            clock=self._clock,
        )
        try:
            with ExitStack() as stack:
                if print_capture:
                    stack.enter_context(capture_streams(self.run_line))
                stack.enter_context(capture_logging(self.run_line, level=log_level))
                self._begin()
                with _stopped_by_signals(engine):
                    result = engine.run()
                interrupted = self._fire_end(result)
            self._end(result)
        finally:
            # After a failure to record, the lock that goes with the journal tells others that nobody works on the run.
            self._journal.close()
            self._mirror.close()
        if result.status is RunStatus.CANCELLED or interrupted:
            raise KeyboardInterrupt(f"Run {self._record.run_id} ended {result.status}")
        failure: TaskFailedError | FlowFailedError | None = None
        if result.status is RunStatus.FAILED:
            failure = result.failure or FlowFailedError(result.error_message or "", run_id=self._record.run_id)
        return LocalRunResult(self._record, self._output), failure

    def _submit(self, task: Task[Any, Any], parameters: dict[str, Any], task_run_id: str) -> Any:
        """Run a flow that this one submits."""
        assert isinstance(task, SubmittedFlow)
        result = run_local(
            task.flow,
            parameters,
            max_workers=self._max_workers,
            home=self._home,
            parent=f"{self._record.run_id}/{task_run_id}",
            clock=self._clock,
        )
        return result.output()

    # What the engine observes through

    def changed(self, changes: Sequence[Change]) -> None:
        self._journal.append("".join([change_line(change) for change in changes]))
        self._mirror.changed(changes)
        if self._listener is not None:
            self._listen(lambda listener: listener.changed(changes))

    def task_line(self, index: int, level: str, line: str) -> None:
        self._mirror.task_line(index, level, line, self._clock.now_ns())
        self._listen(lambda listener: listener.line(self._mirror.id_of(index), level, line))

    def run_line(self, level: str, line: str) -> None:
        self._mirror.run_line(level, line, self._clock.now_ns())
        self._listen(lambda listener: listener.line(None, level, line))

    def _listen(self, tell: Callable[[Listener], None]) -> None:
        """Tell the listener, as long as it listens: who watches a run must not end it."""
        if self._listener is None:
            return
        try:
            tell(self._listener)
        except Exception as exc:
            self._listener = None
            self._mirror.run_line("ERROR", f"the listener raised and is told nothing more: {exc}", self._clock.now_ns())

    # Begin and end

    def _begin(self) -> None:
        self._record.started_ns = now = self._clock.now_ns()
        self._record.status = RunStatus.RUNNING
        self._journal.append(run_started_line(now))
        self._mirror.run_line("INFO", f"Run {self._record.run_id} started", now)
        self._listen(lambda listener: listener.run_created(self._record.run_id, self._built.spec))
        self._fire(self._built.flow.on_running, running())

    def _fire_end(self, result: EngineResult) -> bool:
        """Fire the hooks of the end; the run has its result by then, so an interruption ends only the hooks."""
        try:
            if result.status is RunStatus.SUCCEEDED:
                self._fire(self._built.flow.on_completion, completed())
            elif result.status is RunStatus.FAILED:
                self._fire(self._built.flow.on_failure, failed(result.error_message))
        except KeyboardInterrupt:
            return True
        return False

    def _fire(self, hooks: tuple[Any, ...], state: Any) -> None:
        if hooks:
            context = RunContext(
                name=self._built.spec.name, run_id=self._record.run_id, parameters=self._built.parameters
            )
            with captured(Capture(self.run_line)):
                fire(hooks, context, state, self.run_line)

    def _end(self, result: EngineResult) -> None:
        ended = RunEnded(result.status, self._clock.now_ns(), result.error_message)
        self._record.status, self._record.ended_ns = ended.status, ended.at_ns
        self._record.error_message = ended.error_message
        self._journal.append(run_ended_line(ended))
        store = LocalStore(self._home, warn=self._warn, clock=self._clock)
        store.carry_over(self._journal, files=self._mirror.drain)
        empty_trash(self._home)

    def _warn(self, sentence: str) -> None:
        self._listen(lambda listener: listener.line(None, "WARNING", sentence))

    def _output(self) -> Any:
        return hydrate(self._built.spec.outputs, self._workplace)


def _target(flow: Flow[Any, Any]) -> str:
    """Return `<path>:<flow_fn>`, by which `dagy run` finds the flow again."""
    code = getattr(flow.fn, "__code__", None)
    return f"{code.co_filename}:{flow.fn.__name__}" if code is not None else ""


def _pins(flow: Flow[Any, Any]) -> str:
    """Return a hash of what the flow's project says that it needs; empty where there is no such file."""
    from dagy.dependency_pins import dependency_pins  # noqa: PLC0415 - only flows with a cache look for lock files
    from dagy.flow_source import locate  # noqa: PLC0415 - see above

    path = Path(_target(flow).rpartition(":")[0])
    return short_hash(dependency_pins(locate(path, cwd=Path.cwd())).pins) if path.is_file() else ""


@contextmanager
def _stopped_by_signals(engine: Engine) -> Iterator[None]:
    """Turn Ctrl+C and SIGTERM into stops of the engine: the first lets attempts in flight end, the second does not.

    Only the main thread can take signals; elsewhere, and where the program has handlers of its own, nothing changes.

    NOTE: the stop is made by a thread that reads Python's wake-up pipe, not by the handler: a handler runs only when
    the main thread comes back to its bytecode, and a signal in the moment before that blocks would wait for ever.
    """
    own = [each for each in _STOPS if signal.getsignal(each) in (signal.default_int_handler, signal.SIG_DFL)]
    if threading.current_thread() is not threading.main_thread() or not own:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, lambda *_: None) for number in own}
    wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    reader = threading.Thread(target=_pass_on, args=(reading, engine, frozenset(own)), daemon=True, name="dagy-signals")
    reader.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(writing)
        reader.join()
        os.close(reading)


def _pass_on(reading: int, engine: Engine, own: frozenset[int]) -> None:
    seen = 0
    while numbers := os.read(reading, 16):
        for number in numbers:
            if number in own:
                seen += 1
                engine.stop(Stop(*_STOPS[signal.Signals(number)], now=seen > 1))


_STOPS = {
    signal.SIGINT: (RunStatus.CANCELLED, "Cancelled by user"),
    signal.SIGTERM: (RunStatus.FAILED, "Worker shutdown requested via SIGTERM"),
}


def empty_trash(home: Home) -> None:
    """Have what retention took away deleted by a process of its own that nobody waits for."""
    try:
        paths = [entry.path for entry in os.scandir(home.trash)]
    except FileNotFoundError:
        return
    if paths:
        # The shell ends at once, so no child of this process is left behind; what it started works at low priority.
        script = 'nice -n 19 rm -rf -- "$@" >/dev/null 2>&1 &'
        process = os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *paths], os.environ)
        os.waitpid(process, 0)


def _shown(value: Any) -> Any:
    """Return a parameter as the run's record shows it."""
    try:
        return encode(value, Upstream())
    except NotEncodable:
        return repr(value)
