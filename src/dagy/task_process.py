"""The life of a task process: one call after another, until the other end of its connection is gone.

It never imports the main module of the program that started it, which may be a script that begins a run, unless a task
or an argument stands in that very module.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import spawn
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dagy.attempts import Call, message_of
from dagy.errors import FlowImportError
from dagy.loader import load_task
from dagy.log_capture import capture_logging, capture_streams
from dagy.processes import NAME_WHILE_LOADING, RemoteError, Request
from dagy.tracebacks import user_traceback


def serve(connection: Connection) -> None:
    """Answer the requests that come in: lines, `ready` when the task is loaded, then its value or its error."""
    _leave_interrupts_to_the_parent()
    os.set_inheritable(connection.fileno(), False)
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:  # threads of a task print, too
            connection.send(message)

    def line(level: str, text: str) -> None:
        send("line", level, text)

    loader = _Loader()
    with capture_streams(line), capture_logging(line, level=20):
        while True:
            try:
                request = connection.recv()
            except (EOFError, ConnectionError):
                return
            send(*_answer(request, loader, ready=lambda: send("ready")))


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl+C reaches the whole process group; the parent promises to wait and kills this process when it does not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class _Loader:
    def __init__(self) -> None:
        self._has_main = False

    def load(self, request: Request) -> Callable[[], Any]:
        path, main, inputs = request
        if main is not None and not self._has_main:
            _load_main(main)
            self._has_main = True
        call, arguments = Call(load_task(path)), ForkingPickler.loads(inputs)
        return lambda: call(arguments)


def _load_main(main: dict[str, Any]) -> None:
    """Execute the program's main module under the name `__mp_main__`, as `multiprocessing` does.

    Raises:
        FlowImportError: it raised or ended.
    """
    process = multiprocessing.current_process()
    name, process.name = process.name, NAME_WHILE_LOADING
    try:
        spawn.prepare(main)
    except (Exception, SystemExit) as exc:
        raise FlowImportError(
            f"The process of a task can not load the script: {type(exc).__name__}: {exc}; "
            'what the script runs belongs below `if __name__ == "__main__":`',
            user_traceback=user_traceback(exc),
        ) from exc
    finally:
        process.name = name


def _answer(request: Request, loader: _Loader, *, ready: Callable[[], None]) -> tuple[Any, ...]:
    try:
        call = loader.load(request)
        ready()
        answer = ("value", call())
        ForkingPickler.dumps(answer)
        return answer
    except BaseException as exc:  # handed over to the other process
        trace = user_traceback(exc)
        try:
            ForkingPickler.loads(ForkingPickler.dumps(exc))
        except Exception:  # an exception that does not survive pickling
            return "error", RemoteError(message_of(exc)), trace
        return "error", exc, trace
