"""`dagy.duckdb`: the tables of runs and task runs, and every statement on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dagy.local.records import RunRecord, TaskRunRecord
from dagy.status import RunStatus, TaskRunStatus


def duckdb_module() -> Any:
    """Return DuckDB. Its compiled module alone loads five times faster than the public package around it."""
    try:
        import _duckdb  # noqa: PLC0415 - drivers are loaded where they are opened
    except ImportError:
        import duckdb  # noqa: PLC0415 - a release that has renamed its private module

        return duckdb
    return _duckdb


class Database:
    """The open file. Its methods raise the driver's `Error`.

    Args:
        path: the file, made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        # One thread: the statements are small, and starting a pool takes longer than they do.
        self._connection = duckdb_module().connect(str(path), config={"threads": 1})
        self._connection.execute(_SCHEMA)
        if [*self._columns("runs"), *self._columns("task_runs")] != _COLUMNS:
            self._connection.close()
            raise duckdb_module().Error("it has the tables of another release")

    def _columns(self, table: str) -> list[str]:
        # Asking the catalog for them takes twenty times longer.
        described = self._connection.execute(f"SELECT * FROM {table} LIMIT 0").description  # noqa: S608 - our own names
        return [name for name, *_ in described]

    def close(self) -> None:
        self._connection.close()

    def begin(self) -> None:
        self._connection.execute("BEGIN")

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._connection.execute("ROLLBACK")

    def runs(self) -> list[RunRecord]:
        """Return every run without its task runs."""
        return [_run_of(row) for row in self._connection.execute(_SELECT_RUNS).fetchall()]

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run with its task runs."""
        row = self._connection.execute(f"{_SELECT_RUNS} WHERE run_id = ?", [_text(run_id)]).fetchone()
        if row is None:
            return None
        record = _run_of(row)
        rows = self._connection.execute(_SELECT_TASK_RUNS, [run_id]).fetchall()
        record.task_runs = [_task_run_of(row) for row in rows]
        return record

    def surplus(self, keep_runs: int) -> list[str]:
        """Return the ids of the runs beyond the `keep_runs` that ended last."""
        return [run_id for (run_id,) in self._connection.execute(_SELECT_SURPLUS, [keep_runs]).fetchall()]

    def delete(self, run_id: str) -> None:
        """Forget a run."""
        self._connection.execute("DELETE FROM runs WHERE run_id = ?", [run_id])
        self._connection.execute("DELETE FROM task_runs WHERE run_id = ?", [run_id])

    def put(self, record: RunRecord, task_runs: Iterable[TaskRunRecord]) -> None:
        """Store a run, in place of what was stored of it before."""
        self.delete(record.run_id)
        self._connection.execute(_INSERT_RUN, _run_row(record))
        left = iter(task_runs)
        while chunk := list(islice(left, _CHUNK)):
            columns = _json(_columns(chunk))
            self._connection.execute(_INSERT_TASK_RUNS, [record.run_id, columns, _STRUCTURE])


_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id VARCHAR, flow_name VARCHAR, flow_version VARCHAR, namespace VARCHAR, status VARCHAR,
    parameters JSON, tags JSON, target VARCHAR, retry_of VARCHAR, parent VARCHAR,
    pid INTEGER,
    created_at TIMESTAMP, started_at TIMESTAMP, ended_at TIMESTAMP, error_message VARCHAR
);
CREATE TABLE IF NOT EXISTS task_runs (
    run_id VARCHAR, position INTEGER, task_run_id VARCHAR, task_name VARCHAR, label VARCHAR, status VARCHAR,
    attempt INTEGER, started_at TIMESTAMP, ended_at TIMESTAMP, output JSON, error_message VARCHAR, trace VARCHAR
);
"""

_COLUMNS = re.findall(r"(\w+) (?:VARCHAR|INTEGER|JSON|TIMESTAMP)", _SCHEMA)

_INSERT_RUN = """
INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), make_timestamp(?), make_timestamp(?), ?)
"""

#: One JSON object of columns is read several times faster than an array of rows.
_TASK_RUN_COLUMNS = {
    "position": "INTEGER",
    "task_run_id": "VARCHAR",
    "task_name": "VARCHAR",
    "label": "VARCHAR",
    "status": "VARCHAR",
    "attempt": "INTEGER",
    "started": "BIGINT",
    "ended": "BIGINT",
    "output": "VARCHAR",
    "error_message": "VARCHAR",
    "trace": "VARCHAR",
}

_STRUCTURE = json.dumps({name: [kind] for name, kind in _TASK_RUN_COLUMNS.items()})

_INSERT_TASK_RUNS = """
INSERT INTO task_runs
SELECT ?, unnest(c.position), unnest(c.task_run_id), unnest(c.task_name), unnest(c.label), unnest(c.status),
       unnest(c.attempt), make_timestamp(unnest(c.started)), make_timestamp(unnest(c.ended)),
       unnest(c.output), unnest(c.error_message), unnest(c.trace)
FROM (SELECT from_json(?::JSON, ?) AS c)
"""

#: How many task runs go into one statement: enough to make its own cost vanish, few enough to need little memory.
_CHUNK = 5_000

_SELECT_RUNS = """
SELECT run_id, flow_name, flow_version, namespace, status, parameters, tags, target, retry_of, parent, pid,
       epoch_us(created_at), epoch_us(started_at), epoch_us(ended_at), error_message
FROM runs
"""

_SELECT_TASK_RUNS = """
SELECT position, task_run_id, task_name, label, status, attempt,
       epoch_us(started_at), epoch_us(ended_at), output, error_message, trace
FROM task_runs WHERE run_id = ? ORDER BY position
"""

_SELECT_SURPLUS = "SELECT run_id FROM runs ORDER BY ended_at DESC, run_id DESC OFFSET ?"


def _text(text: str) -> str:
    """Return a text that UTF-8 can hold: half of a surrogate pair, as in odd file names, becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(value: Any) -> str:
    """Return JSON of nothing but text that UTF-8 can hold."""
    text = json.dumps(value)
    # Surrogates, in pairs or not, are rare; only where there are some is it worth looking at every text.
    return json.dumps(_valid(value)) if "\\ud" in text else text


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_valid(key): _valid(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(each) for each in value]
    return value


def _run_row(record: RunRecord) -> list[Any]:
    row = [
        record.run_id,
        record.flow_name,
        record.flow_version,
        record.namespace,
        str(record.status),
        _json(record.parameters),
        _json(record.tags),
        record.target,
        record.retry_of,
        record.parent,
        record.pid,
        _microseconds(record.created_ns),
        _microseconds(record.started_ns),
        _microseconds(record.ended_ns),
        record.error_message,
    ]
    return [_text(each) if isinstance(each, str) else each for each in row]


def _columns(task_runs: Iterable[TaskRunRecord]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in _TASK_RUN_COLUMNS}
    for each in task_runs:
        columns["position"].append(each.position)
        columns["task_run_id"].append(each.task_run_id)
        columns["task_name"].append(each.task_name)
        columns["label"].append(each.label)
        columns["status"].append(each.status)
        columns["attempt"].append(each.attempt)
        columns["started"].append(_microseconds(each.started_ns))
        columns["ended"].append(_microseconds(each.ended_ns))
        columns["output"].append(None if each.output is None else _json(each.output_reference))
        columns["error_message"].append(each.error_message)
        columns["trace"].append(each.trace)
    return columns


def _microseconds(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // 1000


def _nanoseconds(at_us: int | None) -> int | None:
    return None if at_us is None else at_us * 1000


def _run_of(row: Sequence[Any]) -> RunRecord:
    run_id, flow_name, flow_version, namespace, status, parameters, tags, target, retry_of, *rest = row
    parent, pid, created, started, ended, error = rest
    return RunRecord(
        run_id=run_id,
        flow_name=flow_name,
        flow_version=flow_version,
        namespace=namespace,
        status=RunStatus(status),
        parameters=json.loads(parameters),
        tags=json.loads(tags),
        target=target,
        retry_of=retry_of,
        parent=parent,
        pid=pid,
        created_ns=created * 1000,
        started_ns=_nanoseconds(started),
        ended_ns=_nanoseconds(ended),
        error_message=error,
    )


def _task_run_of(row: Sequence[Any]) -> TaskRunRecord:
    position, task_run_id, task_name, label, status, attempt, started, ended, output, error, trace = row
    return TaskRunRecord(
        position=position,
        task_run_id=task_run_id,
        task_name=task_name,
        label=label,
        status=TaskRunStatus(status),
        attempt=attempt,
        started_ns=_nanoseconds(started),
        ended_ns=_nanoseconds(ended),
        output=None if output is None else json.loads(output),
        error_message=error,
        trace=trace,
    )
