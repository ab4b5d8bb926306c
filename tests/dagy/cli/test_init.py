from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.cli.init import project_files, write_together
from dagy.cli.main import main
from dagy.errors import ExitCode

FILES = ("flows/hello.py", "tests/test_hello.py", "README.md", "pyproject.toml", ".gitignore")


def init(*words: str) -> int:
    return main(["init", *words], {})


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def python(folder: Path, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"DAGY_LOCAL_DIR": str(home), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_init_prints_what_it_made_and_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "my flows"

    assert init(str(project)) == ExitCode.SUCCESS

    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(project / name) for name in FILES]
    assert printed.err == f"\nNext:\n  cd '{project}'\n  dagy run flows/hello.py:hello\n"
    assert files_below(project) == sorted(FILES)


def test_quiet_says_nothing_about_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init(str(tmp_path / "new"), "--quiet")

    assert capsys.readouterr().err == ""


def test_the_new_flow_runs_and_its_test_passes(tmp_path: Path) -> None:
    init(str(tmp_path / "new"), "--quiet")

    ran = python(tmp_path / "new", "-m", "dagy", "run", "flows/hello.py:hello", home=tmp_path / "home")
    assert ran.returncode == ExitCode.SUCCESS, ran.stderr
    assert ran.stdout.endswith("status=SUCCEEDED\n")

    tested = python(tmp_path / "new", "-m", "pytest", "-q", "-p", "no:cacheprovider", home=tmp_path / "home")
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout

    script = python(tmp_path / "new", "flows/hello.py", home=tmp_path / "home")
    assert script.returncode == 0, script.stderr
    assert "SUCCEEDED" in script.stdout


def test_existing_files_are_named_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "hello.py").symlink_to("nowhere.py")

    assert init(str(tmp_path)) == ExitCode.FAILURE

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "Nothing was written, because these files exist:\n"
        f"  {tmp_path / 'flows/hello.py'}\n"
        f"  {tmp_path / 'README.md'}\n"
        "Name another directory, or overwrite them with --force.\n"
    )
    assert files_below(tmp_path) == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_force_overwrites(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")

    assert init(str(tmp_path), "--force") == ExitCode.SUCCESS
    assert (tmp_path / "README.md").read_text().startswith(f"# {tmp_path.name}\n")


def test_a_file_in_the_place_of_a_folder_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "tests").write_text("a file")

    assert init(str(tmp_path / "new")) == ExitCode.FAILURE

    assert "Nothing was written: " in capsys.readouterr().err
    assert files_below(tmp_path / "new") == ["tests"]
    assert not (tmp_path / "new" / "flows").exists()


def test_a_folder_in_the_place_of_a_file_leaves_the_other_files_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "pyproject.toml").mkdir()

    with pytest.raises(IsADirectoryError):
        write_together({tmp_path / "README.md": "new", tmp_path / "pyproject.toml": "new"})

    assert (tmp_path / "README.md").read_text() == "mine"
    assert files_below(tmp_path) == ["README.md"]


@given(st.text(max_size=20))
def test_every_folder_name_gives_a_legal_package_name(title: str) -> None:
    name = project_files(title)["pyproject.toml"].splitlines()[1]

    assert re.fullmatch(r'name = "[a-z0-9]+(-[a-z0-9]+)*"', name)
