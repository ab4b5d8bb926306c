"""`dagy init`: starts a project with a small flow, its test, and a page that says what to type next."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, suppress
from errno import EISDIR
from typing import TYPE_CHECKING

from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_FLOW = '''\
"""Greets somebody in several languages at once, then puts the greetings into one letter.

    dagy graph flows/hello.py:hello
    dagy run flows/hello.py:hello --param name=Ada --max-workers 3
"""

from dagy import flow, task

GREETINGS = {"English": "Hello", "French": "Bonjour", "Japanese": "こんにちは"}


# A task is a function. This one could ask a server, which may fail for a moment, so it gets three more attempts.
@task(retries=3, retry_delay_seconds=[0.5, 2, 10])
def look_up(language: str) -> str:
    return GREETINGS[language]


@task
def greet(greeting: str, name: str) -> str:
    return f"{greeting}, {name}!"


@task(timeout_seconds=30)
def write_letter(lines: list[str]) -> str:
    letter = "\\n".join(lines)
    print(letter)
    return letter


# The body of a flow makes the graph: calling a task adds it, and passing a result on makes one task wait for another.
# Here the languages do not wait for each other, and the letter waits for all of them.
@flow
def hello(name: str = "world") -> str:
    lines = [greet(look_up(language), name) for language in GREETINGS]
    return write_letter(lines)


if __name__ == "__main__":
    result = hello.run_local(max_workers=3)
    print(result.status, result.run_id)
'''

_TEST = """\
from dagy.testing import run_in_memory
from hello import greet, hello


def test_a_task_is_a_function():
    assert greet("Hello", "Ada") == "Hello, Ada!"


def test_the_letter_has_a_line_for_each_language():
    result = run_in_memory(hello, name="Ada")

    assert result.status == "SUCCEEDED"
    assert result.output.splitlines() == ["Hello, Ada!", "Bonjour, Ada!", "こんにちは, Ada!"]
"""

_README = """\
# {title}

A [Dagy](https://dagy.io) project: flows are plain Python files in `flows/`.

```sh
python -m pip install dagy pytest
```

| to | type |
|---|---|
| draw the flow | `dagy graph flows/hello.py:hello` |
| run it | `dagy run flows/hello.py:hello --param name=Ada` |
| list past runs | `dagy runs list` |
| look at one | `dagy runs show <run_id>` |
| read its log | `dagy logs <run_id>` |
| test it | `python -m pytest` |
| pack it | `dagy build flows/hello.py:hello` |
| check the installation | `dagy doctor` |

What the flow needs besides Dagy belongs under `dependencies` in `pyproject.toml`.
"""

_PYPROJECT = """\
[project]
name = "{package}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["dagy"]

[tool.pytest.ini_options]
pythonpath = ["flows"]
testpaths = ["tests"]
"""

_GITIGNORE = """\
.venv/
__pycache__/
.pytest_cache/
.env
"""

_FILES = {
    "flows/hello.py": _FLOW,
    "tests/test_hello.py": _TEST,
    "README.md": _README,
    "pyproject.toml": _PYPROJECT,
    ".gitignore": _GITIGNORE,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy init` takes."""
    parser.description = "Start a new project: a small flow, its test, and a README that says what to type next."
    parser.add_argument("directory", metavar="<directory>", nargs="?", default=".", help="where, made if missing (.)")
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def run(args: argparse.Namespace) -> int:
    """Write the files, print their paths, and return the exit code; all of them are written, or none."""
    from pathlib import Path  # noqa: PLC0415 - `dagy init --help` does without

    directory = Path(args.directory).expanduser()
    files = {directory / name: text for name, text in project_files(directory.absolute().resolve().name).items()}
    existing = [path for path in files if os.path.lexists(path)]
    if existing and not args.force:
        return _refuse("Nothing was written, because these files exist:", existing)
    try:
        write_together(files)
    except OSError as exc:
        print(f"Nothing was written: {exc.filename or directory} ({exc.strerror})", file=sys.stderr)
        return ExitCode.FAILURE
    for path in files:
        print(path)
    sys.stdout.flush()
    if not args.quiet:
        print(_next_steps(args.directory), file=sys.stderr)
    return ExitCode.SUCCESS


def project_files(title: str) -> dict[str, str]:
    """Return the text of each file of a new project by its path.

    Args:
        title: the name of the project's folder.
    """
    package = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "flows"
    return {
        name: text.replace("{title}", title or "Flows").replace("{package}", package) for name, text in _FILES.items()
    }


def write_together(files: Mapping[Path, str]) -> None:
    """Write all files, making their folders; when one can not be written, the others are as they were before.

    Raises:
        OSError: a folder or file can not be written.
    """
    with ExitStack() as undo:
        drafts = {}
        for path, text in files.items():
            for folder in reversed([path.parent, *path.parent.parents]):
                if not folder.is_dir():
                    folder.mkdir()
                    undo.callback(_try, folder.rmdir)
            if path.is_dir():
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
            drafts[path] = draft = path.with_name(f".{path.name}.dagy-init")
            undo.callback(_try, draft.unlink)
            draft.write_text(text, encoding="utf-8", newline="\n")
        # From here on only renames within a folder are left.
        undo.pop_all()
        for path, draft in drafts.items():
            draft.replace(path)


def _try(undo_step: Callable[[], object]) -> None:
    with suppress(OSError):
        undo_step()


def _refuse(why: str, paths: Sequence[Path]) -> ExitCode:
    print("\n".join([why, *(f"  {path}" for path in paths)]), file=sys.stderr)
    print("Name another directory, or overwrite them with --force.", file=sys.stderr)
    return ExitCode.FAILURE


def _next_steps(directory: str) -> str:
    from shlex import quote  # noqa: PLC0415 - only needed here

    change = "" if directory in (".", "") else f"  cd {quote(directory)}\n"
    return f"\nNext:\n{change}  dagy run flows/hello.py:hello"
