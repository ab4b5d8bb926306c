"""Which distributions a flow needs, read from what its project says and never from what happens to be installed.

The first of these that exists decides: the PEP 723 block of the flow's file, a lock file (`pylock.toml`, `uv.lock`,
`poetry.lock`), `requirements.txt`, `[project.dependencies]` of `pyproject.toml`. Files are looked for in the flow's
folder and upwards to the root, or to the root of the repository if that lies higher; the nearest of a kind counts.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dagy.errors import ConfigError
from dagy.flow_source import FlowSource, repository_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Toml = dict[str, Any]

#: https://packaging.python.org/en/latest/specifications/inline-script-metadata/#reference-implementation
_SCRIPT_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDE = re.compile(r"(?:-r\s*|--requirement(?:\s+|=))(?P<file>\S.*)")
_LOCAL_REQUIREMENT = re.compile(r"[./\\]|file:|[A-Za-z]:[\\/]")

#: With more ways than this to reach a distribution, it is simply always needed.
_MOST_CONDITIONS = 8


class DependencyPins(NamedTuple):
    """Requirements as `pip` reads them, sorted.

    Attributes:
        pins: such as `duckdb==1.4.1` or `tomli==2.2.1 ; python_version < '3.11'`.
        source: the name of the file that they come from, `""` if there is none.
    """

    pins: tuple[str, ...]
    source: str


def dependency_pins(source: FlowSource) -> DependencyPins:
    """Return what a flow's project says that it needs.

    Raises:
        ConfigError: the file that decides can not be read or parsed; the message names it.
    """
    inline = _inline_dependencies(source.file)
    if inline is not None:
        return _pins(inline, source.file)
    folders = list(_folders(source))
    for names, read in _KINDS:
        for folder in folders:
            for name in names:
                found = _read(folder / name, source.file, read) if (folder / name).is_file() else None
                if found is not None:
                    return _pins(found, folder / name)
    return DependencyPins((), "")


def _read(path: Path, file: Path, read: Callable[[Path, Path], list[str] | None]) -> list[str] | None:
    try:
        return read(path, file)
    except (AttributeError, TypeError, KeyError, ValueError) as exc:
        raise ConfigError(f"The dependencies in {path} can not be read, it has another form: {exc}") from exc


def _pins(requirements: list[str], file: Path) -> DependencyPins:
    return DependencyPins(tuple(sorted({_without_login(" ".join(each.split())) for each in requirements})), file.name)


def _without_login(requirement: str) -> str:
    """Return the requirement without the name and token that may stand in its address: artifacts travel."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1", requirement)


def _folders(source: FlowSource) -> Iterator[Path]:
    repository = repository_of(source.file)
    top = repository if repository is not None and source.root.is_relative_to(repository) else source.root
    for folder in source.file.parents:
        yield folder
        if folder == top:
            return


def _inline_dependencies(file: Path) -> list[str] | None:
    text = "\n".join(file.read_bytes().decode(errors="replace").splitlines()) + "\n"
    blocks = [match for match in _SCRIPT_BLOCK.finditer(text) if match["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise ConfigError(f"{file} has {len(blocks)} '# /// script' blocks; keep one")
    lines = blocks[0]["content"].splitlines()
    return _strings(_parsed("\n".join(line[2:] for line in lines), file).get("dependencies"), file)


def _read_pylock(path: Path, _: Path) -> list[str]:
    """PEP 751: every package, except those that only an extra or a dependency group wants."""
    requirements = []
    for package in _tables(_toml(path), "packages", path):
        marker = package.get("marker") or ""
        if not re.search(r"\b(extras|dependency_groups)\b", marker):
            requirements.append(_requirement(package, marker))
    return [each for each in requirements if each]


def _read_poetry(path: Path, _: Path) -> list[str]:
    requirements = []
    for package in _tables(_toml(path), "package", path):
        if "main" in package.get("groups", ["main"]) and not package.get("optional"):
            markers = package.get("markers") or ""
            marker = markers.get("main", "") if isinstance(markers, dict) else markers
            source = package.get("source") or {}
            git = source.get("url") if source.get("type") == "git" else None
            located = {"vcs": {"url": git, "commit-id": source.get("resolved_reference")}} if git else {}
            requirements.append(_requirement({**package, **located}, marker))
    return [each for each in requirements if each]


def _read_uv(path: Path, file: Path) -> list[str]:
    """What the project of the flow needs, without its development groups and without unused extras."""
    packages = _tables(_toml(path), "package", path)
    conditions = _UvGraph(packages).conditions(_uv_projects(packages, path.parent, file))
    requirements = []
    for index, alternatives in conditions.items():
        requirements.append(_requirement(_uv_located(packages[index]), _either(alternatives)))
    return [each for each in requirements if each]


def _read_requirements(path: Path, _: Path) -> list[str]:
    return list(_requirement_lines(path, seen=set()))


def _read_project(path: Path, _: Path) -> list[str] | None:
    project = _toml(path).get("project")
    declared = project.get("dependencies") if isinstance(project, dict) else None
    return None if declared is None else _strings(declared, path)


_KINDS: tuple[tuple[tuple[str, ...], Callable[[Path, Path], list[str] | None]], ...] = (
    (("pylock.toml",), _read_pylock),
    (("uv.lock",), _read_uv),
    (("poetry.lock",), _read_poetry),
    (("requirements.txt",), _read_requirements),
    (("pyproject.toml",), _read_project),
)


def _requirement(package: Toml, marker: str) -> str:
    """The requirement of a locked package in the terms of PEP 751; "" for a local folder, which is no distribution."""
    name, version = package.get("name"), package.get("version")
    vcs, archive = package.get("vcs") or {}, package.get("archive") or {}
    if vcs.get("url"):
        text = f"{name} @ git+{vcs['url']}@{vcs.get('commit-id')}"
    elif archive.get("url"):
        text = f"{name} @ {archive['url']}"
    elif package.get("directory") or archive or not version:
        return ""
    else:
        text = f"{name}=={version}"
    return f"{text} ; {marker}" if marker else text


def _requirement_lines(path: Path, *, seen: set[Path]) -> Iterator[str]:
    if path in seen:
        return
    seen.add(path)
    for line in _text(path).replace("\\\n", " ").splitlines():
        text = _COMMENT.sub("", line).strip()
        include = _INCLUDE.fullmatch(text)
        if include and "://" not in include["file"]:
            yield from _requirement_lines(path.parent / include["file"].strip(), seen=seen)
        elif text and not text.startswith("-") and not _LOCAL_REQUIREMENT.match(text):
            yield re.split(r"\s--", text)[0]  # `--hash` and the like belong to this machine's installer


Condition = frozenset[str]


class _UvGraph:
    """The packages of a `uv.lock` and under which markers each is needed."""

    def __init__(self, packages: list[Toml]) -> None:
        self._packages = packages
        self._by_name: dict[str, list[int]] = {}
        for index, package in enumerate(packages):
            self._by_name.setdefault(str(package.get("name")), []).append(index)

    def conditions(self, projects: list[int]) -> dict[int, set[Condition]]:
        """Return, for each package that the projects need, alternative sets of markers; the empty one holds always."""
        found: dict[tuple[int, str], set[Condition]] = {}
        pending: list[tuple[int, str, Condition]] = [(index, "", frozenset()) for index in projects]
        while pending:
            index, extra, condition = pending.pop()
            added = _add(found.setdefault((index, extra), set()), condition)
            if added is not None:
                pending.extend(self._needed(index, extra, added))
        merged: dict[int, set[Condition]] = {}
        for (index, _), alternatives in found.items():
            for condition in alternatives:
                _add(merged.setdefault(index, set()), condition)
        return merged

    def _needed(self, index: int, extra: str, condition: Condition) -> Iterator[tuple[int, str, Condition]]:
        package = self._packages[index]
        edges = package.get("optional-dependencies", {}).get(extra, ()) if extra else package.get("dependencies", ())
        for edge in edges:
            marker = edge.get("marker")
            combined = condition | {marker} if marker else condition
            for target in self._by_name.get(edge.get("name"), ()):
                if edge.get("version") in (None, self._packages[target].get("version")):
                    yield from ((target, each, combined) for each in ("", *edge.get("extra", ())))


def _add(alternatives: set[Condition], condition: Condition) -> Condition | None:
    """Add a condition, drop those that it makes needless, and return it; None if a weaker one is there already."""
    if any(known <= condition for known in alternatives):
        return None
    if len(alternatives) == _MOST_CONDITIONS:
        condition = frozenset()
    alternatives.difference_update([known for known in alternatives if condition <= known])
    alternatives.add(condition)
    return condition


def _either(alternatives: set[Condition]) -> str:
    if frozenset() in alternatives:
        return ""
    if len(alternatives) == 1 and len(only := next(iter(alternatives))) == 1:
        return next(iter(only))
    return " or ".join(sorted(" and ".join(f"({marker})" for marker in sorted(each)) for each in alternatives))


def _uv_projects(packages: list[Toml], folder: Path, file: Path) -> list[int]:
    """The package of the lock file whose folder is nearest around the flow; all local ones if none is around it."""
    depths: dict[int, int] = {}
    local = []
    for index, package in enumerate(packages):
        source = package.get("source") or {}
        place = source.get("editable") or source.get("virtual")
        if place is not None:
            local.append(index)
            around = (folder / place).resolve()
            if file.is_relative_to(around):
                depths[index] = len(around.parts)
    return [max(depths, key=lambda index: depths[index])] if depths else local


def _uv_located(package: Toml) -> Toml:
    """A package of uv.lock in the terms of PEP 751."""
    source = package.get("source") or {}
    if "git" in source:
        url = urlsplit(source["git"])
        return {**package, "vcs": {"url": url._replace(query="", fragment="").geturl(), "commit-id": url.fragment}}
    if "url" in source:
        return {**package, "archive": {"url": source["url"]}}
    return package if "registry" in source else {**package, "directory": source}


def _toml(path: Path) -> Toml:
    return _parsed(_text(path), path)


def _parsed(text: str, path: Path) -> Toml:
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        parsed: Toml = toml.loads(text)
    except toml.TOMLDecodeError as exc:
        raise ConfigError(f"The dependencies in {path} can not be read, it is not TOML: {exc}") from exc
    return parsed


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"The dependencies in {path} can not be read: {exc}") from exc


def _tables(document: Toml, key: str, path: Path) -> list[Toml]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f"The dependencies in {path} can not be read: [[{key}]] is not a list of tables")
    return tables


def _strings(value: object, path: Path) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"The dependencies in {path} can not be read: dependencies is not a list of texts")
    return value
