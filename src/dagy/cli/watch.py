"""`dagy run --watch`: runs a flow again whenever one of its files is saved, using again what did not change."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dagy.errors import ExitCode, FlowImportError
from dagy.loader import load_flow, loaded_modules, parse_target
from dagy.local.home import Home
from dagy.local.store import LocalStore

#: How often the files are looked at. A few `stat` calls cost nothing, and no library has to be loaded or installed.
LOOK_SECONDS = 0.2


def watch(target: str, arguments: Sequence[str], home: Home, *, say: Callable[[str], None]) -> int:
    """Run a flow, and again after each change of its files, until Ctrl+C.

    Every run is a process of its own, because code that was imported once stays as it was.

    Args:
        target: `<path>:<flow_fn>`.
        arguments: what else `dagy run` was given, without `--watch` and `--resume`.
        home: where the runs are recorded.
        say: is told what is going on.
    """
    files = _files(target)
    say(f"Watching {', '.join(each.name for each in files)}; Ctrl+C ends it")
    resume = None
    while True:
        seen = _states(files)
        resume = _run(target, arguments, home, resume)
        try:
            while _states(files) == seen:
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            return ExitCode.SUCCESS
        files = _files(target)


def _run(target: str, arguments: Sequence[str], home: Home, resume: str | None) -> str | None:
    """Run the flow once and return the id of the run, to be resumed by the next."""
    more = [] if resume is None else ["--resume", resume]
    command = [sys.executable, "-m", "dagy", "run", target, *arguments, *more]
    subprocess.run(command, check=False)  # noqa: S603 - what the user typed
    path, name = parse_target(target)
    runs = LocalStore(home, warn=lambda _: None).runs()
    return next((each.run_id for each in runs if each.target == f"{path.resolve()}:{name}"), resume)


def _files(target: str) -> list[Path]:
    """Return the flow's file and the modules of its own folders that it imports."""
    path = parse_target(target)[0].resolve()
    try:
        load_flow(target)
    except FlowImportError:
        return [path]  # the next save may mend it
    folder = path.parent
    found = {path}
    for module in loaded_modules():
        found |= {Path(module.__file__)} if module.__file__ else set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder) and "site-packages" not in file:
            found.add(Path(file))
    return sorted(found)


def _states(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Return what a save changes; None for a file that an editor is just replacing."""
    states: list[tuple[int, int] | None] = []
    for each in files:
        try:
            status = each.stat()
            states.append((status.st_mtime_ns, status.st_size))
        except FileNotFoundError:
            states.append(None)
    return states
