"""Who executes attempts: threads, an event loop, processes. And the seam between them and the engine."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from dagy.attempts import Attempt, Execution, Outcome, StillRunning, Workplace, expand, message_of
from dagy.log_capture import captured
from dagy.tracebacks import user_traceback

if TYPE_CHECKING:
    import asyncio

    from dagy.processes import ProcessPool


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

    def give_up(self, attempt: Attempt) -> None:
        """End an attempt in flight as far as that is possible; its report is ignored.

        It may come before the attempt's `start`, which then does nothing.
        """

    def close(self) -> None:
        """Start nothing more. Threads in flight are left to themselves; coroutines and processes are ended."""


class LocalRunner:
    """Executes attempts in this process: async tasks on an event loop, all others on threads."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._threads = ThreadRunner(workplace)
        self._loop = LoopRunner(workplace)

    def open(self, reports: Reports) -> None:
        self._threads.open(reports)
        self._loop.open(reports)

    def start(self, attempt: Attempt) -> None:
        self._of(attempt).start(attempt)

    def give_up(self, attempt: Attempt) -> None:
        self._of(attempt).give_up(attempt)

    def close(self) -> None:
        self._threads.close()
        self._loop.close()

    def _of(self, attempt: Attempt) -> ThreadRunner | LoopRunner:
        if attempt.node.map is None and self._workplace.call_of(attempt.node).task.isolation == "async":
            return self._loop
        return self._threads


def call_with_timeout(fn: Callable[[], Any], timeout_seconds: float, *, on_late_end: Callable[[], None]) -> Any:
    """Return `fn()`, called in a daemon thread with this thread's context variables.

    Raises:
        StillRunning: it has not returned in time; when it does, `on_late_end` is called.
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
                raise StillRunning(abandoned=True) from None
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
        #: Index and number of attempts that are not to begin any more.
        self._given_up: set[tuple[int, int]] = set()
        self._pool: ProcessPool | None = None

    def open(self, reports: Reports) -> None:
        self._reports = reports

    def start(self, attempt: Attempt) -> None:
        if getattr(self._here, "reporting", False) and self._here.next is None:
            self._here.next = attempt
            return
        with self._lock:
            if self._closed:
                return
            if self._idle:
                self._idle -= 1
            else:
                self._threads += 1
                threading.Thread(target=self._work, daemon=True, name=f"dagy-worker-{self._threads}").start()
        self._queue.put(attempt)

    def give_up(self, attempt: Attempt) -> None:
        with self._lock:
            # Before the pool is looked at: a pool that is made later sees it, too.
            self._given_up.add((attempt.index, attempt.number))
            pool = self._pool
        if pool is not None:
            pool.kill(attempt)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            threads, pool = self._threads, self._pool
        for _ in range(threads):
            self._queue.put(None)
        if pool is not None:
            pool.close()

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
        if self._closed or (self._given_up and self._is_given_up(attempt)):
            return
        outcome = self._execute(attempt)
        here.reporting = True
        try:
            self._reports.ended(attempt, outcome)
        finally:
            here.reporting = False

    def _execute(self, attempt: Attempt) -> Outcome:
        try:
            if attempt.node.map is not None:
                return expand(attempt.node, self._workplace)
            execution = Execution(attempt, self._workplace)
            with captured(execution.capture):
                return execution.begin() or self._called(execution)
        except BaseException as exc:  # the boundary to user code: whatever happens is the outcome of the attempt
            return Outcome(error_message=message_of(exc), trace=user_traceback(exc))

    def _called(self, execution: Execution) -> Outcome:
        try:
            value = self._call(execution)
        except StillRunning as exc:
            return execution.timed_out(abandoned=exc.abandoned)
        except BaseException as exc:  # the boundary to user code
            return execution.raised(exc)
        return execution.returned(value)

    def _call(self, execution: Execution) -> Any:
        task, attempt = execution.task, execution.attempt
        if attempt.node.kind == "flow":
            assert self._workplace.submit is not None, "this host starts runs"
            return self._workplace.submit(task, execution.inputs, attempt.node.id)
        if task.isolation == "process":
            return self._processes().call(execution)
        if task.timeout_seconds is None:
            return execution.call(execution.inputs)
        return call_with_timeout(
            lambda: execution.call(execution.inputs),
            task.timeout_seconds,
            on_late_end=lambda: self._reports.released(attempt),
        )

    def _processes(self) -> ProcessPool:
        from dagy.processes import ProcessDied, ProcessPool  # noqa: PLC0415 - loads multiprocessing

        with self._lock:
            if self._closed:
                raise ProcessDied("The run ended before the process of the task began")
            if self._pool is None:
                self._pool = ProcessPool(self._is_given_up)
            return self._pool

    def _is_given_up(self, attempt: Attempt) -> bool:
        return (attempt.index, attempt.number) in self._given_up


class LoopRunner:
    """Executes async tasks on one event loop in a thread of its own, made when the first one starts.

    A waiting coroutine costs little, so these attempts occupy no worker. A timeout cancels for real; a coroutine that
    goes on all the same is abandoned.
    """

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        #: By index and number: the next attempt may begin before the end of this one has been tidied up.
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._given_up: set[tuple[int, int]] = set()

    def open(self, reports: Reports) -> None:
        self._reports = reports

    def start(self, attempt: Attempt) -> None:
        with self._lock:
            if not self._closed:
                self._running_loop().call_soon_threadsafe(self._begin, attempt)

    def give_up(self, attempt: Attempt) -> None:
        key = attempt.index, attempt.number
        with self._lock:
            self._given_up.add(key)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(lambda: key in self._tasks and self._tasks[key].cancel())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            thread = self._thread
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None:
            # The thread is a daemon: without this the end of the program would cut the clean-up of coroutines.
            thread.join(_CLOSING_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, made if there is none yet; the caller holds the lock."""
        if self._loop is None:
            import asyncio  # noqa: PLC0415 - 45 ms that only a flow with async tasks pays

            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), daemon=True, name="dagy-loop")
            self._thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio  # noqa: PLC0415 - loaded by now

        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)  # of attempts, given up and abandoned ones, and what they started
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=_GRACE_SECONDS))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _begin(self, attempt: Attempt) -> None:
        import asyncio  # noqa: PLC0415 - loaded by now

        key = attempt.index, attempt.number
        if self._closed or key in self._given_up:
            return
        task = asyncio.get_running_loop().create_task(self._run(attempt))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _run(self, attempt: Attempt) -> None:
        outcome = await self._execute(attempt)
        if not self._closed:
            self._reports.ended(attempt, outcome)

    async def _execute(self, attempt: Attempt) -> Outcome:
        try:
            execution = Execution(attempt, self._workplace)
            with captured(execution.capture):
                return execution.begin() or await self._called(execution)
        except BaseException as exc:  # the boundary to user code
            return Outcome(error_message=message_of(exc), trace=user_traceback(exc))

    async def _called(self, execution: Execution) -> Outcome:
        try:
            if execution.task.timeout_seconds is None:
                value = await execution.call(execution.inputs)
            else:
                value = await self._call_with_timeout(execution, execution.task.timeout_seconds)
        except StillRunning as exc:
            return execution.timed_out(abandoned=exc.abandoned)
        except BaseException as exc:  # the boundary to user code
            return execution.raised(exc)
        return execution.returned(value)

    async def _call_with_timeout(self, execution: Execution, timeout_seconds: float) -> Any:
        """Return what the coroutine returns.

        Raises:
            StillRunning: it did not in time; `abandoned` if being cancelled did not end it.
            Whatever the coroutine raised.
        """
        import asyncio  # noqa: PLC0415 - loaded by now

        call = asyncio.ensure_future(execution.call(execution.inputs))
        try:
            await asyncio.wait({call}, timeout=timeout_seconds)
            if call.done():
                return call.result()
            call.cancel()
            await asyncio.wait({call}, timeout=_GRACE_SECONDS)
        except asyncio.CancelledError:  # given up: waiting for a task does not cancel it
            if not call.done():
                call.cancel()
                await asyncio.wait({call}, timeout=_GRACE_SECONDS)
            raise
        finally:
            call.add_done_callback(_forget_error)
        if call.done():
            raise StillRunning(abandoned=False)
        call.add_done_callback(lambda _: self._release(execution.attempt))
        raise StillRunning(abandoned=True)

    def _release(self, attempt: Attempt) -> None:
        if not self._closed:
            self._reports.released(attempt)


#: How long a coroutine that was cancelled may take to clean up.
_GRACE_SECONDS = 1.0

#: How long the end of a run waits for the event loop: the grace, and a little for the loop itself.
_CLOSING_SECONDS = 2.0


def _forget_error(call: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining of an error that nobody asked for."""
    if not call.cancelled():
        call.exception()
