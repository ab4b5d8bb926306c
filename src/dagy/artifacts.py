"""Task outputs: what a task returns, as bytes in the run's object store, and back.

An output of up to `INLINE_BYTES` travels inside the event that reports it, and whoever records that event stores it; a
larger one is in the object store before the event is reported. So a recorded success always has its output.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dagy import serializers
from dagy.errors import ArtifactSerializationError
from dagy.names import path_name
from dagy.object_store import ObjectStore
from dagy.serializers import Serializer

#: Up to this size an output is kept in memory and written into the journal.
INLINE_BYTES = 1024

#: `DAGY_LOCAL_ARTIFACT_MAX_BYTES` changes it.
DEFAULT_MAX_BYTES = 5_242_880

JSON_NAME = "output.json"

#: All of a folder is below its key: the list of its files under this name, and the files below `files`.
FOLDER_LIST = "files.json"

#: Of these only what is inside may be something else than JSON.
_JSON_TYPES = frozenset({dict, list, tuple, str, int, float, bool, type(None)})

_CHUNK_BYTES = 1024 * 1024


class LocalArtifact:
    """A text, bytes, file or folder output: returned by a task it is stored, and the next task gets a path to it.

    Attributes:
        path: the file or folder, on this machine.
        name: its name, also in the store.
        media_type: for example `text/html`; None when unknown.
    """

    def __init__(self, path: str | Path, media_type: str | None = None, *, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name or self.path.resolve().name
        self.media_type = media_type
        self._content: bytes | None = None

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str, media_type: str | None = None) -> LocalArtifact:
        """Return an artifact of these bytes; a file of that name is made when the task returns it."""
        artifact = cls(name, media_type, name=name)
        artifact._content = bytes(content)
        return artifact

    @classmethod
    def from_text(cls, content: str, *, name: str = "output.txt", media_type: str | None = None) -> LocalArtifact:
        """Return an artifact of this text, encoded as UTF-8."""
        return cls.from_bytes(content.encode(), name=name, media_type=media_type)

    @property
    def is_folder(self) -> bool:
        """Whether the path is a folder, of which all files are stored."""
        return self._content is None and self.path.is_dir()

    def read_bytes(self) -> bytes:
        """Return the content of the file."""
        return self.path.read_bytes() if self._content is None else self._content

    def read_text(self) -> str:
        """Return the content of the file, decoded as UTF-8."""
        return self.read_bytes().decode()

    @property
    def size_bytes(self) -> int:
        """The size of the file, or of all files of the folder together."""
        if self._content is not None:
            return len(self._content)
        return sum(_size_of(path) for path in _files_of(self.path).values())

    def __repr__(self) -> str:
        return f"LocalArtifact({str(self.path)!r})"


@dataclass(frozen=True, slots=True)
class Output:
    """A stored task output: where it lies and what it is, and its text when it is small."""

    key: str
    #: `json`, `file`, `folder`, `map`, or the name of a serializer of `dagy.serializers`.
    serializer: str
    size_bytes: int
    sha256: str
    name: str = JSON_NAME
    media_type: str | None = "application/json"
    inline: str | None = None
    #: The task run that made it, `<run_id>/<task_run_id>`, if that was another one.
    origin: str | None = None


class RunOutputs:
    """The outputs of one run, in the object store under `artifacts/<run_id>/<task_run_id>/`."""

    def __init__(self, objects: ObjectStore, run_id: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._objects = objects
        self._prefix = f"artifacts/{path_name(run_id)}"
        self._max_bytes = max_bytes

    def store(self, task_run_id: str, value: Any, *, serializer: str | None = None) -> Output:
        """Store what a task returned.

        Args:
            serializer: by whose name; without one it is JSON, or else of the first serializer that accepts the value.

        Raises:
            ArtifactSerializationError: it is not JSON and no serializer takes it, its file is missing, or it is larger
                than the limit.
        """
        if isinstance(value, LocalArtifact):
            return self._store_artifact(task_run_id, value)
        if serializer is None:
            chosen = None if type(value) in _JSON_TYPES else serializers.accepting(value)
        else:
            chosen = None if serializer == serializers.JSON else serializers.named(serializer)
        if chosen is not None:
            return self._store_by(chosen, task_run_id, value)
        try:
            text = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as exc:
            chosen = serializers.accepting(value) if serializer is None else None
            if chosen is None:
                raise _not_json(value, exc) from None
            return self._store_by(chosen, task_run_id, value)
        return self._store_json(task_run_id, text)

    def load(self, output: Output) -> Any:
        """Return a fresh copy of the value, as every task that consumes it gets one of its own.

        Raises:
            ArtifactSerializationError: its serializer is not known here, or fails.
            FileNotFoundError: it is not in the store.
        """
        if output.inline is not None:
            return json.loads(output.inline)
        if output.serializer == serializers.JSON:
            return json.loads(self._objects.get(output.key).decode("utf-8", "surrogatepass"))
        if output.serializer == "file":
            return LocalArtifact(self._objects.local_file(output.key), output.media_type, name=output.name)
        if output.serializer == "folder":
            return LocalArtifact(self._local_folder(output.key), output.media_type, name=output.name)
        serializer = serializers.named(output.serializer)
        return serializers.load(serializer, self._objects.local_file(output.key))

    def key_of(self, task_run_id: str, name: str) -> str:
        """Return the key of an output of that file name, already safe, of a task run of this run."""
        return f"{self._prefix}/{path_name(task_run_id)}/{name}"

    def of_map(self, task_run_id: str) -> Output:
        """Return the output of a mapped call, which is the list of its items' outputs and has no bytes of its own."""
        key = f"{self._prefix}/{path_name(task_run_id)}"
        return Output(key=key, serializer="map", size_bytes=0, sha256="", media_type=None)

    def _store_json(self, task_run_id: str, text: str) -> Output:
        data = text.encode("utf-8", "surrogatepass")
        self._check_size(len(data))
        inline = len(data) <= INLINE_BYTES
        output = Output(
            key=self.key_of(task_run_id, JSON_NAME),
            serializer=serializers.JSON,
            size_bytes=len(data),
            sha256=sha256(data).hexdigest(),
            inline=text if inline else None,
        )
        if not inline:
            self._objects.put(output.key, data)
        return output

    def _store_by(self, serializer: Serializer, task_run_id: str, value: Any) -> Output:
        import tempfile  # noqa: PLC0415 - loads random, which outputs of JSON do not need

        name = f"output{serializer.suffix}"
        key = self.key_of(task_run_id, name)
        with tempfile.TemporaryDirectory(prefix="dagy-output-") as folder:
            path = Path(folder, name)
            serializers.dump(serializer, value, path)
            size_bytes = _size_of(path)
            self._check_size(size_bytes)
            digest = self._put_file(key, path)
        return Output(
            key=key,
            serializer=serializer.name,
            size_bytes=size_bytes,
            sha256=digest,
            name=name,
            media_type=serializer.media_type,
        )

    def _store_artifact(self, task_run_id: str, artifact: LocalArtifact) -> Output:
        key = self.key_of(task_run_id, path_name(artifact.name))
        with _readable(artifact.path):
            size_bytes = artifact.size_bytes
        self._check_size(size_bytes)
        is_folder = artifact.is_folder
        if is_folder:
            digest = self._put_folder(key, artifact.path)
        elif artifact._content is None:
            digest = self._put_file(key, artifact.path)
        else:
            self._objects.put(key, artifact._content)
            digest = sha256(artifact._content).hexdigest()
        return Output(
            key=key,
            serializer="folder" if is_folder else "file",
            size_bytes=size_bytes,
            sha256=digest,
            name=artifact.name,
            media_type=artifact.media_type,
        )

    def _put_file(self, key: str, path: Path) -> str:
        """Store a file without ever having it in memory, and return its SHA-256."""
        with _readable(path):
            before, digest = path.stat(), _digest(path)
        self._objects.put_file(key, path)
        with _readable(path):
            after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ArtifactSerializationError(f"{str(path)!r} changed while it was stored; write it before returning it")
        return digest

    def _put_folder(self, key: str, path: Path) -> str:
        """Store the files of a folder and then their list, and return the SHA-256 of the list."""
        with _readable(path):
            files = _files_of(path)
        listed = {name: self._put_file(_key_in(key, name), file) for name, file in files.items()}
        data = json.dumps({"files": listed}, indent=1).encode()
        self._objects.put(f"{key}/{FOLDER_LIST}", data)
        return sha256(data).hexdigest()

    def _local_folder(self, key: str) -> Path:
        names = json.loads(self._objects.get(f"{key}/{FOLDER_LIST}"))["files"]
        files = {name: self._objects.local_file(_key_in(key, name)) for name in names}
        roots = {Path(str(file).removesuffix(f"/{name}")) for name, file in files.items()}
        if len(roots) == 1 and _files_of(root := roots.pop()) == files:
            return root
        # It is empty, has names that the store has to encode, or there are other files in that place.
        return _linked(files)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise ArtifactSerializationError(
                f"The output has {size_bytes:,} bytes and the limit is {self._max_bytes:,}; return a path to a file "
                "that the next task reads, or raise DAGY_LOCAL_ARTIFACT_MAX_BYTES"
            )


def temporary_folder() -> Path:
    """Return a new folder that is removed when this process ends."""
    import atexit  # noqa: PLC0415 - only for outputs that have no file of their own
    import shutil  # noqa: PLC0415 - loads the archive formats
    import tempfile  # noqa: PLC0415 - loads random

    folder = Path(tempfile.mkdtemp(prefix="dagy-outputs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _files_of(path: Path) -> dict[str, Path]:
    """Return the files of a folder by their relative names, in order; of a file itself alone.

    Raises:
        OSError: something can not be read.
        ArtifactSerializationError: there is something else than files and folders.
    """
    if not path.is_dir():
        return {path.name: path}
    found = {}
    for folder, folders, names in os.walk(path, onerror=_raise):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise ArtifactSerializationError(
                    f"{os.path.join(folder, name)!r} is a link to a folder, which is not followed; copy the folder"
                )
        for name in names:
            file = Path(folder, name)
            found[file.relative_to(path).as_posix()] = file
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def _size_of(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactSerializationError(f"{str(path)!r} is neither a file nor a folder; return one of them")
    return status.st_size


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _key_in(key: str, name: str) -> str:
    """Return the key of a file of the folder that is stored below `key`."""
    return f"{key}/files/{'/'.join(path_name(part) for part in name.split('/'))}"


def _linked(files: dict[str, Path]) -> Path:
    folder = temporary_folder()
    for name, file in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.resolve())
    return folder


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ArtifactSerializationError(
            f"The LocalArtifact {str(path)!r} can not be read ({exc.strerror}); write the file before returning it"
        ) from exc


def _not_json(value: Any, error: Exception) -> ArtifactSerializationError:
    if isinstance(error, RecursionError):
        return ArtifactSerializationError("The output is nested too deeply to be JSON; flatten it")
    return ArtifactSerializationError(
        f"The output, of type {type(value).__name__}, is not JSON-serialisable: {error}; return JSON values (dict, "
        "list, str, numbers, bool, None), wrap text and files in LocalArtifact, or store the object by "
        '@task(serializer="pickle")'
    )
