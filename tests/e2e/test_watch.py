"""`dagy run --watch` as a person uses it: a process that runs again when a file is saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
from dagy import flow, task
from helper import FACTOR

@task
def extract() -> int:
    print("extracting")
    return 1

@task
def scale(x: int) -> int:
    return x * {factor}

@flow
def daily():
    return scale(extract())
"""


@pytest.mark.slow
def test_a_save_runs_the_flow_again_and_uses_what_did_not_change(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("FACTOR = 2\n")
    (tmp_path / "daily.py").write_text(FLOW.format(factor=2))
    process = subprocess.Popen(
        [sys.executable, "-m", "dagy", "run", "daily.py:daily", "--watch"],
        cwd=tmp_path,
        env={**os.environ, "DAGY_LOCAL_DIR": str(tmp_path / "home"), "DAGY_API_URL": "", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "daily.py, helper.py" in read_until(process, "Watching")
        assert "status=SUCCEEDED" in read_until(process, "Run completed")
        (tmp_path / "daily.py").write_text(FLOW.format(factor=3))
        again = read_until(process, "Run completed")
        assert "extract-1 is taken from run" in again
        assert "scale-1 runs again: the code of the task changed" in again
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    pytest.fail(f"ended before it said {text!r}: {read}")
