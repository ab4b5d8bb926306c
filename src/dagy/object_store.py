"""Bytes by key: where artifacts, task outputs and reports lie, a folder or an S3 bucket."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol


class ObjectStore(Protocol):
    """Objects under keys such as `artifacts/<run_id>/<task_run_id>/output.json`.

    A put replaces the object as a whole: a reader sees the old bytes or the new ones. Keys are made of `path_name`
    segments joined by `/`.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the content of the file at `path` under `key`."""

    def get(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            FileNotFoundError: there is no object of that key.
        """

    def local_file(self, key: str) -> Path:
        """Return a file of this machine that holds the object, for reading only.

        Raises:
            FileNotFoundError: there is no object of that key.
        """


class LocalObjectStore:
    """Objects as files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        path = self._writable(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)

    def put_file(self, key: str, path: Path) -> None:
        target = self._writable(key)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(path, temporary)
        temporary.replace(target)

    def get(self, key: str) -> bytes:
        return self.local_file(key).read_bytes()

    def local_file(self, key: str) -> Path:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(f"There is no object {key!r} below {self.root}")
        return path

    def _writable(self, key: str) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
