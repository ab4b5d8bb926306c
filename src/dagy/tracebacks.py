"""Tracebacks for users: the frames of their own code, without Dagy's and those of Python's import system."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceback import TracebackException

_DAGY = str(Path(__file__).parent)


def user_traceback(error: BaseException) -> str:
    """Return the traceback of an exception, and of those it came from, without a final line end."""
    from traceback import TracebackException  # noqa: PLC0415 - only a failure needs it

    trimmed = TracebackException.from_exception(error)
    _trim(trimmed)
    return "".join(trimmed.format()).rstrip("\n")


def _trim(error: TracebackException) -> None:
    frames = [frame for frame in error.stack if not _is_machinery(frame.filename)]
    if frames:
        error.stack[:] = frames
    else:  # the error is in the text of the file: no line of it was executed, so there is no traceback to announce
        error.stack = None  # type: ignore[assignment]  # what `format` itself tests for
    for chained in (error.__cause__, error.__context__, *(getattr(error, "exceptions", None) or ())):
        if chained is not None:
            _trim(chained)


def _is_machinery(filename: str) -> bool:
    return (
        filename.startswith((_DAGY, "<frozen importlib", "<frozen runpy"))
        or filename == import_module.__code__.co_filename
    )
