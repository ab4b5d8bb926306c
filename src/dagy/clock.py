"""Time as an argument, so that tests never sleep."""

from __future__ import annotations

import queue
import time
from typing import Any, Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def wait(self, messages: queue.SimpleQueue[Any], timeout_seconds: float | None, *, busy: bool) -> Any:
        """Return the next message, or None when `timeout_seconds` have passed without one.

        `busy` says that work is under way whose end may send a message: a clock that skips waits must not then.
        """


class SystemClock:
    """The real time."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, messages: queue.SimpleQueue[Any], timeout_seconds: float | None, *, busy: bool) -> Any:  # noqa: ARG002
        try:
            return messages.get(timeout=timeout_seconds)
        except queue.Empty:
            return None


def iso(epoch_ns: int) -> str:
    """Return `2026-03-04T12:00:00.123456Z` for nanoseconds since the epoch."""
    seconds, rest = divmod(epoch_ns, 1_000_000_000)
    global _second
    known, text = _second
    if known != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, text)
    return f"{text}.{rest // 1000:06d}Z"


#: The last second that was rendered: a run writes thousands of times of the same few seconds.
_second: tuple[int, str] = (-1, "")
