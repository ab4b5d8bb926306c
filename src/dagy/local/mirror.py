"""The files of a run that a person greps: `run.log`, and per task run `task.log`, `metadata.json` and its output.

The journal is the truth and these follow from it: a thread of their own writes them while tasks run, and `drain`
waits for it at the end. What a kill prevented is written from the journal by `write_missing`.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from dagy.clock import iso
from dagy.events import Change, MapExpanded, TaskEnded, TaskRetrying, TaskStarted
from dagy.local.database import duckdb_module
from dagy.local.home import Home
from dagy.local.journal import output_facts
from dagy.local.records import RunRecord, TaskRunRecord
from dagy.names import path_name
from dagy.spec import FlowSpec
from dagy.status import TaskRunStatus

METADATA = "metadata.json"
TASK_LOG = "task.log"
RUN_LOG = "run.log"

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


#: How many logs of task runs under way stay open at once; a process may often have 256 files.
OPEN_LOGS = 64

#: So many lines of the run are written even while task runs wait to be.
_MANY_LINES = 1_000

#: In the writer's queue: there are lines of the run, and maybe nothing else that would make it write them.
_LINES = object()


class Mirror:
    """Writes the files of one run under way."""

    def __init__(self, home: Home, run_id: str, spec: FlowSpec) -> None:
        self._files = _RunFiles(home, run_id)
        self._ids = [node.id for node in spec.task_runs]
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run_lines: deque[str] = deque()
        self._lines_told = False
        self._lock = threading.Lock()
        #: Task runs whose log was begun before their end, because they printed or are tried again.
        self._begun: set[int] = set()
        #: Of those logs the ones that are open, the least recently used first.
        self._open_logs: dict[int, int] = {}
        self._closed = False
        self._started_ns: dict[int, int] = {}
        self._error: OSError | None = None
        self._files.make_folders()
        self._run_log = os.open(self._files.run_log, _APPEND, 0o644)
        self._writer = threading.Thread(target=self._write_all, daemon=True, name="dagy-mirror")
        self._writer.start()

    def changed(self, changes: Sequence[Change]) -> None:
        """Take note of changes; their files follow.

        Raises:
            OSError: an earlier file could not be written.
        """
        if self._error is not None:
            raise self._error
        for change in changes:
            if isinstance(change, TaskEnded):
                record = record_of(change)
                if record.started_ns is not None or record.status is TaskRunStatus.CACHED:
                    line = f"{record.task_run_id} {_ending(record)}"
                    self._run_lines.append(_log_line(change.at_ns, _level(record), line))
                self._queue.put(record)
            elif isinstance(change, TaskStarted):
                self._attempt_started(change)
            elif isinstance(change, MapExpanded):
                self._ids.extend(node.id for node in change.nodes)
            else:
                self._attempt_failed(change)

    def task_line(self, index: int, level: str, line: str, at_ns: int) -> None:
        """Add a line that a task printed or logged; it is in the file when this returns.

        A line of an attempt that was given up goes to the run's log once the task run has ended.
        """
        with self._lock:
            if index in self._started_ns:
                _write_whole(self._log_of(index), _encoded(_log_line(at_ns, level, line)))
                return
        self.run_line(level, f"{self._ids[index]}: {line}", at_ns)

    def id_of(self, index: int) -> str:
        """Return the id of the task run at a position of the spec or, behind them, of an item of a map."""
        return self._ids[index]

    def run_line(self, level: str, line: str, at_ns: int) -> None:
        """Add a line to the run's log; it is in the file soon."""
        if self._closed:
            return  # an attempt that was given up may still log, but nobody would write it
        self._run_lines.append(_log_line(at_ns, level, line))
        # NOTE: read after the line was added; whoever takes the lines resets it before. So none is forgotten.
        if not self._lines_told:
            self._lines_told = True
            self._queue.put(_LINES)

    def drain(self) -> None:
        """Return when everything is written.

        Raises:
            OSError: something could not be written.
        """
        self._queue.put(None)
        self._writer.join()
        self._flush_run_lines()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close what is open; after a `drain` that succeeded everything is written."""
        self._queue.put(None)
        self._writer.join()
        with self._lock:
            self._closed = True
            self._started_ns.clear()
            for descriptor in self._open_logs.values():
                os.close(descriptor)
            self._open_logs.clear()
        os.close(self._run_log)

    def _attempt_started(self, change: TaskStarted) -> None:
        if change.attempt == 1:
            with self._lock:
                self._started_ns[change.index] = change.at_ns
        else:
            text = f"attempt {change.attempt} started"
            self.task_line(change.index, "INFO", text, change.at_ns)
            self.run_line("INFO", f"{change.node.id} {text}", change.at_ns)

    def _attempt_failed(self, change: TaskRetrying) -> None:
        text = f"attempt {change.attempt} failed, next in {change.delay_seconds:.3g}s: {change.error_message}"
        self.run_line("WARNING", f"{change.node.id} {text}", change.at_ns)
        for line in (change.trace or "").split("\n"):
            if line:
                self.task_line(change.index, "ERROR", line, change.at_ns)
        self.task_line(change.index, "WARNING", text, change.at_ns)

    def _log_of(self, index: int) -> int:
        """Return the open log of a task run under way; the caller holds the lock."""
        descriptor = self._open_logs.pop(index, None)
        if descriptor is None:
            if len(self._open_logs) >= OPEN_LOGS:
                os.close(self._open_logs.pop(next(iter(self._open_logs))))
            descriptor = self._open_log(index)
        self._open_logs[index] = descriptor
        return descriptor

    def _open_log(self, index: int) -> int:
        path = self._files.task_folder(self._ids[index])
        if index in self._begun:
            return os.open(f"{path}/{TASK_LOG}", _APPEND, 0o644)
        os.makedirs(path, exist_ok=True)
        descriptor = os.open(f"{path}/{TASK_LOG}", _APPEND, 0o644)
        self._begun.add(index)
        _write_whole(descriptor, _encoded(_log_line(self._started_ns[index], "INFO", "attempt 1 started")))
        return descriptor

    def _write_all(self) -> None:
        # Needed when the run ends; loaded here it costs nothing while tasks wait for something else.
        duckdb_module()
        while (record := self._queue.get()) is not None:
            if record is not _LINES:
                self._write(record)
            if self._queue.empty() or len(self._run_lines) > _MANY_LINES:
                try:
                    self._flush_run_lines()
                except OSError as exc:  # told by the next `changed` or by `drain`
                    self._error = self._error or exc

    def _write(self, record: TaskRunRecord) -> None:
        log: int | None = None
        try:
            with self._lock:
                self._started_ns.pop(record.position, None)
                if record.position in self._begun:
                    log = self._open_logs.pop(record.position, None)
                    log = self._open_log(record.position) if log is None else log
                    self._begun.discard(record.position)
            self._files.write_task_run(record, log)
        except OSError as exc:  # told by the next `changed` or by `drain`
            self._error = self._error or exc
        finally:
            if log is not None:
                os.close(log)

    def _flush_run_lines(self) -> None:
        self._lines_told = False
        lines = [self._run_lines.popleft() for _ in range(len(self._run_lines))]
        if lines:
            _write_whole(self._run_log, _encoded("".join(lines)))


class _RunFiles:
    """Where the files of one run lie and how one task run's are written."""

    def __init__(self, home: Home, run_id: str) -> None:
        folder = str(home.run_folder(run_id))
        self.run_log = f"{folder}/{RUN_LOG}"
        self.metadata = f"{folder}/{METADATA}"
        self._task_runs = f"{folder}/task_runs"
        self._artifacts = str(home.artifact_folder(run_id))
        self._root = str(home.path)

    def make_folders(self) -> None:
        os.makedirs(self._task_runs, exist_ok=True)
        os.makedirs(self._artifacts, exist_ok=True)

    def task_folder(self, task_run_id: str) -> str:
        return f"{self._task_runs}/{path_name(task_run_id)}"

    def write_task_run(self, record: TaskRunRecord, log: int | None = None) -> None:
        """Write the files of a task run that has ended; `log` is its log if that was opened before."""
        if record.output is not None and record.output["inline"] is not None:
            _make_folder(f"{self._artifacts}/{path_name(record.task_run_id)}")
            _write(f"{self._root}/{record.output['key']}", record.output["inline"], _REPLACE)
        folder = self.task_folder(record.task_run_id)
        if log is None:
            _make_folder(folder)
            _write(f"{folder}/{TASK_LOG}", _start_text(record) + _end_text(record), _APPEND)
        else:
            os.write(log, _encoded(_end_text(record)))
        self.write_metadata(record)

    def write_metadata(self, record: TaskRunRecord) -> None:
        """Write what `write_missing` takes as the sign that all else is there, so it comes last."""
        path = f"{self.task_folder(record.task_run_id)}/{METADATA}"
        _write(path, json.dumps(record.to_dict()) + "\n", _REPLACE)


def write_missing(home: Home, run_id: str, task_runs: Iterable[TaskRunRecord]) -> None:
    """Write the files of ended task runs that are not there, because the process was killed."""
    files = _RunFiles(home, run_id)
    files.make_folders()
    for each in task_runs:
        folder = files.task_folder(each.task_run_id)
        if os.path.exists(f"{folder}/{METADATA}"):
            if not _is_whole(f"{folder}/{METADATA}"):
                files.write_metadata(each)
            continue
        log = os.open(f"{folder}/{TASK_LOG}", _APPEND) if os.path.exists(f"{folder}/{TASK_LOG}") else None
        try:
            files.write_task_run(each, log)
        finally:
            if log is not None:
                os.close(log)


def write_run_end(home: Home, record: RunRecord) -> None:
    """Write the last line of `run.log` and the run's `metadata.json`, once all else is there."""
    files = _RunFiles(home, record.run_id)
    begun = os.path.exists(files.metadata)
    if begun and _is_whole(files.metadata):
        return
    if not begun:
        _write(files.run_log, _log_line(record.ended_ns or 0, "INFO", _run_ending(record)), _APPEND)
    _write(files.metadata, json.dumps(record.to_dict(with_task_runs=False)) + "\n", _REPLACE)


def _is_whole(path: str) -> bool:
    """Whether the process was not killed between opening a JSON file and the end of its text."""
    try:
        with open(path, "rb") as file:
            json.load(file)
    except ValueError:
        return False
    return True


def record_of(ended: TaskEnded) -> TaskRunRecord:
    """Return the record of a task run that has just ended."""
    return TaskRunRecord(
        position=ended.index,
        task_run_id=ended.node.id,
        task_name=ended.node.task,
        label=ended.node.label,
        status=ended.status,
        attempt=ended.attempt,
        started_ns=ended.started_ns,
        ended_ns=ended.at_ns,
        output=None if ended.output is None else output_facts(ended.output),
        error_message=ended.error_message,
        trace=ended.trace,
    )


def _start_text(record: TaskRunRecord) -> str:
    return "" if record.started_ns is None else _log_line(record.started_ns, "INFO", "attempt 1 started")


def _end_text(record: TaskRunRecord) -> str:
    at, level = record.ended_ns or 0, _level(record)
    lines = [_log_line(at, level, line) for line in (record.trace or "").split("\n") if line]
    return "".join(lines) + _log_line(at, level, _ending(record))


def _ending(record: TaskRunRecord) -> str:
    text = str(record.status)
    if record.output is not None and record.output["origin"] is not None:
        text += f" from {record.output['origin']}"
    if record.started_ns is not None and record.ended_ns is not None:
        text += f" attempt={record.attempt} in {(record.ended_ns - record.started_ns) / 1e9:.6f}s"
    return text if record.error_message is None else f"{text}: {record.error_message}"


def _run_ending(record: RunRecord) -> str:
    text = f"Run {record.run_id} {record.status}"
    return text if record.error_message is None else f"{text}: {record.error_message}"


def _level(record: TaskRunRecord) -> str:
    return "ERROR" if record.status in (TaskRunStatus.FAILED, TaskRunStatus.TIMED_OUT) else "INFO"


def _log_line(at_ns: int, level: str, text: str) -> str:
    return f"{iso(at_ns)} {level:<7} {text}\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _make_folder(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path)


def _write(path: str, text: str, flags: int) -> None:
    descriptor = os.open(path, flags, 0o644)
    try:
        _write_whole(descriptor, _encoded(text))
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> None:
    """`os.write` may write a part when the disk gets full; the next call then raises."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])
