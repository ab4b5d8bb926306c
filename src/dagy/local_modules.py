"""Which files of a project a flow needs: its own, and every local module that is imported from there on.

Imports are read from the source and nothing is executed, so that a module which only one branch or function imports is
found as well. Whatever a name could mean below the root counts, even where an installed package may win at run time: a
file too many does no harm, a missing one does.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dagy.errors import FlowDefinitionError
from dagy.flow_source import FoundModule, find_module, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: The worker has its own.
_NEVER_PACKED = "dagy"

_PACKAGE_FILE = "__init__.py"


class _Import(NamedTuple):
    """`from <level dots><module> import <names>`; for `import a.b` there are no names."""

    level: int
    module: str
    names: tuple[str, ...] = ()


def local_files(entries: Iterable[Path], *, root: Path, folders: Sequence[Path]) -> list[Path]:
    """Return the files that these files need, themselves included, sorted.

    Args:
        entries: files below the root.
        root: nothing outside is returned.
        folders: where absolute imports are looked up, in this order; folders outside the root are ignored.

    Raises:
        FlowDefinitionError: a needed file is a link that leads out of the root.
    """
    return _Search(root, [folder for folder in folders if folder.is_relative_to(root)]).files(entries)


class _Search:
    def __init__(self, root: Path, folders: Sequence[Path]) -> None:
        self._root = root
        self._folders = tuple(folders)
        self._files: dict[Path, None] = {}
        self._known: dict[tuple[str, tuple[Path, ...]], FoundModule | None] = {}

    def files(self, entries: Iterable[Path]) -> list[Path]:
        for entry in entries:
            self._add(entry)
        pending = list(self._files)
        while pending:
            file = pending.pop()
            before = len(self._files)
            for wanted in _imports(file):
                self._follow(file, wanted)
            pending.extend(list(self._files)[before:])
        return sorted(self._files)

    def _follow(self, file: Path, wanted: _Import) -> None:
        """Add the module that an import statement of `file` names, its packages, and its submodules among the names."""
        if wanted.level > len(file.parents) or (not wanted.level and wanted.module.split(".")[0] == _NEVER_PACKED):
            return
        start = (file.parents[wanted.level - 1],) if wanted.level else self._folders
        found: FoundModule | None = FoundModule(None, start)
        for part in wanted.module.split(".") if wanted.module else ():
            found = self._find(part, found.folders) if found is not None else None
        if found is not None:
            for name in self._spelled_out(found, wanted.names):
                self._find(name, found.folders)

    def _find(self, name: str, folders: tuple[Path, ...]) -> FoundModule | None:
        key = (name, folders)
        if key not in self._known:
            found = self._known[key] = find_module(name, folders)
            if found is not None and found.file is not None:
                self._add(found.file)
        return self._known[key]

    def _spelled_out(self, package: FoundModule, names: tuple[str, ...]) -> tuple[str, ...]:
        """`import *` of a package imports the submodules that its `__all__` lists."""
        if names != ("*",):
            return names
        return _exported(package.file) if package.file is not None and package.folders else ()

    def _add(self, file: Path) -> None:
        """Add a file, and the `__init__.py` of every package that it lies in."""
        if file in self._files or not file.is_relative_to(self._root) or is_installed(file.relative_to(self._root)):
            return
        if not file.resolve().is_relative_to(self._root.resolve()):
            raise FlowDefinitionError(
                f"{file} is a link that leads out of {self._root}, so it can not be packaged; put a copy there instead"
            )
        self._files[file] = None
        for folder in file.relative_to(self._root).parents:
            package_file = self._root / folder / _PACKAGE_FILE
            if folder.parts and package_file.is_file():
                self._add(package_file)


def _imports(file: Path) -> Iterator[_Import]:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (_Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield _Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                name = first.value.lstrip(".")
                yield _Import(len(first.value) - len(name), name)


def _tree(file: Path) -> ast.Module:
    """The syntax tree; an empty one for a compiled module, or a file of another Python that nobody imports here."""
    if file.suffix not in (".py", ".pyw"):
        return ast.Module([], [])
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _called_name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _exported(file: Path) -> tuple[str, ...]:
    for node in _tree(file).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = getattr(node, "value", None)
            if isinstance(value, (ast.List, ast.Tuple)):
                constants = [each.value for each in value.elts if isinstance(each, ast.Constant)]
                return tuple(each for each in constants if isinstance(each, str))
    return ()
