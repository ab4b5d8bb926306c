"""Where a flow's file lies, and what follows from it: its root, import path, namespace, and where its imports are.

A flow file lies below a *root*: the working directory, else the git repository, else its own folder. Its import path is
its path below the root (`pipelines/daily.py` is `pipelines.daily`), so that another process with the same tree finds
every task by name. Both its own folder and the root are searched for imports, the own folder first, as
`python pipelines/daily.py` would do.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Import paths that begin with one of these would reach Python or Dagy instead of the user's file.
TAKEN = sys.stdlib_module_names | {"dagy", "__main__"}

_STANDARD_LIBRARY = Path(os.__file__).resolve().parent


class FlowSource(NamedTuple):
    """Where a flow's file lies and how it is imported.

    Attributes:
        file: the file, absolute and without links.
        root: the folder below which local modules lie.
        namespace: the file's folder relative to the working directory, else to the repository, else `""`.
        folders: where imports are looked up first, in this order.
    """

    file: Path
    root: Path
    namespace: str
    folders: tuple[Path, ...]

    @property
    def path(self) -> str:
        """The file relative to the root, with `/`."""
        return self.file.relative_to(self.root).as_posix()

    @property
    def module(self) -> str:
        """The import path; only the last part where a folder's name can not be imported or belongs to Python."""
        parts = self.file.relative_to(self.root).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        if any("." in part for part in parts) or parts[0] in TAKEN:
            parts = parts[-1:]
        return ".".join(parts)


class FoundModule(NamedTuple):
    """A module on disk.

    Attributes:
        file: None for a folder without `__init__.py`.
        folders: where its submodules are, none for what is not a package.
    """

    file: Path | None
    folders: tuple[Path, ...]


def locate(file: Path, *, cwd: Path) -> FlowSource:
    """Return how a flow's file is imported when the working directory is `cwd`."""
    file, cwd = file.resolve(), cwd.resolve()
    folder = file.parent
    for base in (cwd, repository_of(file)):
        if base is not None and file.is_relative_to(base):
            namespace = folder.relative_to(base).as_posix()
            return FlowSource(file, base, "" if namespace == "." else namespace, _distinct(folder, base))
    return FlowSource(file, folder, "", (folder,))


def repository_of(file: Path) -> Path | None:
    """Return the root of the git repository around a file, None without one."""
    return next((folder for folder in file.parents if (folder / ".git").exists()), None)


def is_installed(path: Path) -> bool:
    """Tell whether a file belongs to Python or to an installed distribution, not to a user's project."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or path.is_relative_to(_STANDARD_LIBRARY)


def find_module(name: str, folders: Iterable[Path]) -> FoundModule | None:
    """Return the module that `import <name>` would find in these folders; the name has no dots. Nothing is executed."""
    portions: list[Path] = []
    for folder in folders:
        spec = FileFinder(
            str(folder), (ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES)
        ).find_spec(name)
        if spec is None:
            continue
        inside = tuple(map(Path, spec.submodule_search_locations or ()))
        if spec.origin is not None and spec.loader is not None:
            return FoundModule(Path(spec.origin), inside)
        portions.extend(inside)
    return FoundModule(None, tuple(portions)) if portions else None


def _distinct(*folders: Path) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(folders))
