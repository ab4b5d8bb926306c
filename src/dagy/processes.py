"""Tasks in processes of their own, which a timeout or a stop really ends.

A process is started by spawning a fresh interpreter, never by forking this one with its threads, and is kept warm for
the next attempt. It gets the function by its import path and the arguments by pickle, and sends back lines, then the
value or the exception.
"""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.connection import Connection
from typing import Any

from dagy.attempts import Execution, StillRunning, message_of
from dagy.errors import LocalExecutionError
from dagy.tracebacks import user_traceback


class ProcessPool:
    """Warm processes, one for each attempt in flight; all of them end with the pool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_TaskProcess] = []
        self._busy: dict[int, _TaskProcess] = {}

    def call(self, execution: Execution) -> Any:
        """Return what the task's function returns, called in another process.

        Raises:
            StillRunning: it did not return in time, and its process was killed.
            ProcessDied: its process ended by itself, or was killed.
            Whatever the function raised.
        """
        index = execution.attempt.index
        with self._lock:
            process = self._idle.pop() if self._idle else _TaskProcess()
            self._busy[index] = process
        try:
            return process.call(execution)
        finally:
            with self._lock:
                self._busy.pop(index, None)
                if process.is_alive():
                    self._idle.append(process)

    def kill(self, index: int) -> None:
        """End the process of an attempt in flight."""
        with self._lock:
            process = self._busy.get(index)
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            processes = [*self._idle, *self._busy.values()]
            self._idle = []
        for process in processes:
            process.kill()


class ProcessDied(LocalExecutionError):
    """The process of a task ended before the task did."""


class RemoteError(Exception):
    """Stands for an exception that can not be pickled."""


class _TaskProcess:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True, name="dagy-task")
        self._process.start()
        theirs.close()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def call(self, execution: Execution) -> Any:
        limit = execution.task.timeout_seconds
        path = f"{execution.task.fn.__module__}:{execution.task.fn.__qualname__}"
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(limit, expire) if limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            self._connection.send((path, execution.inputs))
            kind, *content = self._connection.recv()
            while kind == "line":
                execution.capture.sink(*content)
                kind, *content = self._connection.recv()
        except (EOFError, ConnectionError):  # nobody is at the other end any more
            self._process.join()
            if expired.is_set():
                raise StillRunning(abandoned=False) from None
            raise ProcessDied(f"The process of the task ended with code {self._process.exitcode}") from None
        finally:
            if timer is not None:
                timer.cancel()
        if kind == "value":
            return content[0]
        error, trace = content
        error.user_traceback = trace
        raise error


def _serve(connection: Connection) -> None:
    """The life of a task process: one call after another, until the other end is gone."""
    from dagy.log_capture import capture_logging, capture_streams  # noqa: PLC0415 - needed in the child only

    def line(level: str, text: str) -> None:
        connection.send(("line", level, text))

    with capture_streams(line), capture_logging(line, level=20):
        while True:
            try:
                path, inputs = connection.recv()
            except EOFError:
                return
            connection.send(_answer(path, inputs))


def _answer(path: str, inputs: dict[str, Any]) -> tuple[Any, ...]:
    from multiprocessing.reduction import ForkingPickler  # noqa: PLC0415 - needed in the child only

    from dagy.attempts import Call  # noqa: PLC0415 - needed in the child only
    from dagy.loader import load_task  # noqa: PLC0415 - needed in the child only

    try:
        answer = ("value", Call(load_task(path))(inputs))
        ForkingPickler.dumps(answer)
        return answer
    except BaseException as exc:  # handed over to the other process
        trace = user_traceback(exc)
        try:
            ForkingPickler.loads(ForkingPickler.dumps(exc))
        except Exception:  # an exception that does not survive pickling
            return "error", RemoteError(message_of(exc)), trace
        return "error", exc, trace
