"""Sends what a task prints and logs to that task's own log.

Every attempt runs with a `Capture` in a context variable. While `capture_logging` or `capture_streams` is active,
`logging` and `print` look there; output of threads that a task started by itself has no capture and goes to the run.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Takes a level (`INFO`, `OUT`, `ERR`, ...) and one line without its line end.
LineSink = Callable[[str, str], None]

_current: ContextVar[Capture | None] = ContextVar("dagy_capture", default=None)


class Capture:
    """Collects the output of one attempt into lines."""

    __slots__ = ("_parts", "sink")

    def __init__(self, sink: LineSink) -> None:
        self.sink = sink
        self._parts: dict[str, str] = {}

    def write(self, level: str, text: str) -> None:
        """Take a piece of text, which may be part of a line or several."""
        *lines, rest = (self._parts.get(level, "") + text).split("\n")
        self._parts[level] = rest
        for line in lines:
            self.sink(level, line)

    def close(self) -> None:
        """Pass on lines that were not ended."""
        for level, rest in self._parts.items():
            if rest:
                self.sink(level, rest)
        self._parts = {}


@contextmanager
def captured(capture: Capture) -> Iterator[None]:
    """Make `capture` the place where this context's output goes."""
    token = _current.set(capture)
    try:
        yield
    finally:
        _current.reset(token)
        capture.close()


def get_logger(name: str = "dagy.task") -> logging.Logger:
    """Return a logger whose INFO records reach the log of the task that writes them."""
    logger = logging.getLogger(name)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    return logger


class _LogHandler(logging.Handler):
    """Stands on the root logger while at least one run captures, once however many runs there are."""

    def __init__(self) -> None:
        super().__init__()
        self.run_sinks: list[LineSink] = []
        self.beside: logging.Handler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # a record whose arguments do not fit its message must not end the task
            self.handleError(record)
            return
        capture = _current.get()
        # What no task writes belongs to the run that began last, as far as one can tell.
        sink = self.run_sinks[-1] if capture is None else capture.sink
        for line in text.split("\n"):
            sink(record.levelname, line)
        if self.beside is not None and record.levelno >= self.beside.level:
            self.beside.handle(record)


_handler = _LogHandler()
_handler_lock = threading.Lock()


@contextmanager
def capture_logging(run_sink: LineSink, *, level: int | None = None) -> Iterator[None]:
    """Send records of the root logger to the task that writes them, else to the run.

    Args:
        run_sink: takes the lines of no task.
        level: what the root logger lets through meanwhile; None leaves it as the program set it.
    """
    root = logging.getLogger()
    before = root.level
    with _handler_lock:
        if not _handler.run_sinks:
            # A program without handlers sees warnings through logging's last resort, which ours would switch off.
            _handler.beside = logging.lastResort if level is None and not root.handlers else None
            root.addHandler(_handler)
        _handler.run_sinks.append(run_sink)
    if level is not None:
        root.setLevel(level)
    try:
        yield
    finally:
        with _handler_lock:
            _handler.run_sinks.remove(run_sink)
            if not _handler.run_sinks:
                root.removeHandler(_handler)
        if level is not None:
            root.setLevel(before)


class _Stream(io.TextIOBase):
    """Stands in for stdout or stderr while tasks run."""

    def __init__(self, original: io.TextIOBase, level: str, run_sink: LineSink) -> None:
        self._original = original
        self._level = level
        self._lock = threading.Lock()
        self._of_run = Capture(run_sink)

    def write(self, text: str) -> int:
        capture = _current.get()
        if capture is not None:
            capture.write(self._level, text)
        else:
            with self._lock:
                self._of_run.write(self._level, text)
        return len(text)

    def close_line(self) -> None:
        self._of_run.close()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._original.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        return "utf-8"


@contextmanager
def capture_streams(run_sink: LineSink) -> Iterator[None]:
    """Send what is printed to the task that prints, else to the run; a debugger still gets the terminal."""
    before = sys.stdout, sys.stderr, sys.breakpointhook
    out = _Stream(sys.stdout, "OUT", run_sink)  # type: ignore[arg-type]  # any text stream serves
    err = _Stream(sys.stderr, "ERR", run_sink)  # type: ignore[arg-type]
    sys.stdout, sys.stderr = out, err

    def breakpoint_on_terminal(*args: object, **kwargs: object) -> object:
        sys.stdout, sys.stderr = before[0], before[1]
        return before[2](*args, **kwargs)

    sys.breakpointhook = breakpoint_on_terminal
    try:
        yield
    finally:
        out.close_line()
        err.close_line()
        sys.stdout, sys.stderr, sys.breakpointhook = before
