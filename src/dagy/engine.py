"""The engine: executes a built flow in dependency order.

It decides what may start and what follows from an end, and tells an observer. It knows neither disk nor cloud nor
thread: a runner executes attempts, an observer records, a clock waits.

All decisions are taken under one lock, by whichever thread reports an end; the thread that called `run` only waits for
retries that come due, for a stop, and for the end of the run.
"""

from __future__ import annotations

import heapq
import queue
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dagy.clock import Clock, SystemClock
from dagy.errors import TaskFailedError
from dagy.events import Change, Observer, TaskEnded, TaskRetrying, TaskStarted
from dagy.graph import DagState, Fate
from dagy.retry import with_jitter
from dagy.runners import Attempt, Outcome, Runner, Workplace
from dagy.spec import FlowSpec
from dagy.status import RunStatus, TaskRunStatus, check_task_transition


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends before all its task runs did.

    Attributes:
        status: what the run becomes.
        message: the run's error message.
        now: whether attempts in flight are given up instead of waited for.
    """

    status: RunStatus
    message: str
    now: bool = False


@dataclass(frozen=True, slots=True)
class EngineResult:
    """How a run ended. `failure` is the first task that failed, if that is what made the run fail."""

    status: RunStatus
    error_message: str | None
    failure: TaskFailedError | None


class Engine:
    """One execution of one FlowSpec.

    Args:
        spec: the graph.
        workplace: the tasks' functions and outputs.
        runner: executes attempts.
        observer: hears of every change, and has recorded it before anything follows from it.
        max_workers: how many attempts may be in flight, 1 or more.
        fail_fast: whether the first failed task run stops the run: nothing new starts, waiting retries are given up,
            attempts in flight end and are recorded.
        clock: tells the time and waits.
        draw: a random number in [0, 1), for jitter.
    """

    def __init__(
        self,
        spec: FlowSpec,
        *,
        workplace: Workplace,
        runner: Runner,
        observer: Observer,
        max_workers: int = 1,
        fail_fast: bool = True,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spec = spec
        self._nodes = spec.task_runs
        self._workplace = workplace
        self._runner = runner
        self._observer = observer
        self._fail_fast = fail_fast
        self._clock = clock or SystemClock()
        self._draw = draw

        self._dag = DagState(spec)
        self._lock = threading.Lock()
        #: Wakes the thread in `run`; a SimpleQueue because a signal handler may put into it.
        self._messages: queue.SimpleQueue[Stop | None] = queue.SimpleQueue()
        self._wake = False
        self._statuses = [TaskRunStatus.PENDING] * len(self._nodes)
        self._started_ns: dict[int, int] = {}
        self._in_flight: dict[int, Attempt] = {}
        self._free_workers = max_workers
        self._ready: deque[int] = deque()
        #: The next attempt of task runs between two attempts, and when each is due, soonest first.
        self._following: dict[int, Attempt] = {}
        self._due: list[tuple[float, int]] = []
        self._slots = {
            name: task.concurrency_limit for name, task in spec.tasks.items() if task.concurrency_limit is not None
        }
        self._waiting_for_slot: dict[str, deque[int]] = {name: deque() for name in self._slots}
        self._changes: list[Change] = []
        self._failed: list[int] = []
        self._first_failure: TaskFailedError | None = None
        self._stop: Stop | None = None
        self._broken: BaseException | None = None

    def run(self) -> EngineResult:
        """Execute the flow and return how it ended.

        Raises:
            Whatever the observer or the runner raised: then the run's records end where that happened.
        """
        self._runner.open(self)
        deadline = self._deadline()
        try:
            self._advance(lambda: self._ready.extend(self._dag.ready()))
            while not self._is_over():
                self._wait(deadline)
        finally:
            self._runner.close()
        if self._broken is not None:
            raise self._broken
        with self._lock:
            self._end_the_rest()
            self._tell()
        return self._result()

    def stop(self, stop: Stop) -> None:
        """Ask the run to end early; may be called from any thread and from a signal handler.

        The first stop decides the run's status; a later one with `now` gives up what is in flight.
        """
        self._messages.put(stop)

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """A runner reports the end of an attempt; one that the engine has given up is ignored."""

        def decide() -> None:
            if self._in_flight.get(attempt.index) is not attempt:
                return
            del self._in_flight[attempt.index]
            self._free_workers += 1
            if not outcome.abandoned:
                self._free_slot(attempt)
            if outcome.may_retry and self._stop is None:
                self._retry_later(attempt, outcome)
            else:
                self._end(attempt, outcome)

        self._advance(decide)

    def released(self, attempt: Attempt) -> None:
        """A runner reports that an abandoned attempt has returned after all."""
        self._advance(lambda: self._free_slot(attempt))

    def _advance(self, decide: Callable[[], None]) -> None:
        """Take a decision, have it recorded, then start what it made possible."""
        try:
            with self._lock:
                decide()
                starting = self._admit()
                self._tell()
                wake = self._wake or self._is_over()
                self._wake = False
            for attempt in starting:
                self._runner.start(attempt)
        except BaseException as exc:  # it could not be recorded, or no thread could be had: nothing may go on
            self._broken = self._broken or exc
            wake = True
        if wake:
            self._messages.put(None)

    def _is_over(self) -> bool:
        if self._broken is not None or self._dag.is_finished:
            return True
        return self._stop is not None and not self._in_flight

    # Starting

    def _admit(self) -> list[Attempt]:
        starting: list[Attempt] = []
        while self._ready and self._free_workers and self._stop is None:
            index = self._ready.popleft()
            if self._take_slot(index):
                attempt = self._following.pop(index, None) or Attempt(index, self._nodes[index], 1)
                self._begin(attempt)
                starting.append(attempt)
        return starting

    def _begin(self, attempt: Attempt) -> None:
        now = self._clock.now_ns()
        self._free_workers -= 1
        self._in_flight[attempt.index] = attempt
        self._started_ns.setdefault(attempt.index, now)
        self._set_status(attempt.index, TaskRunStatus.RUNNING)
        self._changes.append(TaskStarted(attempt.index, attempt.node, attempt.number, now))

    def _take_slot(self, index: int) -> bool:
        if not self._slots:
            return True
        name = self._nodes[index].task
        free = self._slots.get(name)
        if free is None:
            return True
        if not free:
            self._waiting_for_slot[name].append(index)
            return False
        self._slots[name] = free - 1
        return True

    def _free_slot(self, attempt: Attempt) -> None:
        name = attempt.node.task
        if name in self._slots:
            self._slots[name] += 1
            if self._waiting_for_slot[name]:
                self._ready.appendleft(self._waiting_for_slot[name].popleft())

    # Ending

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        index, now = attempt.index, self._clock.now_ns()
        status = _final_status(outcome)
        message = outcome.error_message
        if status is TaskRunStatus.CANCELLED:
            message = _not_retried(attempt.number, message)
        self._set_status(index, status)
        self._changes.append(
            TaskEnded(
                index,
                attempt.node,
                status,
                attempt.number,
                self._started_ns.pop(index),
                now,
                output=outcome.output,
                error_message=message,
                trace=outcome.trace,
            )
        )
        if outcome.output is not None:
            self._workplace.results[attempt.node.id] = outcome.output
        elif status is TaskRunStatus.CANCELLED:
            return  # what depends on it is cancelled with the rest of the run
        else:
            self._note_failure(attempt, outcome)
        self._follow(index, success=status.is_success, now=now)

    def _note_failure(self, attempt: Attempt, outcome: Outcome) -> None:
        self._failed.append(attempt.index)
        if self._first_failure is None:
            self._first_failure = TaskFailedError(
                attempt.node.task,
                outcome.error_message or "",
                run_id=self._workplace.run_id,
                task_run_id=attempt.node.id,
                user_traceback=outcome.trace or "",
            )
        if self._fail_fast and self._stop is None:
            self._stop = Stop(RunStatus.FAILED, str(self._first_failure))

    def _follow(self, index: int, *, success: bool, now: int) -> None:
        for child, fate in self._dag.complete(index, success=success):
            if fate is Fate.READY:
                self._ready.append(child)
            else:
                self._end_unstarted(child, TaskRunStatus.SKIPPED, now)

    def _end_unstarted(self, index: int, status: TaskRunStatus, now: int) -> None:
        attempt = self._following.get(index)
        self._set_status(index, status)
        if attempt is None:
            change = TaskEnded(index, self._nodes[index], status, 0, None, now, error_message=_WHY_NOT_STARTED[status])
        else:
            tried = attempt.number - 1
            message = _not_retried(tried, attempt.last_error)
            change = TaskEnded(
                index, attempt.node, status, tried, self._started_ns.pop(index), now, error_message=message
            )
        self._changes.append(change)

    # Waiting

    def _deadline(self) -> float | None:
        limit = self._spec.options.get("timeout_seconds")
        return None if limit is None else self._clock.monotonic() + limit

    def _wait(self, deadline: float | None) -> None:
        with self._lock:
            times = [self._due[0][0]] if self._due else []
            if deadline is not None and self._stop is None:
                times.append(deadline)
            busy = bool(self._in_flight)
        timeout = max(0.0, min(times) - self._clock.monotonic()) if times else None
        message = self._clock.wait(self._messages, timeout, busy=busy)
        now = self._clock.monotonic()
        if message is None and deadline is not None and now >= deadline:
            limit = self._spec.options["timeout_seconds"]
            message = Stop(RunStatus.FAILED, f"Flow exceeded timeout of {limit:g}s", now=True)
        if message is not None:
            self._advance(lambda: self._begin_stop(message))
        elif self._due:
            self._advance(lambda: self._resume_due(now))

    def _retry_later(self, attempt: Attempt, outcome: Outcome) -> None:
        task = self._spec.tasks[attempt.node.task]
        delay = with_jitter(task.retry_delays_seconds[attempt.number - 1], task.retry_jitter_factor, self._draw)
        message = outcome.error_message or ""
        self._following[attempt.index] = Attempt(attempt.index, attempt.node, attempt.number + 1, last_error=message)
        heapq.heappush(self._due, (self._clock.monotonic() + delay, attempt.index))
        self._wake = True
        now = self._clock.now_ns()
        self._changes.append(
            TaskRetrying(attempt.index, attempt.node, attempt.number, now, delay, message, outcome.trace)
        )

    def _resume_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self._ready.append(heapq.heappop(self._due)[1])

    # Stopping

    def _begin_stop(self, stop: Stop) -> None:
        if self._stop is None:
            self._stop = stop
        if not stop.now:
            text = f"{stop.message}: waiting for {len(self._in_flight)} running tasks, interrupt again to give them up"
            self._observer.run_line("WARNING", text)
        else:
            self._observer.run_line("WARNING", f"{stop.message}: giving up {len(self._in_flight)} running tasks")
            now = self._clock.now_ns()
            for index, attempt in self._in_flight.items():
                self._set_status(index, TaskRunStatus.CANCELLED)
                self._changes.append(
                    TaskEnded(
                        index,
                        attempt.node,
                        TaskRunStatus.CANCELLED,
                        attempt.number,
                        self._started_ns.pop(index),
                        now,
                        error_message=f"Given up while it was running: {stop.message}",
                    )
                )
            self._in_flight.clear()

    def _end_the_rest(self) -> None:
        """Give a final status to every task run that a stop left without one."""
        now = self._clock.now_ns()
        skipped, cancelled = self._dag.abandon(self._failed)
        for indices, status in ((skipped, TaskRunStatus.SKIPPED), (cancelled, TaskRunStatus.CANCELLED)):
            for index in indices:
                if not self._statuses[index].is_terminal:
                    self._end_unstarted(index, status, now)

    # Telling

    def _set_status(self, index: int, status: TaskRunStatus) -> None:
        check_task_transition(self._statuses[index], status)
        self._statuses[index] = status

    def _tell(self) -> None:
        if self._changes:
            changes, self._changes = self._changes, []
            self._observer.changed(changes)

    def _result(self) -> EngineResult:
        if all(status.is_success for status in self._statuses):
            return EngineResult(RunStatus.SUCCEEDED, None, None)
        if self._stop is not None:
            failure = self._first_failure if self._stop.message == str(self._first_failure) else None
            return EngineResult(self._stop.status, self._stop.message, failure)
        return EngineResult(RunStatus.FAILED, str(self._first_failure), self._first_failure)


_WHY_NOT_STARTED = {
    TaskRunStatus.SKIPPED: "A task run that it depends on did not succeed",
    TaskRunStatus.CANCELLED: "The run was stopped before it started",
}


def _final_status(outcome: Outcome) -> TaskRunStatus:
    if outcome.error_message is None:
        return TaskRunStatus.SUCCEEDED
    if outcome.may_retry:  # the run is stopping, so the attempts that were left are not made
        return TaskRunStatus.CANCELLED
    return TaskRunStatus.TIMED_OUT if outcome.timed_out else TaskRunStatus.FAILED


def _not_retried(attempts: int, error: str | None) -> str:
    return f"The run was stopped before attempt {attempts + 1}: {error}"
