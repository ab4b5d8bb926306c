"""Tasks in processes of their own, which a timeout or a stop really ends.

A process is a fresh interpreter, never a fork of this one with its threads, and is kept warm for the next attempt. It
gets the function by its import path and the arguments by pickle, and sends back lines, then the value or the
exception; its side of that is `dagy.task_process`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import spawn, util
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeAlias

from dagy.attempts import Attempt, Execution, StillRunning
from dagy.errors import LocalExecutionError

#: The import path of a task, how to load this program's main module if that is needed, and the pickled inputs.
Request: TypeAlias = "tuple[str, dict[str, Any] | None, bytes]"

#: What a task process is called while it loads the main module of the program that started it.
NAME_WHILE_LOADING = "dagy-task-loading-main"

#: The working folder is not searched for modules before this program's own search path is there.
_PROGRAM = """
import sys
sys.path = [folder for folder in sys.path if folder]
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path, sys.argv = connection.recv()
from dagy.task_process import serve
serve(connection)
"""


class ProcessPool:
    """Warm processes, one for each attempt in flight; all of them end with the pool.

    Args:
        is_given_up: whether an attempt is not to be executed any more.
    """

    def __init__(self, is_given_up: Callable[[Attempt], bool]) -> None:
        self._is_given_up = is_given_up
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[_TaskProcess] = []
        self._busy: dict[int, _TaskProcess] = {}

    def call(self, execution: Execution) -> Any:
        """Return what the task's function returns, called in another process.

        Raises:
            StillRunning: it did not return in time, and its process was killed.
            ProcessDied: its process ended by itself, or was killed, or the attempt was given up before it began.
            Whatever the function raised.
        """
        attempt = execution.attempt
        process = self._take(attempt)
        try:
            try:
                return process.call(execution)
            except ProcessDied:
                if process.is_fresh or process.has_begun:
                    raise
            # An idle process that something else killed says nothing about this task, which it did not begin.
            process = self._take(attempt, fresh=True)
            return process.call(execution)
        finally:
            self._give_back(attempt, process)

    def kill(self, attempt: Attempt) -> None:
        """End the process of an attempt that has been given up."""
        with self._lock:
            process = self._busy.get(attempt.index)
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End all processes, and start none any more."""
        with self._lock:
            self._closed = True
            processes = [*self._idle, *self._busy.values()]
            self._idle = []
        for process in processes:
            process.kill()

    def _take(self, attempt: Attempt, *, fresh: bool = False) -> _TaskProcess:
        with self._lock:
            if self._closed or self._is_given_up(attempt):
                raise ProcessDied("The attempt was given up before its process began")
            process = None if fresh else self._warm()
            self._busy[attempt.index] = process = process or _TaskProcess()
            return process

    def _warm(self) -> _TaskProcess | None:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                process.is_fresh = False
                return process
        return None

    def _give_back(self, attempt: Attempt, process: _TaskProcess) -> None:
        with self._lock:
            self._busy.pop(attempt.index, None)
            if process.has_answered and process.is_alive() and not (self._closed or self._is_given_up(attempt)):
                self._idle.append(process)
                return
        process.kill()


class ProcessDied(LocalExecutionError):
    """The process of a task ended before the task did."""


class RemoteError(Exception):
    """Stands for an exception that can not be pickled."""


class _TaskProcess:
    """A process and its connection.

    Attributes:
        is_fresh: it has been given no other task before.
        has_begun: it has loaded its task and calls it, or has done so.
        has_answered: nothing more of its last call is to come.
    """

    def __init__(self) -> None:
        self.is_fresh = True
        self.has_begun = False
        self.has_answered = True
        if multiprocessing.current_process().name == NAME_WHILE_LOADING:
            raise LocalExecutionError(
                'The script starts its run again in the process of a task: put that below `if __name__ == "__main__":`'
            )
        self._connection, theirs = multiprocessing.Pipe()
        descriptor = theirs.fileno()
        flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]  # what `multiprocessing` itself asks
        command = [spawn.get_executable(), *flags, "-c", _PROGRAM, str(descriptor)]
        with theirs, _interrupts_blocked():
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                command, stdin=subprocess.DEVNULL, pass_fds=[descriptor]
            )
        self._connection.send(([folder or os.getcwd() for folder in sys.path], sys.argv))

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def call(self, execution: Execution) -> Any:
        request = _request(execution)
        self.has_begun = self.has_answered = False
        try:
            self._connection.send(request)
            kind, *content = self._answer(execution)
        except (EOFError, ConnectionError):  # nobody is at the other end any more
            code = self._process.wait()
            raise ProcessDied(f"The process of the task ended with code {code}") from None
        self.has_answered = True
        if kind == "value":
            return content[0]
        error, trace = content
        error.user_traceback = trace
        raise error

    def _answer(self, execution: Execution) -> tuple[Any, ...]:
        """Return the last message of a call; the time limit begins when the task has been loaded."""
        limit = execution.task.timeout_seconds
        deadline: float | None = None
        while True:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._connection.poll(left):
                    self.kill()
                    raise StillRunning(abandoned=False)
            message: tuple[Any, ...] = self._connection.recv()
            if message[0] == "line":
                execution.capture.sink(*message[1:])
            elif message[0] == "ready":
                self.has_begun = True
                deadline = None if limit is None else time.monotonic() + limit
            else:
                return message


def _request(execution: Execution) -> Request:
    fn = execution.task.fn
    inputs = bytes(ForkingPickler.dumps(execution.inputs))
    needs_main = fn.__module__ == "__main__" or b"__main__" in inputs
    return f"{fn.__module__}:{fn.__qualname__}", _main_module() if needs_main else None, inputs


def _main_module() -> dict[str, Any]:
    """Return what `multiprocessing` tells a process about the main module."""
    told = spawn.get_preparation_data("dagy-task")
    return {key: value for key, value in told.items() if key.startswith("init_main")}


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that is started meanwhile gets no Ctrl+C before it has decided to ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
