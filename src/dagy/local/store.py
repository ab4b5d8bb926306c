"""The record of past runs: `dagy.duckdb`, fed from journals.

DuckDB lets one process open a file at a time, so it is opened for moments only, under `dagy.lock`. A journal stays
until its run is in the database; whoever reads merges both. When the lock is not to be had, nothing waits: the journal
is carried over by a later command.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dagy.clock import Clock, SystemClock
from dagy.errors import LocalStoreError
from dagy.events import RunEnded, TaskEnded
from dagy.local import journal, mirror
from dagy.local.home import Home
from dagy.local.journal import Journal
from dagy.local.records import RunRecord, TaskRunRecord, from_dict, task_run_from_dict
from dagy.spec import TaskRunSpec
from dagy.status import RunStatus, TaskRunStatus

#: How long a command waits for another one that has the database open.
LOCK_WAIT_SECONDS = 1.0


class LocalStore:
    """The runs of one local directory.

    Args:
        home: the directory.
        warn: is told, in a sentence, when a broken database was set aside.
    """

    def __init__(self, home: Home, *, warn: Callable[[str], None], clock: Clock | None = None) -> None:
        self._home = home
        self._warn = warn
        self._clock = clock or SystemClock()

    def runs(self) -> list[RunRecord]:
        """Return every run that is kept, newest first, without task runs.

        A run whose process is gone is shown, and from then on recorded, as FAILED.
        """
        self._settle()
        known = {record.run_id: record for record in self._journalled()}
        for record in self._query(_SELECT_RUNS) or self._from_files():
            known.setdefault(record.run_id, record)
        return sorted(known.values(), key=lambda record: (record.created_ns, record.run_id), reverse=True)

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run with its task runs, or None when there is none of that id."""
        self._settle()
        folder = self._home.run_folder(run_id)
        record = journal.read(folder)
        if record is None:
            found = self._query(f"{_SELECT_RUNS} WHERE run_id = ?", [run_id], with_task_runs=True)
            record = found[0] if found else _read_files(folder, with_task_runs=True)
        return record if record is not None and record.run_id == run_id else None

    def carry_over(self, ended: Journal) -> bool:
        """Put a run that has ended into the database, take its journal away, and keep only the newest runs.

        Returns:
            Whether that was possible now; else the journal stays and a later command does it.
        """
        return self._carry_over([ended])

    def _settle(self) -> None:
        """Finish and carry over the journals whose process is gone."""
        left = [each for folder in self._journal_folders() if (each := Journal.of_dead_owner(folder)) is not None]
        if not left:
            return
        try:
            self._carry_over([each for each in left if self._finished(each)])
        finally:
            for each in left:
                each.close()

    def _finished(self, left: Journal) -> bool:
        """Write the end of a run whose process was killed; False when it had not even begun."""
        folder = left.path.parent
        record = journal.read(folder)
        if record is None:
            self._discard(folder)
            return False
        if not record.status.is_terminal:
            self._end(left, record)
        return True

    def _end(self, left: Journal, record: RunRecord) -> None:
        now = self._clock.now_ns()
        reason = f"The process that executed it (pid {record.pid}) ended without finishing it"
        lines = [
            journal.change_line(_ended_by_death(each, now, reason))
            for each in record.task_runs
            if not each.status.is_terminal
        ]
        left.append("".join(lines) + journal.run_ended_line(RunEnded(RunStatus.FAILED, now, reason)))

    def _carry_over(self, journals: Sequence[Journal]) -> bool:
        records = [record for each in journals if (record := journal.read(each.path.parent)) is not None]
        for record in records:
            mirror.complete(self._home, record)
        with self._database() as database:
            if database is None:
                return False
            database.execute("BEGIN")
            for record in records:
                _insert(database, record)
            surplus = database.execute(_SELECT_SURPLUS, [self._home.keep_runs]).fetchall()
            for (run_id,) in surplus:
                self._discard(self._home.run_folder(run_id))
                self._discard(self._home.artifact_folder(run_id))
                _delete(database, run_id)
            database.execute("COMMIT")
        for each in journals:
            each.remove()
        return True

    def _query(
        self, sql: str, arguments: Sequence[Any] = (), *, with_task_runs: bool = False
    ) -> list[RunRecord] | None:
        """Return runs from the database; None when another process has it."""
        with self._database() as database:
            if database is None:
                return None
            records = [_run_of(row) for row in database.execute(sql, list(arguments)).fetchall()]
            for record in records if with_task_runs else ():
                rows = database.execute(_SELECT_TASK_RUNS, [record.run_id]).fetchall()
                record.task_runs = [_task_run_of(row) for row in rows]
            return records

    def _journal_folders(self) -> list[Path]:
        return [folder for folder in _folders(self._home.runs) if (folder / journal.NAME).exists()]

    def _journalled(self) -> Iterator[RunRecord]:
        for folder in self._journal_folders():
            if (record := journal.read(folder)) is not None:
                record.task_runs = []
                yield record

    def _from_files(self, *, with_task_runs: bool = False) -> list[RunRecord]:
        found = (_read_files(folder, with_task_runs=with_task_runs) for folder in _folders(self._home.runs))
        return [record for record in found if record is not None]

    def _discard(self, folder: Path) -> None:
        """Move a folder to the trash: deleting takes longer than the run that makes room for itself may wait."""
        self._home.trash.mkdir(parents=True, exist_ok=True)
        target = self._home.trash / f"{folder.parent.name}-{folder.name}-{random.getrandbits(48):012x}"
        with suppress(FileNotFoundError):
            folder.rename(target)

    @contextmanager
    def _database(self) -> Iterator[Any]:
        """Open the database for a moment; gives None when another process has it for longer than that."""
        try:
            self._home.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._home.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise self._home.unusable(exc) from exc
        try:
            database = self._open() if _locked(lock, LOCK_WAIT_SECONDS) else None
            try:
                yield database
            finally:
                if database is not None:
                    database.close()
        finally:
            os.close(lock)

    def _open(self) -> Any:
        duckdb = duckdb_module()
        try:
            return _connect(duckdb, self._home.database)
        except duckdb.Error as exc:
            if "Could not set lock" in str(exc):
                return None  # somebody looks into the file with another program
            if _is_about_the_disk(str(exc)):
                raise LocalStoreError(f"The run database {self._home.database} can not be opened: {exc}") from exc
            return self._start_again(duckdb, exc)

    def _start_again(self, duckdb: Any, error: Exception) -> Any:
        """Set a broken database aside and make a new one from the files of the runs."""
        backup = self._home.path / f"dagy.duckdb.bak-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        for suffix in ("", ".wal"):
            part = Path(f"{self._home.database}{suffix}")
            if part.exists():
                part.rename(f"{backup}{suffix}")
        database = _connect(duckdb, self._home.database)
        records = [
            record
            for record in self._from_files(with_task_runs=True)
            if not (self._home.run_folder(record.run_id) / journal.NAME).exists()
        ]
        for record in records:
            _insert(database, record)
        self._warn(
            f"The run database {self._home.database} could not be read ({str(error).splitlines()[0]}); it was kept as "
            f"{backup.name} and a new one was made from the files of {len(records)} runs"
        )
        return database


def duckdb_module() -> Any:
    """Return DuckDB. Its compiled module alone loads five times faster than the public package, which it serves."""
    try:
        import _duckdb  # noqa: PLC0415 - drivers are loaded where they are opened
    except ImportError:
        import duckdb  # noqa: PLC0415 - a release that has renamed its private module

        return duckdb
    return _duckdb


_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id VARCHAR, flow_name VARCHAR, flow_version VARCHAR, namespace VARCHAR, status VARCHAR,
    parameters JSON, tags JSON, pid INTEGER,
    created_at TIMESTAMP, started_at TIMESTAMP, ended_at TIMESTAMP, error_message VARCHAR
);
CREATE TABLE IF NOT EXISTS task_runs (
    run_id VARCHAR, position INTEGER, task_run_id VARCHAR, task_name VARCHAR, status VARCHAR, attempt INTEGER,
    started_at TIMESTAMP, ended_at TIMESTAMP, output JSON, error_message VARCHAR, trace VARCHAR
);
"""

_INSERT_RUN = """
INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), make_timestamp(?), make_timestamp(?), ?)
"""

#: One JSON object of columns is read several times faster than an array of rows.
_TASK_RUN_COLUMNS = {
    "position": "INTEGER",
    "task_run_id": "VARCHAR",
    "task_name": "VARCHAR",
    "status": "VARCHAR",
    "attempt": "INTEGER",
    "started": "BIGINT",
    "ended": "BIGINT",
    "output": "VARCHAR",
    "error_message": "VARCHAR",
    "trace": "VARCHAR",
}

_INSERT_TASK_RUNS = """
INSERT INTO task_runs
SELECT ?, unnest(c.position), unnest(c.task_run_id), unnest(c.task_name), unnest(c.status), unnest(c.attempt),
       make_timestamp(unnest(c.started)), make_timestamp(unnest(c.ended)),
       unnest(c.output), unnest(c.error_message), unnest(c.trace)
FROM (SELECT from_json(?::JSON, ?) AS c)
"""

_SELECT_RUNS = """
SELECT run_id, flow_name, flow_version, namespace, status, parameters, tags, pid,
       epoch_us(created_at), epoch_us(started_at), epoch_us(ended_at), error_message
FROM runs
"""

_SELECT_TASK_RUNS = """
SELECT position, task_run_id, task_name, status, attempt,
       epoch_us(started_at), epoch_us(ended_at), output, error_message, trace
FROM task_runs WHERE run_id = ? ORDER BY position
"""

_SELECT_SURPLUS = "SELECT run_id FROM runs ORDER BY created_at DESC, run_id DESC OFFSET ?"


def _connect(duckdb: Any, path: Path) -> Any:
    # One thread: the statements are small, and starting a pool takes longer than they do.
    database = duckdb.connect(str(path), config={"threads": 1})
    database.execute(_SCHEMA)
    return database


def _is_about_the_disk(message: str) -> bool:
    return any(text in message for text in ("Permission denied", "Read-only file system", "No space left"))


def _insert(database: Any, record: RunRecord) -> None:
    _delete(database, record.run_id)
    database.execute(
        _INSERT_RUN,
        [
            record.run_id,
            record.flow_name,
            record.flow_version,
            record.namespace,
            str(record.status),
            json.dumps(record.parameters),
            json.dumps(record.tags),
            record.pid,
            _microseconds(record.created_ns),
            _microseconds(record.started_ns),
            _microseconds(record.ended_ns),
            record.error_message,
        ],
    )
    if record.task_runs:
        structure = json.dumps({name: [kind] for name, kind in _TASK_RUN_COLUMNS.items()})
        database.execute(_INSERT_TASK_RUNS, [record.run_id, json.dumps(_columns(record.task_runs)), structure])


def _delete(database: Any, run_id: str) -> None:
    database.execute("DELETE FROM runs WHERE run_id = ?", [run_id])
    database.execute("DELETE FROM task_runs WHERE run_id = ?", [run_id])


def _columns(task_runs: Iterable[TaskRunRecord]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in _TASK_RUN_COLUMNS}
    for each in task_runs:
        columns["position"].append(each.position)
        columns["task_run_id"].append(each.task_run_id)
        columns["task_name"].append(each.task_name)
        columns["status"].append(each.status)
        columns["attempt"].append(each.attempt)
        columns["started"].append(_microseconds(each.started_ns))
        columns["ended"].append(_microseconds(each.ended_ns))
        columns["output"].append(None if each.output is None else json.dumps(each.output))
        columns["error_message"].append(each.error_message)
        columns["trace"].append(each.trace)
    return columns


def _microseconds(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // 1000


def _nanoseconds(at_us: int | None) -> int | None:
    return None if at_us is None else at_us * 1000


def _run_of(row: Sequence[Any]) -> RunRecord:
    run_id, flow_name, flow_version, namespace, status, parameters, tags, pid, created, started, ended, error = row
    return RunRecord(
        run_id=run_id,
        flow_name=flow_name,
        flow_version=flow_version,
        namespace=namespace,
        status=RunStatus(status),
        parameters=json.loads(parameters),
        tags=json.loads(tags),
        pid=pid,
        created_ns=created * 1000,
        started_ns=_nanoseconds(started),
        ended_ns=_nanoseconds(ended),
        error_message=error,
    )


def _task_run_of(row: Sequence[Any]) -> TaskRunRecord:
    position, task_run_id, task_name, status, attempt, started, ended, output, error, trace = row
    return TaskRunRecord(
        position=position,
        task_run_id=task_run_id,
        task_name=task_name,
        status=TaskRunStatus(status),
        attempt=attempt,
        started_ns=_nanoseconds(started),
        ended_ns=_nanoseconds(ended),
        output=None if output is None else json.loads(output),
        error_message=error,
        trace=trace,
    )


def _ended_by_death(record: TaskRunRecord, now: int, reason: str) -> TaskEnded:
    running = record.status is TaskRunStatus.RUNNING
    return TaskEnded(
        index=record.position,
        node=TaskRunSpec(id=record.task_run_id, task=record.task_name),
        status=TaskRunStatus.FAILED if running else TaskRunStatus.CANCELLED,
        attempt=record.attempt,
        started_ns=record.started_ns,
        at_ns=now,
        error_message=reason if running else "The run ended before it started",
    )


def _locked(descriptor: int, wait_seconds: float) -> bool:
    """Whether the lock could be taken within `wait_seconds`; it goes with the descriptor."""
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(random.uniform(0.002, 0.01))


def _folders(parent: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(parent) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _read_files(folder: Path, *, with_task_runs: bool) -> RunRecord | None:
    """Return the record that a run's `metadata.json` files hold; None when they are not there or broken."""
    document = _read_json(folder / mirror.METADATA)
    if document is None:
        return None
    record = from_dict(document)
    if with_task_runs:
        found = (_read_json(each / mirror.METADATA) for each in _folders(folder / "task_runs"))
        record.task_runs = [task_run_from_dict(each) for each in found if each is not None]
        record.task_runs.sort(key=lambda each: each.position)
    return record


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return document
