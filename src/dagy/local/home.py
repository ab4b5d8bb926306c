"""Where Dagy keeps what it writes on this machine, and the `DAGY_LOCAL_*` settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dagy.artifacts import DEFAULT_MAX_BYTES
from dagy.errors import ConfigError, LocalStoreError
from dagy.names import path_name

DEFAULT_KEEP_RUNS = 20

_TRUE = frozenset({"true", "1", "yes", "on"})


class Home:
    """The local directory: `DAGY_LOCAL_DIR`, by default `~/.dagy`.

    Attributes:
        path: the directory.
        keep_runs: how many finished runs stay (`DAGY_LOCAL_KEEP_RUNS`).
        artifact_max_bytes: the largest task output (`DAGY_LOCAL_ARTIFACT_MAX_BYTES`).
        verbose: whether more is told on stderr (`DAGY_LOCAL_VERBOSE`).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep_runs: int = DEFAULT_KEEP_RUNS,
        artifact_max_bytes: int = DEFAULT_MAX_BYTES,
        verbose: bool = False,
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.keep_runs = keep_runs
        self.artifact_max_bytes = artifact_max_bytes
        self.verbose = verbose

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], path: str | os.PathLike[str] | None = None) -> Home:
        """Return the home that the environment describes; `path` wins over `DAGY_LOCAL_DIR`.

        Raises:
            ConfigError: a variable has no legal value; the message names it.
        """
        return cls(
            path or environ.get("DAGY_LOCAL_DIR") or "~/.dagy",
            keep_runs=_whole_number(environ, "DAGY_LOCAL_KEEP_RUNS", DEFAULT_KEEP_RUNS),
            artifact_max_bytes=_whole_number(environ, "DAGY_LOCAL_ARTIFACT_MAX_BYTES", DEFAULT_MAX_BYTES),
            verbose=environ.get("DAGY_LOCAL_VERBOSE", "").lower() in _TRUE,
        )

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def builds(self) -> Path:
        return self.path / "builds"

    @property
    def cache(self) -> Path:
        """Outputs that other runs may use again; it may be deleted at any time."""
        return self.path / "cache"

    @property
    def trash(self) -> Path:
        """Runs that retention has taken away and a later process deletes."""
        return self.path / "trash"

    @property
    def database(self) -> Path:
        return self.path / "dagy.duckdb"

    @property
    def lock(self) -> Path:
        """Whoever opens the database holds this file's lock."""
        return self.path / "dagy.lock"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / path_name(run_id)

    def task_run_folder(self, run_id: str, task_run_id: str) -> Path:
        return self.run_folder(run_id) / "task_runs" / path_name(task_run_id)

    def artifact_folder(self, run_id: str) -> Path:
        return self.artifacts / path_name(run_id)

    def unusable(self, error: OSError) -> LocalStoreError:
        """Return what to raise when the operating system refuses to read or write below this directory."""
        where = error.filename or self.path
        return LocalStoreError(
            f"The local directory {self.path} can not be used ({error.strerror}: {where}); make room or make it "
            "writable, or set DAGY_LOCAL_DIR to another one"
        )


def _whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{name} must be a whole number from 1, got {text!r}")
    return int(text)
