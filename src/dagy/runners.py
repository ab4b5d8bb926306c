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
        """End an attempt in flight as far as that is possible; its report is ignored."""

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
        self._pool: ProcessPool | None = None

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

    def give_up(self, attempt: Attempt) -> None:
        if self._pool is not None:
            self._pool.kill(attempt.index)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)
        if self._pool is not None:
            self._pool.close()

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
        with self._lock:
            if self._pool is None:
                from dagy.processes import ProcessPool  # noqa: PLC0415 - loads multiprocessing

                self._pool = ProcessPool()
            return self._pool


class LoopRunner:
    """Executes async tasks on one event loop in a thread of its own, made when the first one starts.

    A waiting coroutine costs little, so these attempts occupy no worker. A timeout cancels for real.
    """

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def open(self, reports: Reports) -> None:
        self._reports = reports

    def start(self, attempt: Attempt) -> None:
        self._running_loop().call_soon_threadsafe(self._begin, attempt)

    def give_up(self, attempt: Attempt) -> None:
        loop = self._running_loop()
        loop.call_soon_threadsafe(lambda: attempt.index in self._tasks and self._tasks[attempt.index].cancel())

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                import asyncio  # noqa: PLC0415 - 45 ms that only a flow with async tasks pays

                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), daemon=True, name="dagy-loop").start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio  # noqa: PLC0415 - loaded by now

        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                loop.run_until_complete(asyncio.wait(self._tasks.values(), timeout=1.0))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _begin(self, attempt: Attempt) -> None:
        import asyncio  # noqa: PLC0415 - loaded by now

        task = asyncio.get_running_loop().create_task(self._run(attempt))
        self._tasks[attempt.index] = task
        task.add_done_callback(lambda _: self._tasks.pop(attempt.index, None))

    async def _run(self, attempt: Attempt) -> None:
        self._reports.ended(attempt, await self._execute(attempt))

    async def _execute(self, attempt: Attempt) -> Outcome:
        try:
            execution = Execution(attempt, self._workplace)
            with captured(execution.capture):
                return execution.begin() or await self._called(execution)
        except BaseException as exc:  # the boundary to user code
            return Outcome(error_message=message_of(exc), trace=user_traceback(exc))

    async def _called(self, execution: Execution) -> Outcome:
        import asyncio  # noqa: PLC0415 - loaded by now

        limit = execution.task.timeout_seconds
        try:
            if limit is None:
                value = await execution.call(execution.inputs)
            else:
                call = asyncio.ensure_future(execution.call(execution.inputs))
                done, _ = await asyncio.wait({call}, timeout=limit)
                if not done:
                    call.cancel()
                    await asyncio.wait({call}, timeout=1.0)
                    return execution.timed_out(abandoned=False)
                value = call.result()
        except BaseException as exc:  # the boundary to user code
            return execution.raised(exc)
        return execution.returned(value)
