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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dagy.clock import Clock, SystemClock
from dagy.errors import LocalStoreError
from dagy.events import RunEnded, TaskEnded
from dagy.local import journal, mirror
from dagy.local.database import Database, duckdb_module
from dagy.local.home import Home
from dagy.local.journal import Journal
from dagy.local.records import RunRecord, TaskRunRecord, from_dict, task_run_from_dict
from dagy.spec import TaskRunSpec
from dagy.status import RunStatus, TaskRunStatus

#: How long a command waits for another one that has the database open.
LOCK_WAIT_SECONDS = 1.0

#: A run's folder without a journal is taken away when it is this old: it may be one that is about to begin.
ORPHAN_SECONDS = 3600.0


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
        #: Once the database was not to be had, this store does not wait for it again.
        self._patience_seconds = LOCK_WAIT_SECONDS

    def runs(self) -> list[RunRecord]:
        """Return every run that is kept, newest first, without task runs.

        A run whose process is gone is shown, and from then on recorded, as FAILED.

        Raises:
            LocalStoreError: the directory or its database can not be used.
        """
        with self._usable():
            self._settle()
            known = {record.run_id: record for record in self._journalled()}
            with self._database() as database:
                for record in self._from_files() if database is None else database.runs():
                    known.setdefault(record.run_id, record)
        return sorted(known.values(), key=lambda record: (record.created_ns, record.run_id), reverse=True)

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run with its task runs, or None when there is none of that id.

        Raises:
            LocalStoreError: the directory, its database or the journal of the run can not be used.
        """
        with self._usable():
            self._settle()
            folder = self._home.run_folder(run_id)
            record = journal.read(folder)
            if record is None:
                with self._database() as database:
                    record = None if database is None else database.run(run_id)
            if record is None:
                record = _read_files(folder, with_task_runs=True)
        return record if record is not None and record.run_id == run_id else None

    def carry_over(self, ended: Journal, *, files: Callable[[], None] = lambda: None) -> bool:
        """Put a run that has ended into the database, take its journal away, and keep only the newest runs.

        Args:
            ended: the journal, which has the run's end.
            files: returns when the files of its task runs are written, which may go on while the database is.

        Returns:
            Whether that was possible now; else the journal stays and a later command does it.

        Raises:
            LocalStoreError: the directory or its database can not be used, or the database refuses the run.
        """
        refused: list[LocalStoreError] = []
        with self._usable():
            done = self._carry_over([ended], refused.append, files)
        if refused:
            raise refused[0]
        return done

    def _settle(self) -> None:
        """Finish and carry over the journals whose process is gone."""
        for folder in _folders(self._home.runs):
            if self._is_orphan(folder):
                self._discard(folder)
        left = [each for folder in self._journal_folders() if (each := Journal.of_dead_owner(folder)) is not None]
        if not left:
            return
        try:
            self._carry_over([each for each in left if self._could_finish(each)], lambda error: self._warn(str(error)))
        finally:
            for each in left:
                each.close()

    def _could_finish(self, left: Journal) -> bool:
        """Finish a journal; one that can not be finished is told and left, for the sake of the others."""
        try:
            return self._finished(left)
        except OSError as exc:
            self._warn(str(self._home.unusable(exc)))
        except LocalStoreError as exc:
            self._warn(str(exc))
        return False

    def _is_orphan(self, folder: Path) -> bool:
        """Whether the process was killed in the moment between making the folder and beginning the journal."""
        if (folder / journal.NAME).exists() or (folder / mirror.METADATA).exists():
            return False
        try:
            return self._clock.now_ns() / 1e9 - folder.stat().st_mtime > ORPHAN_SECONDS
        except FileNotFoundError:
            return False  # another command has just discarded it

    def _finished(self, left: Journal) -> bool:
        """Write the end of a run whose process was killed; False when it had not even begun."""
        folder = left.path.parent
        record = journal.read(folder)
        if record is None:
            self._discard(folder)
            return False
        if not record.status.is_terminal:
            self._end(left, record)
        mirror.write_missing(self._home, record.run_id, journal.ended_task_runs(folder))
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

    def _carry_over(
        self,
        journals: Sequence[Journal],
        refused: Callable[[LocalStoreError], None],
        files: Callable[[], None] = lambda: None,
    ) -> bool:
        """Carry over the runs that have ended; `refused` is told of those that the database does not take."""
        read = [(journal.read_run(each.path.parent), each) for each in journals]
        ended = [(record, each) for record, each in read if record is not None and record.status.is_terminal]
        stored: list[Journal] = []
        with self._database() as database:
            if database is not None:
                stored = self._put_all(database, ended, refused)
        files()
        for record, _ in ended:
            mirror.write_run_end(self._home, record)
        # Last: as long as the journal is there, a later command makes good whatever a kill has prevented here.
        for each in stored:
            each.remove()
        return len(stored) == len(journals)

    def _put_all(
        self,
        database: Database,
        ended: Sequence[tuple[RunRecord, Journal]],
        refused: Callable[[LocalStoreError], None],
    ) -> list[Journal]:
        stored = []
        for record, each in ended:
            try:
                self._put(database, record, each)
                stored.append(each)
            except LocalStoreError as exc:
                refused(exc)
        return stored

    def _put(self, database: Database, record: RunRecord, ended: Journal) -> None:
        """Store one run in a transaction of its own: what the database refuses of it keeps no other run out."""
        try:
            database.begin()
            database.put(record, journal.ended_task_runs(ended.path.parent))
            # Folders first: a kill before the end of the transaction leaves rows that are surplus again next time.
            for run_id in database.surplus(self._home.keep_runs):
                self._discard(self._home.run_folder(run_id))
                self._discard(self._home.artifact_folder(run_id))
                database.delete(run_id)
            database.commit()
        except (duckdb_module().Error, OverflowError, LocalStoreError) as exc:
            with suppress(duckdb_module().Error):
                database.rollback()
            raise LocalStoreError(
                f"The run {record.run_id} can not be put into {self._home.database}, it stays in its journal: {exc}"
            ) from exc

    def _journal_folders(self) -> list[Path]:
        return [folder for folder in _folders(self._home.runs) if (folder / journal.NAME).exists()]

    def _journalled(self) -> Iterator[RunRecord]:
        for folder in self._journal_folders():
            with suppress(LocalStoreError):  # told when the store settles
                if (record := journal.read_run(folder)) is not None:
                    yield record

    def _from_files(self, *, with_task_runs: bool = False) -> list[RunRecord]:
        found = (_read_files(folder, with_task_runs=with_task_runs) for folder in _folders(self._home.runs))
        return [record for record in found if record is not None]

    def discard(self, folder: Path) -> None:
        """Move a folder to the trash: deleting takes longer than the run that makes room for itself may wait.

        Raises:
            LocalStoreError: the directory can not be used.
        """
        with self._usable():
            self._discard(folder)

    def _discard(self, folder: Path) -> None:
        self._home.trash.mkdir(parents=True, exist_ok=True)
        target = self._home.trash / f"{folder.parent.name}-{folder.name}-{random.getrandbits(48):012x}"
        with suppress(FileNotFoundError):
            folder.rename(target)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Say of which directory it is that the operating system refuses something."""
        try:
            yield
        except OSError as exc:
            raise self._home.unusable(exc) from exc

    @contextmanager
    def _database(self) -> Iterator[Database | None]:
        """Open the database for a moment; gives None when another process has it for longer than that."""
        self._home.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._home.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            database = self._open() if _locked(lock, self._patience_seconds) else None
            if database is None:
                self._patience_seconds = 0.0
            try:
                yield database
            except duckdb_module().Error as exc:
                raise LocalStoreError(f"The run database {self._home.database} can not be used: {exc}") from exc
            finally:
                if database is not None:
                    database.close()
        finally:
            os.close(lock)

    def _open(self) -> Database | None:
        try:
            return Database(self._home.database)
        except duckdb_module().Error as exc:
            if "Could not set lock" in str(exc):
                return None  # somebody looks into the file with another program
            if _is_about_the_disk(str(exc)):
                raise LocalStoreError(f"The run database {self._home.database} can not be opened: {exc}") from exc
            return self._start_again(exc)

    def _start_again(self, error: Exception) -> Database:
        """Set a broken database aside and make a new one from the files of the runs."""
        backup = self._home.path / f"dagy.duckdb.bak-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        for suffix in ("", ".wal"):
            part = Path(f"{self._home.database}{suffix}")
            if part.exists():
                part.rename(f"{backup}{suffix}")
        database = Database(self._home.database)
        records = [
            record
            for record in self._from_files(with_task_runs=True)
            if not (self._home.run_folder(record.run_id) / journal.NAME).exists()
        ]
        for record in records:
            database.put(record, record.task_runs)
        self._warn(
            f"The run database {self._home.database} could not be read ({str(error).splitlines()[0]}); it was kept as "
            f"{backup.name} and a new one was made from the files of {len(records)} runs"
        )
        return database


def _is_about_the_disk(message: str) -> bool:
    return any(text in message for text in ("Permission denied", "Read-only file system", "No space left"))


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
    try:
        record = from_dict(document)
        if with_task_runs:
            found = (_read_json(each / mirror.METADATA) for each in _folders(folder / "task_runs"))
            record.task_runs = [task_run_from_dict(each) for each in found if each is not None]
            record.task_runs.sort(key=lambda each: each.position)
    except (KeyError, TypeError, ValueError):
        return None
    return record


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return document
