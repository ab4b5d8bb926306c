"""The flow artifact as it is read: checked before anything in it is believed, unpacked, and loaded.

`artifact.zip` holds

    flow_spec.json    the graph, built with one set of parameters
    metadata.json     what `ArtifactMetadata` says
    manifest.json     size and SHA-256 of every other file
    pipelines/...     the flow's source and every local module that it imports, at their place below the root
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from dagy.errors import ArtifactNotFound, InvalidArtifact, LocalStoreError, SpecFormatError
from dagy.flow_source import FlowSource
from dagy.flows import Flow
from dagy.loader import flow_of, import_source
from dagy.spec import FlowSpec

SPEC_NAME = "flow_spec.json"
METADATA_NAME = "metadata.json"
MANIFEST_NAME = "manifest.json"

METADATA_VERSION = 1

#: AWS: the unpacked code of a Lambda function, https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_ARTIFACT_BYTES = 250 * 1024 * 1024

_CHUNK_BYTES = 1024 * 1024

#: What zipfile and zlib raise about bytes that are not what they should be.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class ArtifactMetadata:
    """What an artifact says about itself.

    Attributes:
        entrypoint: the flow, as `<path in the archive>:<name>`.
        sys_path: folders of the archive to search for imports, in this order; `.` is the archive's root.
        built_at: ISO 8601 in UTC: of the sources, not of the moment, so that a build can be repeated.
        python_version: `3.12`: under which the flow was built.
        dependencies: requirements as `pip` reads them, sorted.
        code_hash: SHA-256 over sources, dependencies and spec, in hex; equal for equal code.
    """

    flow_name: str
    flow_version: str
    namespace: str
    entrypoint: str
    sys_path: tuple[str, ...]
    built_at: str
    python_version: str
    dependencies: tuple[str, ...]
    code_hash: str
    schema_version: int = METADATA_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the content of `metadata.json`."""
        document = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "extra"}
        return json.dumps({**self.extra, **document}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> ArtifactMetadata:
        """Return what `metadata.json` says; keys that this version does not know are kept in `extra`.

        Raises:
            ValueError: it is not such a document.
        """
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("schema_version") != METADATA_VERSION:
            raise ValueError(f"this release reads documents of schema_version {METADATA_VERSION}")
        known: dict[str, Any] = {}
        for each in fields(cls):
            if each.name not in ("extra", "schema_version"):
                known[each.name] = _typed(document.get(each.name), each.name, str(each.type))
        extra = {key: value for key, value in document.items() if key not in known and key != "schema_version"}
        return cls(**known, extra=extra)


def _typed(value: object, name: str, annotation: str) -> object:
    if annotation == "str" and isinstance(value, str):
        return value
    if annotation != "str" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(f"{name!r} is missing or of another type")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A line of the manifest."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact whose content is what its manifest says; made by `open_artifact`.

    Attributes:
        files: everything in it, sorted.
        max_bytes: what it may hold at most, also when it is unpacked.
    """

    path: Path
    metadata: ArtifactMetadata
    spec: FlowSpec
    files: tuple[str, ...]
    max_bytes: int

    def unpack(self, folder: Path) -> None:
        """Write the files below a folder, which is made if needed and must be empty; everything is checked again.

        Raises:
            InvalidArtifact: the archive is not intact any more, or the folder holds something.
            LocalStoreError: the folder can not be written.
        """
        with _opened(self.path) as archive:
            manifest = _Checked(archive, self.path, self.max_bytes).manifest
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if next(folder.iterdir(), None) is not None:
                    raise InvalidArtifact(f"{self.path} can not be unpacked to {folder}, which is not empty")
                for name in (*manifest, MANIFEST_NAME):
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("xb") as file:
                        file.writelines(_chunks(archive, name, self.path))
            except OSError as exc:
                raise LocalStoreError(f"{self.path} can not be unpacked to {folder} ({exc.strerror})") from exc


def open_artifact(path: Path, *, max_bytes: int = MAX_ARTIFACT_BYTES) -> Artifact:
    """Return an artifact after checking all of it: names, sizes, and every file against the manifest.

    Args:
        path: the zip.
        max_bytes: refuse one that is larger, packed or unpacked.

    Raises:
        ArtifactNotFound: there is no such file.
        InvalidArtifact: it is not an intact artifact; the message names the file that is wrong.
    """
    with _opened(path) as archive:
        checked = _Checked(archive, path, max_bytes)
        return Artifact(
            path, checked.metadata(), checked.spec(), tuple(sorted((*checked.manifest, MANIFEST_NAME))), max_bytes
        )


def load_artifact_flow(folder: Path) -> Flow[Any, Any]:
    """Return the flow of an artifact that was unpacked to `folder`, importing its entrypoint.

    Raises:
        InvalidArtifact: the folder holds no unpacked artifact.
        FlowImportError: the source can not be imported; `user_traceback` says where.
        FlowNotFound: the entrypoint names no flow.
    """
    folder = folder.resolve()
    try:
        metadata = ArtifactMetadata.from_json((folder / METADATA_NAME).read_bytes())
    except (OSError, ValueError) as exc:
        raise InvalidArtifact(f"{folder} holds no unpacked artifact: {METADATA_NAME}: {exc}") from exc
    path, _, name = metadata.entrypoint.rpartition(":")
    for each in (path, *metadata.sys_path):
        if each != "." and (_name_problem(each) or not (folder / each).exists()):
            raise InvalidArtifact(f"{METADATA_NAME} in {folder} names {each!r}, which is not there")
    folders = tuple(folder / each for each in metadata.sys_path)
    source = FlowSource(folder / path, folder, metadata.namespace, folders)
    return flow_of(import_source(source), name, source.file)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.is_dir():
        raise InvalidArtifact(f"{path} is a folder, not an artifact")
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ArtifactNotFound(f"Artifact not found: {path}") from None
    except _DAMAGED as exc:
        raise InvalidArtifact(f"{path} is not an artifact, it can not be read as a zip file: {exc}") from exc
    with archive:
        yield archive


class _Checked:
    """An open archive of which every file has been compared with the manifest."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, max_bytes: int) -> None:
        self._archive = archive
        self._path = path
        self._check_entries(max_bytes)
        self.manifest = self._read_manifest()
        self._check_contents()

    def metadata(self) -> ArtifactMetadata:
        try:
            return ArtifactMetadata.from_json(self._read(METADATA_NAME))
        except (ValueError, RecursionError) as exc:
            raise self._invalid(f"{METADATA_NAME} is malformed: {exc}") from exc

    def spec(self) -> FlowSpec:
        try:
            return FlowSpec.from_dict(json.loads(self._read(SPEC_NAME)))
        except (ValueError, RecursionError, SpecFormatError) as exc:
            raise self._invalid(f"{SPEC_NAME} is malformed: {exc}") from exc

    def _check_entries(self, max_bytes: int) -> None:
        names: set[str] = set()
        for info in self._archive.infolist():
            name = info.orig_filename
            problem = _name_problem(name) or _entry_problem(info)
            if problem is not None:
                raise self._invalid(f"the entry {name!r} {problem}")
            if name in names:
                raise self._invalid(f"the entry {name!r} occurs twice")
            names.add(name)
        total = sum(info.file_size for info in self._archive.infolist())
        if max(total, self._path.stat().st_size) > max_bytes:
            raise self._invalid(f"it holds {total / 2**20:,.0f} MB, and {max_bytes / 2**20:,.0f} MB is the limit")
        for name in names:
            if any(parent in names for parent in _parents(name)):
                raise self._invalid(f"the entry {name!r} lies in a file")

    def _read_manifest(self) -> dict[str, _Listed]:
        content = self._read(MANIFEST_NAME)
        try:
            document = json.loads(content)
            listed = {each["path"]: _Listed(each["size_bytes"], each["sha256"]) for each in document["files"]}
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise self._invalid(f"{MANIFEST_NAME} is malformed") from exc
        present = set(self._archive.namelist()) - {MANIFEST_NAME}
        for name in sorted(present ^ set(listed), key=str):
            where = f"is not listed in {MANIFEST_NAME}" if name in present else f"is missing, {MANIFEST_NAME} lists it"
            raise self._invalid(f"{name!r} {where}")
        for name in (SPEC_NAME, METADATA_NAME):
            if name not in listed:
                raise self._invalid(f"{name!r} is missing")
        return listed

    def _check_contents(self) -> None:
        for name, listed in self.manifest.items():
            digest, size_bytes = sha256(), 0
            for chunk in _chunks(self._archive, name, self._path):
                digest.update(chunk)
                size_bytes += len(chunk)
            if size_bytes != listed.size_bytes or digest.hexdigest() != listed.sha256:
                raise self._invalid(f"{name!r} is not the file that {MANIFEST_NAME} describes")

    def _read(self, name: str) -> bytes:
        return b"".join(_chunks(self._archive, name, self._path))

    def _invalid(self, problem: str) -> InvalidArtifact:
        return InvalidArtifact(f"{self._path} is not an intact artifact: {problem}")


def _chunks(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[bytes]:
    try:
        with archive.open(name) as member:
            while chunk := member.read(_CHUNK_BYTES):
                yield chunk
    except KeyError:
        raise InvalidArtifact(f"{path} is not an artifact: {name!r} is missing") from None
    except _DAMAGED as exc:
        raise InvalidArtifact(f"{path} is not an intact artifact: {name!r} can not be read: {exc}") from exc


def _name_problem(name: str) -> str | None:
    """Why this can not be the name of a packed file, None when it can."""
    if not name.isprintable() or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "has a character in its name that no artifact uses"
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        return "would lie outside of the folder that it is unpacked to"
    return None


def _entry_problem(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or another special file"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 0x1:
        return "is encrypted or compressed in a way that no artifact uses"
    return None


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
