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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dagy.artifacts import Output
from dagy.attempts import Attempt, Outcome, Workplace
from dagy.clock import Clock, SystemClock
from dagy.errors import CacheKeyError, TaskFailedError
from dagy.events import Change, MapExpanded, Observer, TaskEnded, TaskRetrying, TaskStarted
from dagy.graph import DagState, Ending, Fate
from dagy.references import evaluate
from dagy.retry import with_jitter
from dagy.runners import Runner
from dagy.spec import TEAR_DOWN, FlowSpec, TaskRunSpec
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


@dataclass(slots=True)
class _Map:
    """A mapped call whose items, at the positions `first` to `first + count`, are under way."""

    index: int
    first: int
    count: int
    #: How many more of its items may be made ready now.
    free: int
    #: The next item to make ready.
    following: int
    left: int
    failed: int = 0
    cancelled: int = 0


class Reuse(Protocol):
    """Knows outputs of earlier runs."""

    def find(self, node: TaskRunSpec, workplace: Workplace) -> Output | None:
        """Return an output that this task run need not compute again; its inputs are known by now.

        Raises:
            CacheKeyError: that can not be decided; the task run then fails with this message.
        """

    def keep(self, node: TaskRunSpec, output: Output) -> None:
        """Take note of an output that has just been computed."""


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
        reuse: outputs of earlier runs, if they may be used again.
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
        reuse: Reuse | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spec = spec
        #: The task runs of the spec, and behind them the items of maps.
        self._nodes: list[TaskRunSpec] = list(spec.task_runs)
        self._workplace = workplace
        self._runner = runner
        self._observer = observer
        self._fail_fast = fail_fast
        self._reuse = reuse
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
        #: What may start: task runs that occupy a worker, and async ones, which wait for nobody.
        self._ready: deque[int] = deque()
        self._ready_async: deque[int] = deque()
        #: The next attempt of task runs between two attempts, and when each is due, soonest first.
        self._following: dict[int, Attempt] = {}
        self._due: list[tuple[float, int]] = []
        self._async_tasks = {name for name, task in spec.tasks.items() if task.isolation == "async"}
        self._slots = {
            name: task.concurrency_limit for name, task in spec.tasks.items() if task.concurrency_limit is not None
        }
        self._waiting_for_slot: dict[str, deque[int]] = {name: deque() for name in self._slots}
        #: Attempts that were abandoned at their time limit and still hold a slot.
        self._abandoned: list[Attempt] = []
        self._maps: dict[int, _Map] = {}
        self._map_of: dict[int, _Map] = {}
        self._changes: list[Change] = []
        self._first_failure: TaskFailedError | None = None
        self._stop: Stop | None = None
        self._is_swept = False
        self._is_cut_short = False
        self._broken: BaseException | None = None

    def run(self) -> EngineResult:
        """Execute the flow and return how it ended.

        Raises:
            Whatever the observer or the runner raised: then the run's records end where that happened.
        """
        self._runner.open(self)
        deadline = self._deadline()
        try:
            self._advance(lambda: self._make_ready(self._dag.ready()))
            while not self._is_over():
                self._wait(deadline)
        finally:
            self._runner.close()
        if self._broken is not None:
            raise self._broken
        return self._result()

    def stop(self, stop: Stop) -> None:
        """Ask the run to end early; may be called from any thread and from a signal handler.

        The first stop decides the run's status; a later one with `now` gives up what is in flight.
        """
        self._messages.put(stop)

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """A runner reports the end of an attempt; one that the engine has given up is ignored."""
        self._advance(lambda: self._attempt_ended(attempt, outcome))

    def released(self, attempt: Attempt) -> None:
        """A runner reports that an abandoned attempt has returned after all."""

        def decide() -> None:
            if attempt in self._abandoned:
                self._abandoned.remove(attempt)
                self._free_slot(attempt)

        self._advance(decide)

    def _advance(self, decide: Callable[[], None]) -> None:
        """Take a decision, have it recorded, then start what it made possible."""
        starting: list[Attempt] = []
        with self._lock:
            if self._broken is not None:
                return
            try:
                decide()
                starting = self._admitted()
                self._tell()
            except BaseException as exc:  # it could not be recorded: nothing may go on
                self._broken, starting = exc, []
            wake = self._wake or self._is_over()
            self._wake = False
        try:
            for attempt in starting:
                self._runner.start(attempt)
        except BaseException as exc:  # no thread could be had
            self._broken, wake = self._broken or exc, True
        if wake:
            self._messages.put(None)

    def _is_over(self) -> bool:
        return self._broken is not None or self._dag.is_finished

    # Starting

    def _make_ready(self, indices: Iterable[int]) -> None:
        for index in indices:
            (self._ready if self._occupies_worker(self._nodes[index]) else self._ready_async).append(index)

    def _occupies_worker(self, node: TaskRunSpec) -> bool:
        return node.task not in self._async_tasks or node.map is not None

    def _admitted(self) -> list[Attempt]:
        """Begin what may start; when nothing can go on any more, make that possible first."""
        starting = self._admit()
        while not starting and not self._in_flight and not self._dag.is_finished:
            if self._stop is not None and not self._is_swept:
                self._sweep()
            elif self._abandoned and any(self._waiting_for_slot.values()):
                attempt = self._abandoned.pop(0)
                text = f"{attempt.node.id}: its abandoned attempt still runs; its slot is given to the next"
                self._observer.run_line("WARNING", text)
                self._free_slot(attempt)
            else:
                break
            starting = self._admit()
        return starting

    def _admit(self) -> list[Attempt]:
        starting: list[Attempt] = []
        while self._ready_async:
            self._admit_one(self._ready_async.popleft(), starting)
        while self._ready and self._free_workers:
            self._admit_one(self._ready.popleft(), starting)
        return starting

    def _admit_one(self, index: int, starting: list[Attempt]) -> None:
        node = self._nodes[index]
        if self._statuses[index].is_terminal:
            return
        if self._stop is not None and node.trigger_rule != TEAR_DOWN:
            return  # the sweep ends it
        if not self._has_slot(node):
            self._waiting_for_slot[node.task].append(index)
        elif self._is_wanted(index, node):
            if node.task in self._slots and node.map is None:
                self._slots[node.task] -= 1
            starting.append(self._begin(index))

    def _has_slot(self, node: TaskRunSpec) -> bool:
        return not self._slots or node.map is not None or self._slots.get(node.task, 1) > 0

    def _free_slot(self, attempt: Attempt) -> None:
        name = attempt.node.task
        if name in self._slots and attempt.node.map is None:
            self._slots[name] += 1
            if self._waiting_for_slot[name]:
                index = self._waiting_for_slot[name].popleft()
                (self._ready if self._occupies_worker(self._nodes[index]) else self._ready_async).appendleft(index)

    def _is_wanted(self, index: int, node: TaskRunSpec) -> bool:
        """Whether a task run whose parents have ended is to be executed; if not, it ends here."""
        if index in self._following:
            return True
        if node.trigger_rule == TEAR_DOWN and not self._is_set_up(node):
            self._finish(index, TaskRunStatus.SKIPPED, "What it tears down was not set up")
            return False
        try:
            holds = node.when is None or evaluate(node.when, self._workplace)
        except Exception as exc:  # values of users are compared, and may do anything
            message = f"The condition of {node.id} can not be decided: {type(exc).__name__}: {exc}"
            self._finish(index, TaskRunStatus.FAILED, message)
            return False
        if not holds:
            self._finish(index, TaskRunStatus.SKIPPED, "Its condition does not hold")
            return False
        return self._reuse is None or node.map is not None or not self._is_reused(index, node, self._reuse)

    def _is_reused(self, index: int, node: TaskRunSpec, reuse: Reuse) -> bool:
        """Whether the task run ends here, with an output of an earlier run or because that can not be decided."""
        try:
            output = reuse.find(node, self._workplace)
        except CacheKeyError as exc:
            self._finish(index, TaskRunStatus.FAILED, str(exc))
            return True
        except Exception as exc:
            self._observer.run_line("ERROR", f"{node.id} is computed, its earlier outputs can not be read: {exc}")
            return False
        if output is not None:
            self._finish(index, TaskRunStatus.CACHED, output=output)
        return output is not None

    def _is_set_up(self, node: TaskRunSpec) -> bool:
        """Whether there is something to tear down: what it takes succeeded, or its block has begun."""
        if node.set_up:
            return all(each in self._workplace.results for each in node.set_up)
        return any(self._dag.has_begun(each) for each in node.tears_down)

    def _begin(self, index: int) -> Attempt:
        attempt = self._following.pop(index, None) or Attempt(index, self._nodes[index], 1)
        now = self._clock.now_ns()
        if self._occupies_worker(attempt.node):
            self._free_workers -= 1
        self._in_flight[index] = attempt
        self._started_ns.setdefault(index, now)
        self._dag.begin(index)
        self._set_status(index, TaskRunStatus.RUNNING)
        self._changes.append(TaskStarted(index, attempt.node, attempt.number, now))
        return attempt

    # Ending

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome) -> None:
        if self._in_flight.get(attempt.index) is not attempt:
            return
        del self._in_flight[attempt.index]
        if self._occupies_worker(attempt.node):
            self._free_workers += 1
        if outcome.abandoned:
            self._abandoned.append(attempt)
        else:
            self._free_slot(attempt)
        goes_on = self._stop is None or attempt.node.trigger_rule == TEAR_DOWN
        if outcome.items is not None:
            self._expand(attempt, outcome.items)
        elif outcome.may_retry and goes_on:
            self._retry_later(attempt, outcome)
        elif outcome.may_retry:  # the run is stopping, so the attempts that were left are not made
            message = _not_retried(attempt.number, outcome.error_message)
            self._finish(attempt.index, TaskRunStatus.CANCELLED, message, attempt=attempt.number, outcome=outcome)
        else:
            self._finish(
                attempt.index, _final_status(outcome), outcome.error_message, attempt=attempt.number, outcome=outcome
            )
            self._keep(attempt.node, outcome)

    def _keep(self, node: TaskRunSpec, outcome: Outcome) -> None:
        if self._reuse is not None and outcome.output is not None:
            try:
                self._reuse.keep(node, outcome.output)
            except Exception as exc:  # an output that can not be kept is no reason to lose it
                self._observer.run_line("ERROR", f"The output of {node.id} is not kept for other runs: {exc}")

    def _finish(
        self,
        index: int,
        status: TaskRunStatus,
        message: str | None = None,
        *,
        attempt: int = 0,
        output: Output | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """End a task run and see what follows from that. There is no other way to end one by itself."""
        output = output if outcome is None else outcome.output
        following = self._following.pop(index, None)
        if following is not None:
            attempt, message = following.number - 1, _not_retried(following.number - 1, following.last_error)
        trace = None if outcome is None else outcome.trace
        self._record(index, status, message, attempt=attempt, output=output, trace=trace)
        node = self._nodes[index]
        if output is not None:
            self._workplace.results[node.id] = output
        if status in (TaskRunStatus.FAILED, TaskRunStatus.TIMED_OUT):
            self._note_failure(index, outcome or Outcome(error_message=message))
        if index in self._map_of:
            self._item_finished(self._map_of[index], status)
            return
        for child, fate in self._dag.complete(index, _ENDINGS[status]):
            if fate is Fate.READY:
                self._make_ready((child,))
            else:
                self._record(child, _STATUS_OF[fate], _WHY[fate])

    def _record(
        self,
        index: int,
        status: TaskRunStatus,
        message: str | None,
        *,
        attempt: int = 0,
        output: Output | None = None,
        trace: str | None = None,
    ) -> None:
        self._is_cut_short = self._is_cut_short or status is TaskRunStatus.CANCELLED
        self._set_status(index, status)
        started, now = self._started_ns.pop(index, None), self._clock.now_ns()
        self._changes.append(
            TaskEnded(index, self._nodes[index], status, attempt, started, now, output, message, trace)
        )

    def _note_failure(self, index: int, outcome: Outcome) -> None:
        node, message = self._nodes[index], outcome.error_message or ""
        self._workplace.failures[node.id] = message
        state = self._map_of.get(index)
        if self._dag.is_tolerated(state.index if state else index):
            return
        if self._first_failure is None:
            self._first_failure = TaskFailedError(
                node.task,
                message,
                run_id=self._workplace.run_id,
                task_run_id=node.id,
                user_traceback=outcome.trace or "",
            )
            self._first_failure.__cause__ = outcome.error
        if self._fail_fast and self._stop is None:
            self._stop = Stop(RunStatus.FAILED, str(self._first_failure))

    # Mapped calls

    def _expand(self, attempt: Attempt, nodes: Sequence[TaskRunSpec]) -> None:
        """Put the items of a mapped call behind the task runs of the spec and make the first of them ready."""
        node, first, count = attempt.node, len(self._nodes), len(nodes)
        self._nodes.extend(nodes)
        self._statuses.extend([TaskRunStatus.PENDING] * count)
        self._workplace.item_counts[node.id] = count
        self._changes.append(MapExpanded(attempt.index, node, first, list(nodes)))
        limit = node.map.get("max_concurrency") or count
        state = _Map(attempt.index, first, count, limit, first, count)
        self._maps[attempt.index] = state
        self._map_of.update(dict.fromkeys(range(first, first + count), state))
        self._release_items(state)
        if not count:
            self._end_map(state)

    def _release_items(self, state: _Map) -> None:
        while state.free and state.following < state.first + state.count:
            state.free -= 1
            self._make_ready((state.following,))
            state.following += 1

    def _item_finished(self, state: _Map, status: TaskRunStatus) -> None:
        state.free += 1
        state.left -= 1
        state.cancelled += status is TaskRunStatus.CANCELLED
        state.failed += not status.is_success and status is not TaskRunStatus.CANCELLED
        self._release_items(state)
        if not state.left:
            self._end_map(state)

    def _end_map(self, state: _Map) -> None:
        del self._maps[state.index]
        if state.failed:
            message = f"{state.failed} of {state.count} items did not succeed"
            self._finish(state.index, TaskRunStatus.FAILED, message, attempt=1)
        elif state.cancelled:
            message = f"{state.cancelled} of {state.count} items were cancelled"
            self._finish(state.index, TaskRunStatus.CANCELLED, message, attempt=1)
        else:
            output = self._workplace.outputs.of_map(self._nodes[state.index].id)
            self._finish(state.index, TaskRunStatus.SUCCEEDED, attempt=1, output=output)

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
        timeout = min(max(0.0, min(times) - self._clock.monotonic()), LONGEST_WAIT_SECONDS) if times else None
        message = self._clock.wait(self._messages, timeout, busy=busy)
        now = self._clock.monotonic()
        if message is None and deadline is not None and now >= deadline and self._stop is None:
            limit = self._spec.options["timeout_seconds"]
            message = Stop(RunStatus.FAILED, f"Flow exceeded timeout of {limit:g}s", now=True)
        if message is not None:
            self._advance(lambda: self._begin_stop(message))
        elif self._due:
            self._advance(lambda: self._resume_due(now))

    def _retry_later(self, attempt: Attempt, outcome: Outcome) -> None:
        node = attempt.node
        jitter = node.options.get("retry_jitter_factor", self._spec.tasks[node.task].retry_jitter_factor)
        delay = with_jitter(outcome.retry_delay_seconds, jitter or 0.0, self._draw)
        message = outcome.error_message or ""
        self._following[attempt.index] = Attempt(attempt.index, node, attempt.number + 1, last_error=message)
        heapq.heappush(self._due, (self._clock.monotonic() + delay, attempt.index))
        self._wake = True
        now = self._clock.now_ns()
        self._changes.append(TaskRetrying(attempt.index, node, attempt.number, now, delay, message, outcome.trace))

    def _resume_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            index = heapq.heappop(self._due)[1]
            if index in self._following:
                self._make_ready((index,))

    # Stopping

    def _begin_stop(self, stop: Stop) -> None:
        if self._stop is None:
            self._stop = stop
        count = len(self._in_flight)
        if not stop.now:
            text = f"{stop.message}: waiting for {count} running tasks, interrupt again to give them up"
            self._observer.run_line("WARNING", text)
            return
        self._observer.run_line("WARNING", f"{stop.message}: giving up {count} running tasks")
        given_up = list(self._in_flight.values())
        self._in_flight.clear()
        for attempt in given_up:
            self._runner.give_up(attempt)
            if self._occupies_worker(attempt.node):
                self._free_workers += 1
            self._free_slot(attempt)
            message = f"Given up while it was running: {stop.message}"
            self._finish(attempt.index, TaskRunStatus.CANCELLED, message, attempt=attempt.number)
        if self._is_swept:
            self._sweep(tear_downs=True)

    def _sweep(self, *, tear_downs: bool = False) -> None:
        """End every task run that a stop left without an end, parents first; those that tear down have their turn."""
        self._is_swept = True
        for state in list(self._maps.values()):
            for index in range(state.first, state.first + state.count):
                if not self._statuses[index].is_terminal:
                    self._finish(index, TaskRunStatus.CANCELLED, _WHY[Fate.CANCELLED])
        for index in self._dag.order:
            is_spared = self._nodes[index].trigger_rule == TEAR_DOWN and not tear_downs
            if not is_spared and not self._statuses[index].is_terminal:
                self._finish(index, TaskRunStatus.CANCELLED, _WHY[Fate.CANCELLED])

    # Telling

    def _set_status(self, index: int, status: TaskRunStatus) -> None:
        check_task_transition(self._statuses[index], status)
        self._statuses[index] = status

    def _tell(self) -> None:
        if self._changes:
            changes, self._changes = self._changes, []
            self._observer.changed(changes)

    def _result(self) -> EngineResult:
        if self._stop is not None and (self._first_failure or self._is_cut_short):
            failure = self._first_failure if self._stop.message == str(self._first_failure) else None
            return EngineResult(self._stop.status, self._stop.message, failure)
        if self._first_failure is not None:
            return EngineResult(RunStatus.FAILED, str(self._first_failure), self._first_failure)
        return EngineResult(RunStatus.SUCCEEDED, None, None)


#: A longer wait is made of several: the operating system's own limit lies far above, and differs.
LONGEST_WAIT_SECONDS = 3600.0

_ENDINGS = {
    TaskRunStatus.SUCCEEDED: Ending.SUCCEEDED,
    TaskRunStatus.CACHED: Ending.SUCCEEDED,
    TaskRunStatus.FAILED: Ending.FAILED,
    TaskRunStatus.TIMED_OUT: Ending.FAILED,
    TaskRunStatus.SKIPPED: Ending.SKIPPED,
    TaskRunStatus.CANCELLED: Ending.CANCELLED,
}

_STATUS_OF = {
    Fate.BLOCKED: TaskRunStatus.SKIPPED,
    Fate.SKIPPED: TaskRunStatus.SKIPPED,
    Fate.CANCELLED: TaskRunStatus.CANCELLED,
}

_WHY = {
    Fate.BLOCKED: "A task run that it depends on did not succeed",
    Fate.SKIPPED: "A task run that it depends on was skipped",
    Fate.CANCELLED: "The run was stopped before it started",
}


def _final_status(outcome: Outcome) -> TaskRunStatus:
    if outcome.error_message is None:
        return TaskRunStatus.SUCCEEDED
    return TaskRunStatus.TIMED_OUT if outcome.timed_out else TaskRunStatus.FAILED


def _not_retried(attempts: int, error: str | None) -> str:
    return f"The run was stopped before attempt {attempts + 1}: {error}"
