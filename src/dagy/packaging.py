"""Packs a flow: `artifact.zip` holds all that another machine needs to run it, except the libraries.

Sources stand at their place below the root, and `sys_path` in the metadata lists the folders of the archive to search
for imports, so that `import helpers` next to the flow works there as it does here.

The same source gives the same bytes: entries are sorted, have one time and mode 0644, and are stored as they are,
because zlib compresses differently from machine to machine. `code_hash` depends on sources, dependency pins and spec.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from dagy.building import BuiltFlow, build_flow
from dagy.dependency_pins import dependency_pins
from dagy.errors import ConfigError, FlowDefinitionError, InvalidArtifact, LocalStoreError
from dagy.flow_artifact import MANIFEST_NAME, MAX_ARTIFACT_BYTES, METADATA_NAME, SPEC_NAME, ArtifactMetadata
from dagy.flow_source import FlowSource, is_installed, locate
from dagy.flows import Flow
from dagy.loader import attribute_of, loaded_modules
from dagy.local.home import Home
from dagy.local_modules import local_files
from dagy.names import path_name, slug
from dagy.spec import FlowSpec
from dagy.static_checks import Finding, check_flow, refuse_errors
from dagy.tasks import Task

ARTIFACT_NAME = "artifact.zip"

#: What the time stamps of a zip file can express: 1980-01-01 to 2107-12-31.
_ZIP_EPOCHS = (315_532_800, 4_354_819_198)

_GIT_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class BuiltArtifact:
    """An artifact that was just built; usable wherever a path is.

    Attributes:
        path: the zip.
        code_hash: SHA-256 over sources, dependencies and spec, in hex.
        files: the packed sources, relative to the root.
        metadata: all that the artifact says about itself.
        warnings: what the static checks found.
    """

    path: Path
    flow_name: str
    flow_version: str
    namespace: str
    code_hash: str
    files: tuple[str, ...]
    metadata: ArtifactMetadata
    warnings: tuple[Finding, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)


def build_artifact(
    flow: Flow[Any, Any],
    *,
    output_dir: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    namespace: str | None = None,
    tags: Mapping[str, str] | None = None,
    home: str | os.PathLike[str] | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    random_hex: Callable[[], str] = lambda: secrets.token_hex(3),
    max_bytes: int = MAX_ARTIFACT_BYTES,
) -> BuiltArtifact:
    """Pack a flow with its source and the local modules that it imports, and return where the artifact is.

    Args:
        flow: defined at the top level of a file.
        output_dir: the artifact becomes `<output_dir>/artifact.zip`, replacing an older one; by default it becomes
            `<home>/builds/<flow>/<build id>/artifact.zip`.
        parameters: values for the graph that is packed as a preview, over the flow's defaults and its `example`.
        namespace: instead of the flow's own, or of the one derived from where its file lies.
        tags: instead of the flow's own.
        home: the local directory, instead of `DAGY_LOCAL_DIR` or `~/.dagy`.
        cwd: the working directory, from which the root and the namespace follow.
        environ: the environment; `SOURCE_DATE_EPOCH` in it sets the build time.
        now: the clock that names the build.
        random_hex: gives six hex digits that make the build's name unique.
        max_bytes: the most that the artifact may hold.

    Raises:
        FlowDefinitionError: the flow or one of its tasks can not be found by another process, or the static checks
            found an error.
        ParameterError, ParameterTypeError: `parameters` do not fit the flow.
        ConfigError: the project's dependencies can not be read, or a variable has no legal value.
        InvalidArtifact: the artifact would exceed `max_bytes`.
        LocalStoreError: the artifact can not be written.
    """
    environ = os.environ if environ is None else environ
    module, name = _home_of(flow)
    source = locate(Path(str(module.__file__)), cwd=Path.cwd() if cwd is None else cwd)
    source = source._replace(namespace=_first(namespace, flow.namespace, source.namespace))
    built = build_flow(flow, (), {**flow.example, **(parameters or {})})
    spec = _packed_spec(built, source, module, name)
    spec = spec if tags is None else replace(spec, tags=dict(tags))
    findings = check_flow(built)
    refuse_errors(flow.name, findings, cwd=os.getcwd())
    packed = _pack(source, spec, _task_files(built, source), environ, max_bytes)
    moment = f"{slug(flow.name)}-{now():%Y%m%dT%H%M%S}-{random_hex()}"
    folder = Home.from_environ(environ, home).builds / path_name(flow.name) / moment
    path = (folder if output_dir is None else Path(output_dir)) / ARTIFACT_NAME
    _write(packed, path)
    metadata = packed.metadata
    return BuiltArtifact(
        path=path,
        flow_name=metadata.flow_name,
        flow_version=metadata.flow_version,
        namespace=metadata.namespace,
        code_hash=metadata.code_hash,
        files=tuple(packed.sources),
        metadata=metadata,
        warnings=tuple(findings),
    )


def _first(*values: str | None) -> str:
    return next(value for value in values if value is not None)


def _home_of(flow: Flow[Any, Any]) -> tuple[ModuleType, str]:
    """The module that holds the flow, and under which name."""
    own = sys.modules.get(flow.fn.__module__)
    candidates = [own, sys.modules.get("__main__"), *loaded_modules()]
    for module in candidates:
        if module is not None and str(getattr(module, "__file__", None) or "").endswith(".py"):
            name = attribute_of(module, flow)
            if name is not None and name.isidentifier():
                return module, name
    if own is None or not getattr(own, "__file__", None):
        raise FlowDefinitionError(f"Flow {flow.name!r} comes from no file, so it can not be packed; write it to one")
    raise FlowDefinitionError(
        f"Flow {flow.name!r} can not be packed, because {_why_lost(flow)}; define it at the top level of its file"
    )


def _why_lost(thing: Flow[Any, Any] | Task[Any, Any]) -> str:
    outer, inside, _ = thing.fn.__qualname__.rpartition(".<locals>.")
    if inside:
        return f"it is defined inside the function {outer!r}, where no other process can find it"
    return f"{thing.fn.__qualname__!r} in the module {thing.fn.__module__!r} is something else"


def _packed_spec(built: BuiltFlow, source: FlowSource, module: ModuleType, name: str) -> FlowSpec:
    """The spec as another process will know it: the flow's module has its import path, also where it is `__main__`."""
    spec = built.spec
    modules = {module.__name__: source.module}
    paths = {task_name: _task_path(task, module, modules) for task_name, task in built.tasks.items()}
    return replace(
        spec,
        namespace=source.namespace,
        entrypoint=f"{source.path}:{name}",
        tasks={each: replace(task, import_path=paths[each]) for each, task in spec.tasks.items()},
        task_runs=tuple(replace(node, inputs=_renamed(node.inputs, modules)) for node in spec.task_runs),
        outputs=_renamed(spec.outputs, modules),
    )


def _task_path(task: Task[Any, Any], home: ModuleType, modules: Mapping[str, str]) -> str:
    for module in (sys.modules.get(task.fn.__module__), home):
        name = attribute_of(module, task) if module is not None else None
        if module is not None and name is not None:
            return f"{modules.get(module.__name__, module.__name__)}:{name}"
    raise FlowDefinitionError(
        f"Task {task.name!r} can not be packed, because {_why_lost(task)}; define it at the top level of its file"
    )


def _renamed(encoded: Any, modules: Mapping[str, str]) -> Any:
    """The encoded value with the classes in it looked up in the modules' new names."""
    if isinstance(encoded, list):
        return [_renamed(item, modules) for item in encoded]
    if not isinstance(encoded, Mapping) or "$literal" in encoded:
        return encoded
    renamed = {key: _renamed(item, modules) for key, item in encoded.items()}
    for marker in ("$object", "$enum"):
        if isinstance(renamed.get(marker), str):
            module, colon, name = renamed[marker].partition(":")
            renamed[marker] = f"{modules.get(module, module)}{colon}{name}"
    return renamed


def _task_files(built: BuiltFlow, source: FlowSource) -> Iterator[Path]:
    """The files of the tasks' modules, which the flow may have found in a way that no import statement shows."""
    for task in built.tasks.values():
        file = getattr(sys.modules.get(task.fn.__module__), "__file__", None)
        if file and Path(file).resolve().is_relative_to(source.root):
            yield Path(file).resolve()


@dataclass(frozen=True, slots=True)
class _Packed:
    """The content of an artifact: its sources by path, and what describes them."""

    sources: Mapping[str, bytes]
    spec: bytes
    metadata: ArtifactMetadata
    epoch: int

    def entries(self) -> dict[str, bytes]:
        entries = {**self.sources, SPEC_NAME: self.spec, METADATA_NAME: self.metadata.to_json().encode()}
        listed = [
            {"path": name, "size_bytes": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in sorted(entries.items())
        ]
        manifest = json.dumps({"schema_version": 1, "files": listed}, indent=2) + "\n"
        return dict(sorted({**entries, MANIFEST_NAME: manifest.encode()}.items()))


def _pack(
    source: FlowSource, spec: FlowSpec, task_files: Iterable[Path], environ: Mapping[str, str], max_bytes: int
) -> _Packed:
    further = _further_folders(source)
    files = local_files((source.file, *task_files), root=source.root, folders=(*source.folders, *further))
    document = "".join(spec.to_json_lines()).encode()
    size_bytes = sum(file.stat().st_size for file in files) + len(document)
    if size_bytes > max_bytes:
        raise InvalidArtifact(
            f"The artifact of flow {spec.name!r} would hold {size_bytes / 2**20:,.0f} MB, and {max_bytes / 2**20:,.0f} "
            "MB is the limit; import less, or move large values out of the source"
        )
    sources = {file.relative_to(source.root).as_posix(): file.read_bytes() for file in files}
    pins = dependency_pins(source).pins
    epoch = _build_epoch(environ, source.root, files)
    used = [folder for folder in further if any(file.is_relative_to(folder) for file in files)]
    metadata = ArtifactMetadata(
        flow_name=spec.name,
        flow_version=spec.version,
        namespace=spec.namespace,
        entrypoint=spec.entrypoint,
        sys_path=tuple(folder.relative_to(source.root).as_posix() for folder in (*source.folders, *used)),
        built_at=datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        dependencies=pins,
        code_hash=_code_hash(sources, pins, document),
    )
    return _Packed(sources, document, metadata, epoch)


def _further_folders(source: FlowSource) -> list[Path]:
    """Folders below the root that this process searches for imports as well, such as `src` of an editable install."""
    entries = dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
    return [
        entry
        for entry in entries
        if entry.is_dir()
        and entry.is_relative_to(source.root)
        and entry not in source.folders
        and not is_installed(entry)
    ]


def _code_hash(sources: Mapping[str, bytes], pins: Sequence[str], spec: bytes) -> str:
    parts = [["source", path, sha256(content).hexdigest()] for path, content in sorted(sources.items())]
    parts += [["dependency", pin] for pin in pins]
    parts.append(["spec", sha256(spec).hexdigest()])
    return sha256(json.dumps(parts).encode()).hexdigest()


def _build_epoch(environ: Mapping[str, str], root: Path, files: Sequence[Path]) -> int:
    """Seconds since 1970: `SOURCE_DATE_EPOCH`, else the last commit of unchanged files, else the newest file's."""
    wish = environ.get("SOURCE_DATE_EPOCH", "").strip()
    if wish:
        if not (wish.isascii() and wish.isdigit()) or len(wish) > 11:
            raise ConfigError(f"SOURCE_DATE_EPOCH must be whole seconds since 1970, got {wish!r}")
        return int(wish)
    committed = _commit_epoch(root, files)
    return max(int(file.stat().st_mtime) for file in files) if committed is None else committed


def _commit_epoch(root: Path, files: Sequence[Path]) -> int | None:
    """When the last commit touched these files; None where git does not know, or one of them was changed since."""
    git = shutil.which("git")
    if git is None:
        return None
    names = [str(file.relative_to(root)) for file in files]
    base = [git, "-C", str(root), "--no-optional-locks", "--literal-pathspecs", "-c", "core.fsmonitor=false"]
    changed = _output([*base, "status", "--porcelain", "--ignored", "--untracked-files=all", "--", *names])
    if changed is None or changed.strip():
        return None
    committed = _output([*base, "-c", "log.showSignature=false", "log", "-1", "--format=%ct", "--", *names])
    return int(committed) if committed and committed.strip().isdigit() else None


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - git with options of ours; file names stand after `--`
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _write(packed: _Packed, path: Path) -> None:
    """Write the zip whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for name, content in packed.entries().items():
                    archive.writestr(_entry(name, packed.epoch), content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as exc:
        raise LocalStoreError(
            f"The artifact can not be written to {path} ({exc.strerror}); make the folder writable or name another one"
        ) from exc


def _entry(name: str, epoch: int) -> zipfile.ZipInfo:
    first, last = _ZIP_EPOCHS
    info = zipfile.ZipInfo(name, time.gmtime(min(max(epoch, first), last))[:6])
    info.create_system = 3  # Unix, whatever this machine is: otherwise the mode below means nothing
    info.external_attr = 0o100644 << 16
    return info
