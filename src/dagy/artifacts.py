"""Task outputs: what a task returns, as bytes in the run's object store, and back.

An output of up to `INLINE_BYTES` travels inside the event that reports it, and whoever records that event stores it; a
larger one is in the object store before the event is reported. So a recorded success always has its output.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from dagy.errors import ArtifactSerializationError
from dagy.names import path_name
from dagy.object_store import ObjectStore

#: Up to this size an output is kept in memory and written into the journal.
INLINE_BYTES = 1024

#: `DAGY_LOCAL_ARTIFACT_MAX_BYTES` changes it.
DEFAULT_MAX_BYTES = 5_242_880

JSON_NAME = "output.json"


class LocalArtifact:
    """A text, bytes or file output: returned by a task it is stored as a file, and the next task gets it as one.

    Attributes:
        path: the file, on this machine.
        name: its name, also in the store.
        media_type: for example `text/html`; None when unknown.
    """

    def __init__(self, path: str | Path, media_type: str | None = None, *, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
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

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self.path.read_bytes() if self._content is None else self._content

    def read_text(self) -> str:
        """Return the content, decoded as UTF-8."""
        return self.read_bytes().decode()

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self._content is None else len(self._content)

    def __repr__(self) -> str:
        return f"LocalArtifact({str(self.path)!r})"


@dataclass(frozen=True, slots=True)
class Output:
    """A stored task output: where it lies and what it is, and its text when it is small."""

    key: str
    serializer: Literal["json", "file", "map"]
    size_bytes: int
    sha256: str
    name: str = JSON_NAME
    media_type: str | None = "application/json"
    inline: str | None = None


class RunOutputs:
    """The outputs of one run, in the object store under `artifacts/<run_id>/<task_run_id>/`."""

    def __init__(self, objects: ObjectStore, run_id: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._objects = objects
        self._prefix = f"artifacts/{path_name(run_id)}"
        self._max_bytes = max_bytes

    def store(self, task_run_id: str, value: Any) -> Output:
        """Store what a task returned.

        Raises:
            ArtifactSerializationError: it is not JSON, its file is missing, or it is larger than the limit.
        """
        if isinstance(value, LocalArtifact):
            return self._store_file(task_run_id, value)
        text = _dump(value)
        data = text.encode("utf-8", "surrogatepass")
        self._check_size(len(data))
        inline = len(data) <= INLINE_BYTES
        output = Output(
            key=f"{self._prefix}/{path_name(task_run_id)}/{JSON_NAME}",
            serializer="json",
            size_bytes=len(data),
            sha256=sha256(data).hexdigest(),
            inline=text if inline else None,
        )
        if not inline:
            self._objects.put(output.key, data)
        return output

    def load(self, output: Output) -> Any:
        """Return a fresh copy of the value, as every task that consumes it gets one of its own."""
        if output.serializer == "file":
            return LocalArtifact(self._objects.local_file(output.key), output.media_type, name=output.name)
        if output.inline is not None:
            return json.loads(output.inline)
        return json.loads(self._objects.get(output.key).decode("utf-8", "surrogatepass"))

    def of_map(self, task_run_id: str) -> Output:
        """Return the output of a mapped call, which is the list of its items' outputs and has no bytes of its own."""
        key = f"{self._prefix}/{path_name(task_run_id)}"
        return Output(key=key, serializer="map", size_bytes=0, sha256="", media_type=None)

    def _store_file(self, task_run_id: str, artifact: LocalArtifact) -> Output:
        try:
            self._check_size(artifact.size_bytes)
            content = artifact.read_bytes()
        except OSError as exc:
            raise ArtifactSerializationError(
                f"The LocalArtifact {str(artifact.path)!r} can not be read ({exc.strerror}); write the file before "
                "returning it"
            ) from exc
        key = f"{self._prefix}/{path_name(task_run_id)}/{path_name(artifact.name)}"
        self._objects.put(key, content)
        return Output(
            key=key,
            serializer="file",
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
            name=artifact.name,
            media_type=artifact.media_type,
        )

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise ArtifactSerializationError(
                f"The output has {size_bytes:,} bytes and the limit is {self._max_bytes:,}; return a path to a file "
                "that the next task reads, or raise DAGY_LOCAL_ARTIFACT_MAX_BYTES"
            )


def _dump(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as exc:
        raise ArtifactSerializationError(
            f"The output, of type {type(value).__name__}, is not JSON-serialisable: {exc}; return JSON values (dict, "
            "list, str, numbers, bool, None) or wrap text and files in LocalArtifact"
        ) from None
    except RecursionError:
        raise ArtifactSerializationError("The output is nested too deeply to be JSON; flatten it") from None
