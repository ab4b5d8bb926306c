"""Run flows in tests: in memory, without a store, and without waiting.

result = run_in_memory(my_flow, day="2026-01-01")
assert result.status == "SUCCEEDED"
assert result.statuses["load-1"] == "SUCCEEDED"
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagy.artifacts import RunOutputs, temporary_folder
from dagy.attempts import Workplace
from dagy.building import BuiltFlow, SubmittedFlow, build_flow
from dagy.engine import Engine, Reuse, Stop
from dagy.errors import FlowFailedError
from dagy.events import Change, TaskEnded, TaskStarted
from dagy.flows import Flow
from dagy.references import hydrate
from dagy.runners import LocalRunner, Runner
from dagy.status import RunStatus, TaskRunStatus
from dagy.tasks import Task


class InstantClock:
    """A clock whose waits are over at once, having moved it: retry delays of hours take no time.

    While a task is running it stands still, because how long that takes is not known.
    """

    def __init__(self, start_ns: int = 1_767_225_600_000_000_000) -> None:
        self._start_ns = start_ns
        self._ns = start_ns
        self._lock = threading.Lock()
        #: Every wait that was skipped, in seconds.
        self.skipped: list[float] = []

    def now_ns(self) -> int:
        with self._lock:
            self._ns += 1_000  # time never stands still, so order can be read from times
            return self._ns

    def monotonic(self) -> float:
        return (self._ns - self._start_ns) / 1e9

    def wait(self, messages: queue.SimpleQueue[Any], timeout_seconds: float | None, *, busy: bool) -> Any:
        if timeout_seconds is None:
            return messages.get()
        try:
            return messages.get(timeout=0.005 if busy else 0)
        except queue.Empty:
            if not busy:
                self._skip(timeout_seconds)
            return None

    def _skip(self, seconds: float) -> None:
        with self._lock:
            self._ns += int(seconds * 1e9) + 1_000
        self.skipped.append(seconds)


class MemoryObjects:
    """An object store that keeps bytes in memory; those that are needed as files are also in a temporary folder."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        self._objects[key] = data

    def put_file(self, key: str, path: Path) -> None:
        self._objects[key] = path.read_bytes()

    def get(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise FileNotFoundError(f"There is no object {key!r}") from None

    def local_file(self, key: str) -> Path:
        data = self.get(key)
        with self._lock:  # several tasks may consume the same output
            if self._folder is None:
                self._folder = temporary_folder()
            path = self._folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            # As a whole, because an earlier consumer may be reading it.
            path.with_name(f".{path.name}").write_bytes(data)
            path.with_name(f".{path.name}").replace(path)
        return path


@dataclass
class MemoryObserver:
    """Keeps everything that the engine tells."""

    changes: list[Change] = field(default_factory=list)
    task_lines: dict[int, list[str]] = field(default_factory=dict)
    run_lines: list[str] = field(default_factory=list)
    also: Callable[[Sequence[Change]], None] | None = None

    def changed(self, changes: Sequence[Change]) -> None:
        if self.also is not None:
            self.also(changes)
        self.changes.extend(changes)

    def task_line(self, index: int, level: str, line: str) -> None:
        self.task_lines.setdefault(index, []).append(f"{level} {line}")

    def run_line(self, level: str, line: str) -> None:
        self.run_lines.append(f"{level} {line}")


@dataclass
class MemoryResult:
    """How a run in memory ended.

    Attributes:
        status: of the run.
        statuses, attempts: by task run id.
        errors: the messages of task runs that have one, by id.
        started: the ids in the order in which first attempts began.
        output: what the flow returned, for a run that succeeded.
        observer: everything that was told.
    """

    status: RunStatus
    error_message: str | None
    statuses: dict[str, TaskRunStatus]
    attempts: dict[str, int]
    errors: dict[str, str]
    started: list[str]
    output: Any
    observer: MemoryObserver


def run_in_memory(
    flow: Flow[Any, Any],
    *,
    max_workers: int = 1,
    fail_fast: bool = True,
    clock: InstantClock | None = None,
    stop: Stop | None = None,
    **parameters: Any,
) -> MemoryResult:
    """Execute a flow without recording it anywhere, with retry delays skipped, and return what happened.

    Args:
        stop: given to the engine before it begins, to see what a stop leaves.
    """
    return execute_in_memory(
        build_flow(flow, (), parameters), max_workers=max_workers, fail_fast=fail_fast, clock=clock, stop=stop
    )


def _submitted(task: Task[Any, Any], parameters: dict[str, Any], *, max_workers: int) -> Any:
    assert isinstance(task, SubmittedFlow)
    result = run_in_memory(task.flow, max_workers=max_workers, **parameters)
    if result.status is not RunStatus.SUCCEEDED:
        raise FlowFailedError(result.error_message or "")
    return result.output


def execute_in_memory(
    built: BuiltFlow,
    *,
    max_workers: int = 1,
    fail_fast: bool = True,
    clock: InstantClock | None = None,
    stop: Stop | None = None,
    runner: Callable[[Workplace], Runner] = LocalRunner,
    reuse: Reuse | None = None,
    on_engine: Callable[[Engine], None] | None = None,
    also: Callable[[Sequence[Change]], None] | None = None,
) -> MemoryResult:
    """Do the same for a flow that is built already.

    Args:
        runner: makes what executes the attempts.
        reuse: outputs of earlier runs.
        on_engine: is given the engine before it begins, to stop it from a task.
        also: is told of the changes first; what it raises breaks the run.
    """
    observer = MemoryObserver(also=also)
    workplace = Workplace(
        run_id="in-memory",
        tasks=built.tasks,
        outputs=RunOutputs(MemoryObjects(), "in-memory"),
        line=observer.task_line,
        submit=lambda task, parameters, _: _submitted(task, parameters, max_workers=max_workers),
    )
    engine = Engine(
        built.spec,
        workplace=workplace,
        runner=runner(workplace),
        observer=observer,
        max_workers=max_workers,
        fail_fast=fail_fast,
        reuse=reuse,
        clock=clock or InstantClock(),
    )
    if stop is not None:
        engine.stop(stop)
    if on_engine is not None:
        on_engine(engine)
    result = engine.run()
    ended = [change for change in observer.changes if isinstance(change, TaskEnded)]
    starts = [change for change in observer.changes if isinstance(change, TaskStarted)]
    return MemoryResult(
        status=result.status,
        error_message=result.error_message,
        statuses={change.node.id: change.status for change in ended},
        attempts={change.node.id: change.attempt for change in ended},
        errors={change.node.id: change.error_message for change in ended if change.error_message is not None},
        started=[change.node.id for change in starts if change.attempt == 1],
        output=hydrate(built.spec.outputs, workplace) if result.status is RunStatus.SUCCEEDED else None,
        observer=observer,
    )
