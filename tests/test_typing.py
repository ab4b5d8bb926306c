"""Types survive decoration: mypy finds the wrong lines of `typing/check_types.py` and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKED = ROOT / "tests" / "typing" / "check_types.py"
IGNORE = re.compile(r"  # type: ignore\[(?P<code>[a-z-]+)\].*")
ERROR = re.compile(r"^(?P<file>.+):(?P<line>\d+): error: .*  \[(?P<code>[a-z-]+)\]$", re.MULTILINE)

pytestmark = pytest.mark.slow


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def copy_without_ignores(folder: Path, *, lines: set[int]) -> Path:
    """A copy of the checked file that ignores nothing on these lines, counted from 1."""
    copy = folder / CHECKED.name
    kept = [
        IGNORE.sub("", line) if number in lines else line
        for number, line in enumerate(CHECKED.read_text(encoding="utf-8").splitlines(), start=1)
    ]
    copy.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return copy


def ignores() -> dict[int, str]:
    """The code that each line ignores, by line number."""
    lines = CHECKED.read_text(encoding="utf-8").splitlines()
    return {number: found["code"] for number, line in enumerate(lines, start=1) if (found := IGNORE.search(line))}


def errors(output: str) -> dict[int, str]:
    return {int(found["line"]): found["code"] for found in ERROR.finditer(output) if CHECKED.name in found["file"]}


def test_decorated_functions_keep_their_types() -> None:
    done = mypy(CHECKED)

    assert done.returncode == 0, done.stdout + done.stderr


def test_removing_one_ignore_makes_the_check_fail(tmp_path: Path) -> None:
    line, code = next(iter(ignores().items()))

    done = mypy(copy_without_ignores(tmp_path, lines={line}))

    assert done.returncode == 1
    assert errors(done.stdout) == {line: code}


def test_every_ignore_hides_an_error_of_its_own(tmp_path: Path) -> None:
    done = mypy(copy_without_ignores(tmp_path, lines=set(ignores())))

    assert errors(done.stdout) == ignores()
