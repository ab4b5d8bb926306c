"""`dagy build`, as it is typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagy.cli.main import main
from dagy.errors import ExitCode
from dagy.flow_artifact import open_artifact

FLOW = """
from dagy import flow, task
@task
def load(n): ...
@flow
def built_here(n: int = 1):
    return load(n)
def plain(): ...
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a flow in `built_here.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "built_here.py").write_text(FLOW)
    return tmp_path


def dagy(*arguments: str) -> int:
    return main(arguments, {"DAGY_LOCAL_DIR": str(Path.cwd() / "home")})


def test_prints_where_the_artifact_is(project, capsys):
    assert dagy("build", "built_here.py:built_here") == ExitCode.SUCCESS
    printed = capsys.readouterr()
    folder = re.escape(str(project / "home/builds/built_here"))
    match = re.fullmatch(rf"Artifact: ({folder}/built_here-\d{{8}}T\d{{6}}-[0-9a-f]{{6}}/artifact\.zip)\n", printed.out)
    assert match
    assert open_artifact(Path(match[1])).spec.task_runs[0].inputs == {"n": 1}
    assert printed.err == ""


def test_takes_a_folder_and_parameters(capsys):
    assert dagy("build", "built_here.py:built_here", "--output-dir", "dist", "--param", "n=5") == ExitCode.SUCCESS
    assert capsys.readouterr().out == "Artifact: dist/artifact.zip\n"
    assert open_artifact(Path("dist/artifact.zip")).spec.task_runs[0].inputs == {"n": 5}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["built_here.py"], ExitCode.USAGE, "ValueError: Flow target must be in <path>:<flow_fn> format"),
        (["none.py:etl"], ExitCode.NOT_FOUND, "FileNotFoundError: Flow file not found: {cwd}/none.py"),
        (
            ["built_here.py:x"],
            ExitCode.NOT_FOUND,
            "AttributeError: Flow 'x' not found in {cwd}/built_here.py; its flows",
        ),
        (
            ["built_here.py:plain"],
            ExitCode.NOT_FOUND,
            "AttributeError: 'plain' in {cwd}/built_here.py is a plain function",
        ),
        ([".:etl"], ExitCode.FAILURE, "ImportError: Unable to load module from {cwd}"),
        (["built_here.py:built_here", "--param", "bad"], ExitCode.USAGE, "ValueError: Invalid param 'bad', expected"),
        (["built_here.py:built_here", "--param", "m=1"], ExitCode.USAGE, "ValueError: "),
        (["built_here.py:built_here", "--param", "n=x"], ExitCode.USAGE, "ParameterTypeError: "),
    ],
)
def test_says_what_is_wrong_in_one_line(project, capsys, arguments, code, message):
    assert dagy("build", *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message.format(cwd=project))
    assert len(printed.err.splitlines()) == 1


def test_shows_where_a_file_fails(project, capsys):
    (project / "broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    assert dagy("build", "broken.py:etl") == ExitCode.FAILURE
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[-1] == f"ImportError: Unable to load module from {project}/broken.py: ZeroDivisionError: division by zero"
    )
    assert [line for line in lines if line.startswith("  File ")] == [
        f'  File "{project}/broken.py", line 3, in <module>',
        f'  File "{project}/broken.py", line 2, in f',
    ]
