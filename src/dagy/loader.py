"""From `<path>:<flow_fn>` to the flow: files are imported under their import path, never as `__main__`.

The module is registered in `sys.modules`, and the folders of its own imports are put on `sys.path`; `dagy.flow_source`
says how both follow from the place of the file.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagy.errors import FlowFileNotFound, FlowImportError, FlowNotFound, InvalidTarget
from dagy.flow_source import TAKEN, FlowSource, find_module, is_installed, locate
from dagy.flows import Flow
from dagy.tasks import Task
from dagy.tracebacks import user_traceback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, ModuleType

_PACKAGE_FILE = "__init__.py"


def parse_target(text: str) -> tuple[Path, str]:
    """Return the file and the name of the flow that `<path>:<flow_fn>` means.

    Raises:
        InvalidTarget: the text has another form.
    """
    path, _, name = text.rpartition(":")
    if not path or not name.isidentifier():
        raise InvalidTarget("Flow target must be in <path>:<flow_fn> format")
    return Path(path), name


def load_flow(target: str, *, cwd: Path | None = None) -> Flow[Any, Any]:
    """Return the flow of a target such as `pipelines/daily.py:daily`, importing its file.

    A file that was loaded before and has not changed since is not executed again.

    Args:
        target: `<path>:<flow_fn>`, the path relative to `cwd` or absolute.
        cwd: the working directory.

    Raises:
        InvalidTarget: the target has another form.
        FlowFileNotFound: there is no such file.
        FlowImportError: the file can not be imported; `user_traceback` says where.
        FlowNotFound: the file has no flow of that name.
    """
    path, name = parse_target(target)
    cwd = Path.cwd() if cwd is None else cwd
    file = Path(os.path.abspath(cwd / path))
    if not file.exists():
        raise FlowFileNotFound(f"Flow file not found: {file}")
    if file.is_dir():
        raise FlowImportError(f"Unable to load module from {file}: it is a folder, name a .py file in it")
    if file.suffix != ".py":
        raise FlowImportError(f"Unable to load module from {file}: it is not a .py file")
    return flow_of(import_source(locate(file, cwd=cwd)), name, file)


def load_task(path: str) -> Task[Any, Any]:
    """Return the task of an import path such as `pipelines.daily:extract`, importing its module.

    The module must be importable: `load_flow` or `load_artifact_flow` has put its folder on `sys.path`.

    Raises:
        FlowImportError: the module can not be imported, or has no task of that name.
    """
    problem = f"Could not resolve callable for task {path!r}"
    module, _, qualname = path.partition(":")
    if not module or not qualname:
        raise FlowImportError(f"{problem}: it is not of the form module:name")
    try:
        found: Any = import_module(module)
    except (Exception, SystemExit) as exc:
        raise FlowImportError(f"{problem}: {type(exc).__name__}: {exc}", user_traceback=user_traceback(exc)) from exc
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise FlowImportError(f"{problem}: module {module!r} has no {qualname!r}")
        found = getattr(found, part)
    if not isinstance(found, Task):
        raise FlowImportError(f"{problem}: it is a {type(found).__name__}, decorate it with @task")
    return found


def attribute_of(module: ModuleType, thing: Flow[Any, Any] | Task[Any, Any]) -> str | None:
    """Return the name under which a module holds a flow or task: its own name, else any; None if it does not."""
    own_name = str(getattr(thing.fn, "__qualname__", ""))
    found: Any = module
    for part in own_name.split("."):
        found = getattr(found, part, None)
    if found is thing:
        return own_name
    return next((name for name, value in vars(module).items() if value is thing), None)


def flow_of(module: ModuleType, name: str, file: Path) -> Flow[Any, Any]:
    """Return the flow that a module holds under `name`.

    Raises:
        FlowNotFound: the name means nothing there, or something else.
    """
    found = vars(module).get(name)
    if isinstance(found, Flow):
        return found
    if isinstance(found, Task):
        raise FlowNotFound(f"{name!r} in {file} is a task; name a function that is decorated with @flow")
    if callable(found) and not isinstance(found, type):
        raise FlowNotFound(f"{name!r} in {file} is a plain function; decorate it with @flow")
    if name in vars(module):
        raise FlowNotFound(f"{name!r} in {file} is a {type(found).__name__}; name a function decorated with @flow")
    flows = [known for known, value in vars(module).items() if isinstance(value, Flow)]
    raise FlowNotFound(f"Flow {name!r} not found in {file}{_suggestion(name, flows)}")


def import_source(source: FlowSource) -> ModuleType:
    """Return the module of a flow's file, executed under its import path and registered in `sys.modules`.

    Raises:
        FlowImportError: it raised, or its name belongs to another module.
    """
    name = source.module
    if "." in source.file.stem:
        raise FlowImportError(f"Unable to load module from {source.file}: its name has a dot in it, rename the file")
    if name in TAKEN:
        raise FlowImportError(
            f"Unable to load module from {source.file}: its name is the one of Python's or Dagy's module {name!r}, "
            "rename the file"
        )
    invalidate_caches()
    _forget_namesakes(source)
    _put_on_path(source.folders)
    state = _file_state(source.file)
    known = sys.modules.get(name)
    if known is not None:
        file = _file_of(known)
        if file is not None and file.resolve() == source.file:
            if _states.setdefault(name, state) == state:
                return known
        elif name not in _states:
            raise FlowImportError(
                f"Unable to load module from {source.file}: a module {name!r} is imported already, from {file}; "
                "rename the file"
            )
    try:
        module = _executed(name, source)
    except (Exception, SystemExit) as exc:
        if isinstance(exc, FlowImportError):
            raise
        raise FlowImportError(
            f"Unable to load module from {source.file}: {type(exc).__name__}: {exc}",
            user_traceback=user_traceback(exc),
        ) from exc
    _states[name] = state
    _sources.append(source)
    return module


def loaded_modules() -> Iterator[ModuleType]:
    """Yield the modules of the flow files that this process has loaded."""
    yield from (sys.modules[name] for name in _states if name in sys.modules)


#: Flow files that this process has loaded: their state on disk by import path, and where they came from.
_states: dict[str, tuple[Path, int, int]] = {}
_sources: list[FlowSource] = []


class _SourceLoader(SourceFileLoader):
    """Compiles the file each time, as Python does for a script: cached bytecode misses a change within a second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _executed(name: str, source: FlowSource) -> ModuleType:
    parent_name, _, tail = name.rpartition(".")
    parent = _package(parent_name, source.root, source) if parent_name else None
    module = _execute(name, source.file, _SourceLoader(name, str(source.file)))
    if parent is not None:
        setattr(parent, tail, module)
    return module


def _execute(name: str, file: Path, loader: SourceFileLoader | None = None) -> ModuleType:
    spec = spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise FlowImportError(f"Unable to load module from {file}")
    module = module_from_spec(spec)
    replaced = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if replaced is None:
            del sys.modules[name]
        else:
            sys.modules[name] = replaced
        raise
    return sys.modules[name]  # a module may replace itself


def _package(name: str, root: Path, source: FlowSource) -> ModuleType:
    """Return the package of a folder below the root, which is made from that folder and not looked up on `sys.path`.

    Looking up would find the wrong thing: for `etl/etl.py` the file itself is the first `etl` on the path.
    """
    parent_name, _, tail = name.rpartition(".")
    parent = _package(parent_name, root, source) if parent_name else None
    folder = root.joinpath(*name.split("."))
    known = sys.modules.get(name)
    if (folder / _PACKAGE_FILE).is_file():
        if known is not None and _file_of(known) != folder / _PACKAGE_FILE:
            raise FlowImportError(
                f"Unable to load module from {source.file}: a package {name!r} is imported already, from "
                f"{_file_of(known)}; rename the folder {folder}"
            )
        package = known or _execute(name, folder / _PACKAGE_FILE)
    else:
        elsewhere = sys.path if parent is None else list(parent.__path__)
        package = known or _folder_package(name, [each for each in elsewhere if Path(each) not in source.folders])
        inside = list(getattr(package, "__path__", ()))
        if str(folder) not in inside:
            package.__path__ = [*inside, str(folder)] if _file_of(package) else [str(folder), *inside]
    if parent is not None:
        setattr(parent, tail, package)
    return package


def _folder_package(name: str, elsewhere: Sequence[str]) -> ModuleType:
    """A namespace package, or the installed package of that name: Python prefers that one to a mere folder, too."""
    spec = PathFinder.find_spec(name, elsewhere)
    if spec is not None and spec.loader is not None and spec.origin is not None:
        return _execute(name, Path(spec.origin))
    fresh = ModuleSpec(name, None, is_package=True)
    fresh.submodule_search_locations = list((spec and spec.submodule_search_locations) or ())
    package = sys.modules[name] = module_from_spec(fresh)
    return package


def _put_on_path(folders: Sequence[Path]) -> None:
    """Search these folders first; a package's own folder last, where its `types.py` can not hide Python's."""
    first = [str(folder) for folder in folders if not (folder / _PACKAGE_FILE).is_file()]
    last = [str(folder) for folder in folders if str(folder) not in first]
    rest = [entry for entry in sys.path if entry not in first and entry not in last]
    sys.path[:] = [*first, *rest, *last]


def _forget_namesakes(source: FlowSource) -> None:
    """Drop modules of earlier flows that this one has its own of, such as a `helpers.py` next to each."""
    earlier = {folder for each in _sources for folder in each.folders} - set(source.folders)
    if not earlier:
        return
    for name in [name for name in sys.modules if "." not in name and name not in TAKEN]:
        file = _file_of(sys.modules[name])
        if file is None or is_installed(file):
            continue
        if any(file.is_relative_to(folder) for folder in earlier):
            own = find_module(name, source.folders)
            if own is not None and file not in (own.file, *own.folders):
                _forget(name)


def _forget(name: str) -> None:
    for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[each]
        _states.pop(each, None)


def _file_of(module: ModuleType) -> Path | None:
    """The file of a module, or the folder of a package without one."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return Path(file)
    try:
        folders = list(getattr(module, "__path__", ()))
    except KeyError:  # the path of a folder package whose parent is not imported any more
        return None
    return Path(folders[0]) if folders and isinstance(folders[0], str) else None


def _file_state(file: Path) -> tuple[Path, int, int]:
    status = file.stat()
    return file, status.st_mtime_ns, status.st_size


def _suggestion(name: str, flows: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

    near = get_close_matches(name, flows, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; its flows are: {', '.join(flows)}" if flows else ""
