"""What `dagy run` shows while a flow runs: a live view on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from dagy.events import Change, MapExpanded, TaskEnded, TaskRetrying, TaskStarted
from dagy.spec import FlowSpec
from dagy.status import TaskRunStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

#: A run that is over sooner shows no live view, and does not pay for loading one.
LIVE_AFTER_SECONDS = 0.3

#: Beyond this many task runs the plain lines name only those that did not succeed.
MANY_TASK_RUNS = 200

_SHOWN_AT_ONCE = 8


@contextmanager
def progress(*, quiet: bool, verbose: bool, color: bool) -> Iterator[PlainProgress]:
    """Give the listener that fits the terminal, and end its view afterwards."""
    stream = sys.stderr
    if quiet:
        view: PlainProgress = QuietProgress(stream)
    elif stream.isatty():
        view = LiveProgress(stream, verbose=verbose, color=color)
    else:
        view = PlainProgress(stream, verbose=verbose)
    try:
        yield view
    finally:
        view.close()


class PlainProgress:
    """Says each end of a task run, and what tasks print, in a line."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self._total = 0
        self._ended: Counter[str] = Counter()
        self._begin = time.monotonic()
        self._unheard = False

    def run_created(self, run_id: str, spec: FlowSpec) -> None:
        self._total = len(spec.task_runs)
        self._say(f"Run {run_id}: {self._total} task run{'' if self._total == 1 else 's'}")

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, TaskEnded):
                self._ended[change.status] += 1
                if self._total <= MANY_TASK_RUNS or change.status is not TaskRunStatus.SUCCEEDED:
                    self._say(_end_line(change))
            elif isinstance(change, TaskRetrying):
                self._say(f"{change.node.id} attempt {change.attempt} failed: {change.error_message}")
            elif isinstance(change, MapExpanded):
                self._total += len(change.nodes)
            elif self._verbose:
                self._say(f"{change.node.id} attempt {change.attempt} started")

    def line(self, task_run_id: str | None, level: str, line: str) -> None:
        if level == "DEBUG" and not self._verbose:
            return
        self._say(line if task_run_id is None else f"{task_run_id} | {line}")

    def close(self) -> None:
        if self._total:
            counts = ", ".join(f"{count} {status.lower()}" for status, count in sorted(self._ended.items()))
            self._say(f"Finished in {time.monotonic() - self._begin:.2f}s: {counts or 'nothing ran'}")

    def _say(self, line: str) -> None:
        if self._unheard:
            return
        try:
            self._print(line)
        except OSError:  # whoever read it has left, `dagy run ... 2>&1 | head -1`; the run goes on
            self._unheard = True

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class QuietProgress(PlainProgress):
    """Says nothing."""

    def _say(self, line: str) -> None:
        pass


class LiveProgress(PlainProgress):
    """Shows running task runs, counts, elapsed time and a bar, and above them what tasks print and which failed."""

    def __init__(self, stream: TextIO, *, verbose: bool, color: bool) -> None:
        super().__init__(stream, verbose=verbose)
        self._color = color
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()
        self._live: Any = None
        self._over = threading.Event()
        self._starter: threading.Thread | None = None

    def run_created(self, run_id: str, spec: FlowSpec) -> None:
        super().run_created(run_id, spec)
        self._starter = threading.Thread(target=self._start_live, daemon=True, name="dagy-progress")
        self._starter.start()

    def changed(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for change in changes:
                if isinstance(change, TaskStarted):
                    self._running[change.node.id] = time.monotonic()
                elif isinstance(change, TaskEnded):
                    self._running.pop(change.node.id, None)
        super().changed([each for each in changes if self._is_worth_a_line(each)])
        for change in changes:
            if isinstance(change, TaskEnded) and not self._is_worth_a_line(change):
                self._ended[change.status] += 1

    def close(self) -> None:
        self._over.set()
        if self._starter is not None:
            self._starter.join()
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()
        super().close()

    def _is_worth_a_line(self, change: Change) -> bool:
        if isinstance(change, TaskEnded):
            return self._verbose or not change.status.is_success
        return self._verbose or isinstance(change, (TaskRetrying, MapExpanded))

    def _start_live(self) -> None:
        if self._over.wait(LIVE_AFTER_SECONDS):
            return
        from rich.console import Console  # noqa: PLC0415 - 45 ms that only a longer run on a terminal pays
        from rich.live import Live  # noqa: PLC0415

        console = Console(file=self._stream, no_color=not self._color, highlight=False)
        live = Live(
            console=console,
            refresh_per_second=8,
            transient=True,
            get_renderable=self._render,
            # The streams are the program's: what tasks print goes to their logs, and stdout may be a file.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        try:
            live.start()
        except OSError:  # nobody looks any more
            return
        with self._lock:
            self._live = live

    def _render(self) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415 - loaded by now
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        now = time.monotonic()
        with self._lock:
            running = list(self._running.items())
        ended = sum(self._ended.values())
        failed = sum(count for status, count in self._ended.items() if not TaskRunStatus(status).is_success)
        summary = Table.grid(padding=(0, 1))
        summary.add_row(
            ProgressBar(total=max(1, self._total), completed=ended, width=30),
            Text(f"{ended}/{self._total} done"),
            Text(f"{len(running)} running", style="cyan"),
            Text(f"{failed} failed", style="red" if failed else "dim"),
            Text(f"{now - self._begin:.1f}s", style="dim"),
        )
        lines = [Text(f"  {name}  {now - since:.1f}s", style="cyan") for name, since in running[:_SHOWN_AT_ONCE]]
        if len(running) > _SHOWN_AT_ONCE:
            lines.append(Text(f"  and {len(running) - _SHOWN_AT_ONCE} more", style="dim"))
        return Group(*lines, summary)

    def _print(self, line: str) -> None:
        live = self._live
        if live is None:
            super()._print(line)
        else:
            live.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _end_line(ended: TaskEnded) -> str:
    if ended.started_ns is None:
        return f"{ended.node.id} {ended.status}"
    line = f"{ended.node.id} {ended.status} in {(ended.at_ns - ended.started_ns) / 1e9:.2f}s"
    return line if ended.error_message is None else f"{line}: {ended.error_message}"
