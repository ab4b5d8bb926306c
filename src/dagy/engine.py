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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dagy.artifacts import Output
from dagy.attempts import Attempt, Outcome, Workplace, item_of
from dagy.clock import Clock, SystemClock
from dagy.errors import ArtifactSerializationError, CacheKeyError, TaskFailedError
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
    """A mapped call whose items are under way."""

    index: int
    items: deque[int]
    free: int
    left: int
    failed: int = 0


class Reuse(Protocol):
    """Knows outputs of earlier runs."""

    def find(self, node: TaskRunSpec, workplace: Workplace) -> Output | None:
        """Return an output that this task run need not compute again; its inputs are known by now.

        Raises:
            CacheKeyError: that can not be decided; the task run then fails with this message.
        """

    def keep(self, node: TaskRunSpec, output: Output, workplace: Workplace) -> None:
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
        self._ready: deque[int] = deque()
        #: The next attempt of task runs between two attempts, and when each is due, soonest first.
        self._following: dict[int, Attempt] = {}
        self._due: list[tuple[float, int]] = []
        self._has_async = any(task.isolation == "async" for task in spec.tasks.values())
        self._slots = {
            name: task.concurrency_limit for name, task in spec.tasks.items() if task.concurrency_limit is not None
        }
        self._waiting_for_slot: dict[str, deque[int]] = {name: deque() for name in self._slots}
        self._maps: dict[int, _Map] = {}
        self._map_of: dict[int, _Map] = {}
        self._tear_downs: deque[int] | None = None
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
            if self._occupies_worker(attempt.node):
                self._free_workers += 1
            if not outcome.abandoned:
                self._free_slot(attempt)
            if outcome.items is not None:
                self._expand(attempt, outcome.items)
            elif outcome.may_retry and self._stop is None:
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
                if self._stop is not None and not self._in_flight:
                    self._end_the_rest()
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
        return self._broken is not None or self._dag.is_finished

    # Starting

    def _admit(self) -> list[Attempt]:
        starting: list[Attempt] = []
        postponed: list[int] = []
        while self._ready and self._stop is None:
            index = self._ready.popleft()
            node = self._nodes[index]
            if not self._free_workers and self._occupies_worker(node):
                postponed.append(index)
                if not self._has_async:
                    break
            elif self._is_wanted(index, node) and self._take_slot(index):
                starting.append(self._begin(index))
        self._ready.extendleft(reversed(postponed))
        if self._tear_downs and not self._in_flight:
            starting.append(self._begin(self._tear_downs.popleft()))
        return starting

    def _occupies_worker(self, node: TaskRunSpec) -> bool:
        return not self._has_async or node.map is not None or self._spec.tasks[node.task].isolation != "async"

    def _is_wanted(self, index: int, node: TaskRunSpec) -> bool:
        """Whether a task run whose parents have ended is to be executed; if not, it ends here."""
        if index in self._following:
            return True
        now = self._clock.now_ns()
        if node.trigger_rule == TEAR_DOWN and not self._is_set_up(node):
            self._end_unstarted(index, TaskRunStatus.SKIPPED, now, "What it tears down was not set up")
            self._follow(index, Ending.SKIPPED, now)
            return False
        try:
            if node.when is None or evaluate(node.when, self._workplace):
                return self._reuse is None or node.map is not None or not self._is_reused(index, node, now)
        except (LookupError, TypeError, ValueError, FileNotFoundError, ArtifactSerializationError) as exc:
            self._fail_unstarted(index, f"The condition of {node.id} can not be decided: {type(exc).__name__}: {exc}")
            return False
        self._end_unstarted(index, TaskRunStatus.SKIPPED, now, "Its condition does not hold")
        self._follow(index, Ending.SKIPPED, now)
        return False

    def _fail_unstarted(self, index: int, message: str) -> None:
        now = self._clock.now_ns()
        self._end_unstarted(index, TaskRunStatus.FAILED, now, message)
        self._note_failure(index, Outcome(error_message=message))
        self._go_on(index, TaskRunStatus.FAILED, now)

    def _is_reused(self, index: int, node: TaskRunSpec, now: int) -> bool:
        """Whether the task run ends here, with an output of an earlier run or because that can not be decided."""
        assert self._reuse is not None
        try:
            output = self._reuse.find(node, self._workplace)
        except CacheKeyError as exc:
            self._fail_unstarted(index, str(exc))
            return True
        if output is None:
            return False
        self._workplace.results[node.id] = output
        self._set_status(index, TaskRunStatus.CACHED)
        self._changes.append(TaskEnded(index, node, TaskRunStatus.CACHED, 0, None, now, output))
        self._go_on(index, TaskRunStatus.CACHED, now)
        return True

    def _go_on(self, index: int, status: TaskRunStatus, now: int) -> None:
        """See what follows from the end of a task run, which may be an item of a map."""
        if index in self._map_of:
            self._item_ended(index, status)
        else:
            self._follow(index, Ending.SUCCEEDED if status.is_success else Ending.FAILED, now)

    def _is_set_up(self, node: TaskRunSpec) -> bool:
        return all(each in self._workplace.results for each in node.set_up)

    def _begin(self, index: int) -> Attempt:
        attempt = self._following.pop(index, None) or Attempt(index, self._nodes[index], 1)
        now = self._clock.now_ns()
        if self._occupies_worker(attempt.node):
            self._free_workers -= 1
        self._in_flight[index] = attempt
        self._started_ns.setdefault(index, now)
        self._set_status(index, TaskRunStatus.RUNNING)
        self._changes.append(TaskStarted(index, attempt.node, attempt.number, now))
        return attempt

    def _take_slot(self, index: int) -> bool:
        if not self._slots or self._nodes[index].map is not None:
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
        if name in self._slots and attempt.node.map is None:
            self._slots[name] += 1
            if self._waiting_for_slot[name]:
                self._ready.appendleft(self._waiting_for_slot[name].popleft())

    # Mapped calls

    def _expand(self, attempt: Attempt, items: Sequence[Mapping[str, Any]]) -> None:
        """Put the items of a mapped call behind the task runs of the spec and make the first of them ready."""
        node, first = attempt.node, len(self._nodes)
        nodes = [item_of(node, number, inputs) for number, inputs in enumerate(items)]
        self._nodes.extend(nodes)
        self._statuses.extend([TaskRunStatus.PENDING] * len(nodes))
        self._workplace.item_counts[node.id] = len(nodes)
        self._changes.append(MapExpanded(attempt.index, node, first, nodes))
        positions = deque(range(first, first + len(nodes)))
        limit = node.map.get("max_concurrency") or len(nodes)
        state = self._maps[attempt.index] = _Map(attempt.index, positions, limit, len(nodes))
        self._map_of.update(dict.fromkeys(positions, state))
        if not nodes:
            self._end_map(state)
        self._release_items(state)

    def _release_items(self, state: _Map) -> None:
        while state.free and state.items:
            state.free -= 1
            self._ready.append(state.items.popleft())

    def _item_ended(self, index: int, status: TaskRunStatus) -> None:
        state = self._map_of[index]
        state.free += 1
        state.left -= 1
        state.failed += not status.is_success
        if not state.left:
            self._end_map(state)
        else:
            self._release_items(state)

    def _end_map(self, state: _Map) -> None:
        del self._maps[state.index]
        node, now = self._nodes[state.index], self._clock.now_ns()
        status, message, output = TaskRunStatus.SUCCEEDED, None, self._workplace.outputs.of_map(node.id)
        if state.failed:
            status, count = TaskRunStatus.FAILED, self._workplace.item_counts[node.id]
            message = f"{state.failed} of {count} items did not succeed"
            self._failed.append(state.index)
        else:
            self._workplace.results[node.id] = output
        self._set_status(state.index, status)
        started = self._started_ns.pop(state.index)
        self._changes.append(
            TaskEnded(
                state.index, node, status, 1, started, now, None if state.failed else output, error_message=message
            )
        )
        self._follow(state.index, Ending.FAILED if state.failed else Ending.SUCCEEDED, now)

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
            if self._reuse is not None:
                self._reuse.keep(attempt.node, outcome.output, self._workplace)
        elif status is not TaskRunStatus.CANCELLED:
            self._note_failure(index, outcome)
        # What depends on a cancelled one is cancelled with the rest of the run.
        if status is not TaskRunStatus.CANCELLED or index in self._map_of or self._tear_downs is not None:
            self._go_on(index, status, now)

    def _note_failure(self, index: int, outcome: Outcome) -> None:
        node, message = self._nodes[index], outcome.error_message or ""
        self._workplace.failures[node.id] = message
        state = self._map_of.get(index)
        if state is None:
            self._failed.append(index)
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

    def _follow(self, index: int, ending: Ending, now: int) -> None:
        for child, fate in self._dag.complete(index, ending):
            if fate is Fate.READY:
                self._ready.append(child)
            else:
                self._end_unstarted(child, TaskRunStatus.SKIPPED, now, _WHY_SKIPPED[fate])

    def _end_unstarted(self, index: int, status: TaskRunStatus, now: int, message: str) -> None:
        attempt = self._following.get(index)
        self._set_status(index, status)
        if attempt is None:
            change = TaskEnded(index, self._nodes[index], status, 0, None, now, error_message=message)
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
        jitter = attempt.node.options.get(
            "retry_jitter_factor", self._spec.tasks[attempt.node.task].retry_jitter_factor
        )
        delay = with_jitter(outcome.retry_delay_seconds, jitter or 0.0, self._draw)
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
            return
        self._observer.run_line("WARNING", f"{stop.message}: giving up {len(self._in_flight)} running tasks")
        now = self._clock.now_ns()
        given_up = list(self._in_flight.values())
        self._in_flight.clear()
        for attempt in given_up:
            self._runner.give_up(attempt)
            self._cancel(attempt.index, attempt.number, now, f"Given up while it was running: {stop.message}")
        if self._tear_downs is not None:
            for index in self._tear_downs:
                self._end_unstarted(index, TaskRunStatus.CANCELLED, now, "The run was stopped again before it started")
            for index in (*self._tear_downs, *(attempt.index for attempt in given_up)):
                self._dag.complete(index, Ending.FAILED)
            self._tear_downs.clear()

    def _cancel(self, index: int, attempt: int, now: int, message: str) -> None:
        """End a task run that has begun."""
        self._set_status(index, TaskRunStatus.CANCELLED)
        started = self._started_ns.pop(index)
        ended = TaskEnded(
            index, self._nodes[index], TaskRunStatus.CANCELLED, attempt, started, now, error_message=message
        )
        self._changes.append(ended)
        if index in self._map_of:
            self._map_of[index].failed += 1

    def _end_the_rest(self) -> None:
        """Give a final status to every task run that a stop left without one; then what tears down has its turn."""
        if self._tear_downs is not None:
            return
        now = self._clock.now_ns()
        for state in list(self._maps.values()):
            self._end_stopped_map(state, now)
        skipped, cancelled = self._dag.abandon(self._failed)
        for indices, status in ((skipped, TaskRunStatus.SKIPPED), (cancelled, TaskRunStatus.CANCELLED)):
            for index in indices:
                if not self._statuses[index].is_terminal:
                    self._end_unstarted(index, status, now, _WHY_STOPPED[status])
        self._ready.clear()
        self._tear_downs = deque()
        for index in self._dag.left():
            if self._is_set_up(self._nodes[index]):
                self._tear_downs.append(index)
            elif not self._statuses[index].is_terminal:
                self._end_unstarted(index, TaskRunStatus.SKIPPED, now, "What it tears down was not set up")
                self._dag.complete(index, Ending.SKIPPED)

    def _end_stopped_map(self, state: _Map, now: int) -> None:
        """End what is left of a map: its items are cancelled, itself it failed if one of its items did."""
        del self._maps[state.index]
        node = self._nodes[state.index]
        for index, owner in self._map_of.items():
            if owner is state and not self._statuses[index].is_terminal:
                self._end_unstarted(index, TaskRunStatus.CANCELLED, now, _WHY_STOPPED[TaskRunStatus.CANCELLED])
        has_failed = any(each.startswith(f"{node.id}[") for each in self._workplace.failures)
        status = TaskRunStatus.FAILED if has_failed else TaskRunStatus.CANCELLED
        if has_failed:
            self._failed.append(state.index)
        self._set_status(state.index, status)
        started = self._started_ns.pop(state.index)
        message = "The run was stopped before all its items had ended"
        self._changes.append(TaskEnded(state.index, node, status, 1, started, now, error_message=message))

    # Telling

    def _set_status(self, index: int, status: TaskRunStatus) -> None:
        check_task_transition(self._statuses[index], status)
        self._statuses[index] = status

    def _tell(self) -> None:
        if self._changes:
            changes, self._changes = self._changes, []
            self._observer.changed(changes)

    def _result(self) -> EngineResult:
        if self._stop is not None and (self._first_failure or TaskRunStatus.CANCELLED in self._statuses):
            failure = self._first_failure if self._stop.message == str(self._first_failure) else None
            return EngineResult(self._stop.status, self._stop.message, failure)
        if self._first_failure is not None:
            return EngineResult(RunStatus.FAILED, str(self._first_failure), self._first_failure)
        return EngineResult(RunStatus.SUCCEEDED, None, None)


_WHY_SKIPPED = {
    Fate.BLOCKED: "A task run that it depends on did not succeed",
    Fate.SKIPPED: "A task run that it depends on was skipped",
}

_WHY_STOPPED = {
    TaskRunStatus.SKIPPED: _WHY_SKIPPED[Fate.BLOCKED],
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
