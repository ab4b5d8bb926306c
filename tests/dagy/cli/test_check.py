"""`dagy check`, and what `dagy build` and `Flow.deploy` make of its findings, as it is typed."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dagy.cli.main import main
from dagy.errors import ExitCode, FlowDefinitionError
from dagy.loader import load_flow

SOURCE = """
from dagy import flow, task

@task
def text() -> str:
    raise AssertionError("checking executes no task")

@task
def double(x: int) -> int:
    raise AssertionError("checking executes no task")

@flow
def wrong():
    double(text())

@flow
def unused():
    double(1)

@flow(example={"x": 1})
def clean(x: int) -> int:
    return double(x) if x else double(text())
"""

TYPE_LINE = (
    "to_check.py:8: DAGY101 error Task 'double' gets str from task 'text' for 'x', which takes int "
    "(change one of the two, or convert in a task between them)"
)
UNUSED_LINE = (
    "to_check.py:8: DAGY106 warning Task 'double' returns int, which nothing uses "
    "(use it, return it from the flow, or declare -> None)"
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory with the flows, whose module is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGY_LOCAL_DIR", str(tmp_path / "home"))
    (tmp_path / "to_check.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("to_check", None)


def dagy(*words: str) -> int:
    return main(words, {"DAGY_LOCAL_DIR": str(Path.cwd() / "home")})


def test_a_line_for_each_finding_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("check", "to_check.py:wrong") == ExitCode.FAILURE
    assert capsys.readouterr() == (f"{TYPE_LINE}\n{UNUSED_LINE}\n", "")


def test_warnings_alone_are_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("check", "to_check.py:unused") == ExitCode.SUCCESS
    assert capsys.readouterr() == (f"{UNUSED_LINE}\n", "")


def test_a_clean_flow_prints_nothing_but_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("check", "to_check.py:clean") == ExitCode.SUCCESS
    assert capsys.readouterr() == ("", "No findings\n")
    assert dagy("check", "to_check.py:clean", "--quiet") == ExitCode.SUCCESS
    assert capsys.readouterr() == ("", "")


def test_parameters_choose_the_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("check", "to_check.py:clean", "--param", "x=0") == ExitCode.FAILURE
    assert capsys.readouterr().out == f"{TYPE_LINE}\n"


def test_formats_hold_everything(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "code": "DAGY106",
        "severity": "warning",
        "message": "Task 'double' returns int, which nothing uses",
        "fix": "use it, return it from the flow, or declare -> None",
        "task_run_id": "double-1",
        "file": "to_check.py",
        "line": 8,
    }
    printed = {}
    for each in ("json", "yaml", "csv", "table"):
        assert dagy("check", "to_check.py:unused", "--format", each) == ExitCode.SUCCESS
        printed[each] = capsys.readouterr().out
    assert json.loads(printed["json"]) == [expected]
    assert yaml.safe_load(printed["yaml"]) == [expected]
    assert list(csv.DictReader(io.StringIO(printed["csv"]))) == [{key: str(value) for key, value in expected.items()}]
    assert "DAGY106" in printed["table"]


def test_a_flow_that_is_not_there_is_told_as_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("check", "none.py:etl") == ExitCode.NOT_FOUND
    assert capsys.readouterr().err.startswith("FileNotFoundError: Flow file not found: ")


def test_errors_refuse_the_build(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("build", "to_check.py:wrong", "--output-dir", "dist") == ExitCode.FAILURE
    told = f"FlowDefinitionError: Flow 'wrong' has an error that would stop its runs:\n  {TYPE_LINE}\n"
    assert capsys.readouterr() == ("", told)
    assert not (project / "dist").exists()


def test_warnings_of_a_build_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert dagy("build", "to_check.py:unused", "--output-dir", "dist") == ExitCode.SUCCESS
    assert capsys.readouterr() == ("Artifact: dist/artifact.zip\n", f"{UNUSED_LINE}\n")
    assert dagy("build", "to_check.py:unused", "--output-dir", "dist", "-q") == ExitCode.SUCCESS
    assert capsys.readouterr().err == ""


def test_errors_refuse_a_deployment() -> None:
    with pytest.raises(FlowDefinitionError, match="DAGY101"):
        load_flow("to_check.py:wrong").deploy(bucket="none")
