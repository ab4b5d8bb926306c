"""The journal of a run: one JSON line per fact, appended before anything that follows from it.

An append survives a kill of the process and can be read by anyone. The process that executes the run holds the
journal's lock for life, so whoever can take the lock knows that the owner is gone; process ids alone are re-used.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

from dagy.errors import IllegalTransition, LocalStoreError
from dagy.events import Change, MapExpanded, RunEnded, TaskEnded, TaskStarted
from dagy.local.records import RunRecord, TaskRunRecord
from dagy.status import RunStatus, TaskRunStatus, check_run_transition

NAME = "journal.jsonl"
SPEC_NAME = "flow_spec.json"


class Journal:
    """An open journal, locked by this process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        _open.add(self)

    @classmethod
    def create(cls, folder: Path, record: RunRecord) -> Journal:
        """Start the journal of a new run. It appears under its name only when it is locked and has its first line."""
        path = folder / NAME
        hidden = folder / f".{NAME}"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = cls(path, descriptor)
        journal.append(_created_line(record))
        os.rename(hidden, path)
        return journal

    @classmethod
    def of_dead_owner(cls, folder: Path) -> Journal | None:
        """Return the journal, without a last line that its owner wrote in part, if that owner is gone, else None."""
        path = folder / NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                _cut_part_of_line(descriptor)
                return cls(path, descriptor)
        except BlockingIOError:
            pass
        os.close(descriptor)
        return None

    def append(self, text: str) -> None:
        """Add whole lines in one write.

        Raises:
            OSError: they could not be written; the journal is as it was before.
        """
        data = text.encode("utf-8", "surrogatepass")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except BaseException:
            if written:  # or what is appended next would continue a part of a line
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise

    def remove(self) -> None:
        """Delete the file: what it says is stored elsewhere."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        _open.discard(self)


#: Journals that a forked child must not hold, or the lock would outlive this process.
_open: WeakSet[Journal] = WeakSet()


def _close_in_child() -> None:
    for journal in list(_open):
        journal.close()


os.register_at_fork(after_in_child=_close_in_child)


def _cut_part_of_line(descriptor: int) -> None:
    """Cut off what follows the last line break: what is appended to it could not be read."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _BLOCK_BYTES)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end < size:
        os.ftruncate(descriptor, end)


_BLOCK_BYTES = 65_536


def _created_line(record: RunRecord) -> str:
    return _line(
        event="run_created",
        run_id=record.run_id,
        flow_name=record.flow_name,
        flow_version=record.flow_version,
        namespace=record.namespace,
        parameters=record.parameters,
        tags=record.tags,
        target=record.target,
        retry_of=record.retry_of,
        parent=record.parent,
        pid=record.pid,
        at=record.created_ns,
    )


def run_started_line(at_ns: int) -> str:
    return _line(event="run_started", at=at_ns)


def run_ended_line(ended: RunEnded) -> str:
    return _line(event="run_ended", at=ended.at_ns, status=ended.status, error=ended.error_message)


def change_line(change: Change) -> str:
    """Return the line of a change of one task run."""
    if isinstance(change, TaskStarted):
        return f'{{"event": "task_started", "i": {change.index}, "attempt": {change.attempt}, "at": {change.at_ns}}}\n'
    if isinstance(change, TaskEnded):
        return _ended_line(change)
    if isinstance(change, MapExpanded):
        return _expanded_line(change)
    return _line(
        event="task_retrying",
        i=change.index,
        attempt=change.attempt,
        at=change.at_ns,
        delay_seconds=change.delay_seconds,
        error=change.error_message,
        trace=change.trace,
    )


def _expanded_line(expanded: MapExpanded) -> str:
    labels = [node.label for node in expanded.nodes]
    return _line(
        event="map_expanded",
        i=expanded.index,
        id=expanded.node.id,
        task=expanded.node.task,
        first=expanded.first,
        count=len(expanded.nodes),
        labels=labels if any(labels) else None,
    )


def _ended_line(ended: TaskEnded) -> str:
    facts: dict[str, Any] = {
        "event": "task_ended",
        "i": ended.index,
        "id": ended.node.id,
        "task": ended.node.task,
        "status": ended.status,
        "attempt": ended.attempt,
        "started": ended.started_ns,
        "at": ended.at_ns,
    }
    if ended.node.label is not None:
        facts["label"] = ended.node.label
    if ended.output is not None:
        facts["output"] = output_facts(ended.output)
    if ended.error_message is not None:
        facts["error"] = ended.error_message
    if ended.trace is not None:
        facts["trace"] = ended.trace
    return json.dumps(facts) + "\n"


def output_facts(output: Any) -> dict[str, Any]:
    """Return an output reference as JSON."""
    return {
        "key": output.key,
        "serializer": output.serializer,
        "size_bytes": output.size_bytes,
        "sha256": output.sha256,
        "name": output.name,
        "media_type": output.media_type,
        "inline": output.inline,
        "origin": output.origin,
    }


def _line(**facts: Any) -> str:
    return json.dumps(facts) + "\n"


def read_run(folder: Path) -> RunRecord | None:
    """Return what the journal in a run's folder says of the run alone, or None when there is no journal.

    Raises:
        LocalStoreError: the journal is broken.
    """
    record: RunRecord | None = None
    with _readable(folder):
        for facts in _facts(folder / NAME, "run_"):
            if facts["event"] == "run_created":
                record = _created(facts)
            elif record is not None:
                _apply_to_run(record, facts)
    return record


def ended_task_runs(folder: Path) -> Iterator[TaskRunRecord]:
    """Yield the task runs that have ended, in that order, one by one: a run may have a hundred thousand.

    Raises:
        LocalStoreError: the journal is broken.
    """
    with _readable(folder):
        for facts in _facts(folder / NAME, "task_ended"):
            yield _ended(facts)


def read(folder: Path) -> RunRecord | None:
    """Return what the journal in a run's folder says, with task runs that have not started from its spec.

    None means that there is no journal.

    Raises:
        LocalStoreError: the journal is broken.
    """
    record: RunRecord | None = None
    task_runs: dict[int, TaskRunRecord] = {}
    with _readable(folder):
        for facts in _facts(folder / NAME):
            if facts["event"] == "run_created":
                record = _created(facts)
            elif record is not None:
                _apply_to_run(record, facts)
                _apply_to_task_runs(task_runs, facts)
    if record is None:
        return None
    if not record.status.is_terminal:
        for position, (task_run_id, task_name) in enumerate(_nodes(folder)):
            known = task_runs.setdefault(position, TaskRunRecord(position, task_run_id, task_name))
            known.task_run_id, known.task_name = task_run_id, task_name
    record.task_runs = [task_runs[position] for position in sorted(task_runs)]
    return record


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Say which journal it is whose lines make no sense."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IllegalTransition) as exc:
        raise LocalStoreError(
            f"The journal {folder / NAME} can not be read ({type(exc).__name__}: {exc}); move its folder away to go on "
            "without that run"
        ) from exc


def _facts(path: Path, event: str = "") -> Iterator[dict[str, Any]]:
    """Yield the facts whose event begins with `event`; the others are not even decoded."""
    start = f'{{"event": "{event}'
    try:
        with open(path, encoding="utf-8", errors="surrogatepass") as file:
            for line in file:
                if not line.endswith("\n"):
                    return  # the owner was killed, or the disk was full, in the middle of this line
                if line.startswith(start):
                    yield json.loads(line)
    except (FileNotFoundError, ValueError):
        return


def _created(facts: dict[str, Any]) -> RunRecord:
    return RunRecord(
        run_id=facts["run_id"],
        flow_name=facts["flow_name"],
        flow_version=facts["flow_version"],
        namespace=facts["namespace"],
        parameters=facts["parameters"],
        tags=facts["tags"],
        target=facts["target"],
        retry_of=facts["retry_of"],
        parent=facts["parent"],
        pid=facts["pid"],
        created_ns=facts["at"],
    )


def _apply_to_run(record: RunRecord, facts: dict[str, Any]) -> None:
    if facts["event"] == "run_started":
        _become(record, RunStatus.RUNNING)
        record.started_ns = facts["at"]
    elif facts["event"] == "run_ended":
        _become(record, RunStatus(facts["status"]))
        record.ended_ns, record.error_message = facts["at"], facts["error"]


def _become(record: RunRecord, status: RunStatus) -> None:
    check_run_transition(record.status, status)
    record.status = status


def _apply_to_task_runs(task_runs: dict[int, TaskRunRecord], facts: dict[str, Any]) -> None:
    event = facts["event"]
    if event == "task_started":
        # The spec has the names of a task run that is still running; until then its position stands for it.
        at = task_runs.setdefault(facts["i"], TaskRunRecord(facts["i"], "", ""))
        at.status, at.attempt = TaskRunStatus.RUNNING, facts["attempt"]
        at.started_ns = at.started_ns or facts["at"]
    elif event == "task_retrying":
        task_runs[facts["i"]].error_message = facts["error"]
        task_runs[facts["i"]].trace = facts["trace"]
    elif event == "map_expanded":
        labels = facts["labels"] or [None] * facts["count"]
        for number, label in enumerate(labels):
            at = facts["first"] + number
            task_runs[at] = TaskRunRecord(at, f"{facts['id']}[{number}]", facts["task"], label=label)
    elif event == "task_ended":
        task_runs[facts["i"]] = _ended(facts)


def _ended(facts: dict[str, Any]) -> TaskRunRecord:
    return TaskRunRecord(
        position=facts["i"],
        task_run_id=facts["id"],
        task_name=facts["task"],
        label=facts.get("label"),
        status=TaskRunStatus(facts["status"]),
        attempt=facts["attempt"],
        started_ns=facts["started"],
        ended_ns=facts["at"],
        output=facts.get("output"),
        error_message=facts.get("error"),
        trace=facts.get("trace"),
    )


def _nodes(folder: Path) -> Iterable[tuple[str, str]]:
    try:
        with open(folder / SPEC_NAME, encoding="utf-8") as file:
            document = json.load(file)
    except (FileNotFoundError, ValueError):
        return ()
    return [(node["id"], node["task"]) for node in document["task_runs"]]
