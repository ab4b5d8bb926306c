"""Serializers: how an output that is not JSON becomes a file, and back.

`json` comes first and is part of `dagy.artifacts`. After it `register_serializer` adds to those that are built in:

    parquet    DataFrames of pandas and polars and Tables of pyarrow; each comes back as what it was
    pickle     any object that pickle takes, only for a task that asks for it
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Protocol

from dagy.errors import ArtifactSerializationError, FlowDefinitionError

JSON = "json"

#: Serializers of an output that are no entry of the registry, see `dagy.artifacts`.
_RESERVED = frozenset({JSON, "file", "folder", "map"})

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+){1,3}\Z")

#: In the metadata of a Parquet file's schema: the library whose class was stored.
_KIND = b"dagy.kind"


class Serializer(Protocol):
    """Writes the values of some classes to a file and reads them again, on any machine and at any later time.

    Attributes:
        name: under which outputs refer to it, so it stays the same for as long as they are kept.
        suffix: of the stored file, such as `.npy`.
        media_type: of the stored file, such as `application/octet-stream`; None when there is none.
    """

    # Properties, so that a class may have them as constants, too.
    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    @property
    def media_type(self) -> str | None: ...

    def accepts(self, value: Any) -> bool:
        """Return whether it can store the value; asked for every output that is not plain JSON, so answer fast."""

    def dump(self, value: Any, path: Path) -> None:
        """Write the value to a new file at `path`. What it raises fails the task run."""

    def load(self, path: Path) -> Any:
        """Return a new value from the file at `path`, which is for reading only. What it raises fails the consumer."""


class Parquet:
    """Tables as Parquet files; pyarrow writes them, whatever library they are of."""

    name = "parquet"
    suffix = ".parquet"
    media_type = "application/vnd.apache.parquet"

    def accepts(self, value: Any) -> bool:
        return _table_kind(value) is not None

    def dump(self, value: Any, path: Path) -> None:
        pyarrow, parquet = _pyarrow()
        kind = _table_kind(value)
        if kind == "pandas":
            table = pyarrow.Table.from_pandas(value)
        else:
            table = value.to_arrow() if kind == "polars" else value
        metadata = {**(table.schema.metadata or {}), _KIND: str(kind).encode()}
        parquet.write_table(table.replace_schema_metadata(metadata), path)

    def load(self, path: Path) -> Any:
        _, parquet = _pyarrow()
        # Not `read_table`, which takes folders such as `day=2` in the path for columns.
        with parquet.ParquetFile(path) as file:
            table = file.read()
        metadata = dict(table.schema.metadata or {})
        kind = metadata.pop(_KIND, b"pyarrow").decode()
        table = table.replace_schema_metadata(metadata or None)
        if kind == "pandas":
            return table.to_pandas()
        if kind == "polars":
            import polars  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - the user's choice

            return polars.from_arrow(table)
        return table


class Pickle:
    """Any object that pickle takes. To load one executes what it says, so only a task that asks for it gets it."""

    name = "pickle"
    suffix = ".pickle"
    media_type = "application/octet-stream"

    def accepts(self, _: Any) -> bool:
        return True

    def dump(self, value: Any, path: Path) -> None:
        import pickle  # noqa: PLC0415 - only for tasks that ask for it

        with path.open("wb") as file:
            pickle.dump(value, file)

    def load(self, path: Path) -> Any:
        import pickle  # noqa: PLC0415 - only for tasks that ask for it

        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - the task that wrote it has asked for this


_PARQUET, _PICKLE = Parquet(), Pickle()

_BUILT_IN: dict[str, Serializer] = {_PARQUET.name: _PARQUET, _PICKLE.name: _PICKLE}

#: Those of users, by name, in the order in which they came.
_registered: dict[str, Serializer] = {}


def register_serializer(serializer: Serializer) -> None:
    """Let outputs that are not plain JSON be stored by this serializer if it accepts them.

    The last one registered is asked first, and all of them before `parquet`. One of the same name is replaced, so a
    module may be imported again. Register it in a module that both the task and its consumers import.

    Args:
        serializer: an object with `name`, `suffix`, `media_type`, `accepts`, `dump` and `load`, see `Serializer`.

    Raises:
        FlowDefinitionError: something of it is missing, its name is taken, or its suffix is none.
    """
    missing = [
        each for each in ("name", "suffix", "media_type", "accepts", "dump", "load") if not _has(serializer, each)
    ]
    if missing:
        raise FlowDefinitionError(f"The serializer {serializer!r} has no {', '.join(missing)}")
    name, suffix = serializer.name, serializer.suffix
    if not isinstance(name, str) or not _NAME.match(name):
        raise FlowDefinitionError(
            f"The name of a serializer must be up to 63 letters, digits, '_', '-' and '.', got {name!r}"
        )
    if name in _RESERVED or name in _BUILT_IN:
        raise FlowDefinitionError(f"The serializer name {name!r} is built in; choose another one")
    if not isinstance(suffix, str) or not _SUFFIX.match(suffix):
        raise FlowDefinitionError(f"The suffix of serializer {name!r} must be like '.npy', got {suffix!r}")
    _registered.pop(name, None)
    _registered[name] = serializer


def _has(serializer: object, attribute: str) -> bool:
    if attribute in ("accepts", "dump", "load"):
        return callable(getattr(serializer, attribute, None))
    return hasattr(serializer, attribute)


def unregister_serializer(name: str) -> None:
    """Forget a serializer that was registered; one that is not known is no error."""
    _registered.pop(name, None)


def known_names() -> tuple[str, ...]:
    """Return what `@task(serializer=...)` may be."""
    return (JSON, *_BUILT_IN, *_registered)


def named(name: str) -> Serializer:
    """Return the serializer of that name, which is not `json`.

    Raises:
        ArtifactSerializationError: it is not known in this process.
    """
    found = _registered.get(name) or _BUILT_IN.get(name)
    if found is None:
        raise ArtifactSerializationError(
            f"Serializer {name!r} is not known here; import the module that registers it. Known are: "
            f"{', '.join(known_names())}"
        )
    return found


def accepting(value: Any) -> Serializer | None:
    """Return the serializer that stores the value of a task that names none.

    Raises:
        ArtifactSerializationError: one of them raised when it was asked.
    """
    for serializer in reversed(list(_registered.values())):
        try:
            if serializer.accepts(value):
                return serializer
        except Exception as exc:  # the boundary to user code
            raise ArtifactSerializationError(
                f"Serializer {serializer.name!r} failed when it was asked for an output of type "
                f"{type(value).__name__}: {type(exc).__name__}: {exc}"
            ) from exc
    return _PARQUET if _PARQUET.accepts(value) else None


def dump(serializer: Serializer, value: Any, path: Path) -> None:
    """Write a value to a new file.

    Raises:
        ArtifactSerializationError: the serializer does not take it, failed, or wrote no file.
    """
    name, kind = serializer.name, type(value).__name__
    try:
        accepts = serializer.accepts(value)
        if accepts:
            serializer.dump(value, path)
    except ArtifactSerializationError:
        raise
    except Exception as exc:  # the boundary to user code
        raise ArtifactSerializationError(
            f"The output, of type {kind}, can not be stored by serializer {name!r}: {type(exc).__name__}: {exc}"
        ) from exc
    if not accepts:
        raise ArtifactSerializationError(
            f"Serializer {name!r} does not take the output, which is of type {kind}; return what it takes, or name "
            f"another one in @task(serializer=...): {', '.join(known_names())}"
        )
    if not path.is_file():
        raise ArtifactSerializationError(f"Serializer {name!r} wrote no file; dump() must write to its `path`")


def load(serializer: Serializer, path: Path) -> Any:
    """Return the value in a file that the serializer wrote.

    Raises:
        ArtifactSerializationError: it failed.
    """
    try:
        return serializer.load(path)
    except ArtifactSerializationError:
        raise
    except Exception as exc:  # the boundary to user code, and to the modules that a pickle names
        raise ArtifactSerializationError(
            f"The output can not be loaded by serializer {serializer.name!r}: {type(exc).__name__}: {exc}"
        ) from exc


def _table_kind(value: Any) -> str | None:
    """Return the library of a table; a subclass of another library would not come back as what it was."""
    library = type(value).__module__.partition(".")[0]
    name = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "Table"}.get(library)
    # Whoever made such a value has imported its library, which is never loaded here to look.
    cls = getattr(sys.modules.get(library), name, None) if name else None
    return library if cls is not None and type(value) is cls else None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: PLC0415 - 100 ms, optional
        from pyarrow import parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError as exc:
        raise ArtifactSerializationError(
            "A table is stored as Parquet by pyarrow, which is not installed: pip install pyarrow"
        ) from exc
    return pyarrow, parquet
