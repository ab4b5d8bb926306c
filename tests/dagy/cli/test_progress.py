"""What `dagy run` shows while a flow runs, and that it never gets in the way of the run."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

FLOW_FILE = """
import time
from dagy import flow, task

@task
def slow() -> int:
    time.sleep(0.6)
    print("from the task")
    return 1

@task
def short(number: int) -> int:
    print("short", number)
    return number

@flow(name="slow")
def slow_flow():
    return slow()

@flow(name="many")
def many():
    return [short(number) for number in range(50)]
"""


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(FLOW_FILE)
    return path


def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "DAGY_LOCAL_DIR": str(tmp_path / "home"), "DAGY_API_URL": "", "TERM": "xterm"}


def drained(descriptor: int, into: list[bytes]) -> None:
    try:
        while data := os.read(descriptor, 4096):
            into.append(data)
    except OSError:  # how a terminal says that nobody writes to it any more
        pass


def test_the_live_view_leaves_the_streams_of_the_program_alone(tmp_path: Path, flow_file: Path) -> None:
    reading, terminal = pty.openpty()
    with open(tmp_path / "out.txt", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagy", "run", f"{flow_file}:slow_flow"],
            env=environ(tmp_path),
            stdout=out,
            stderr=terminal,
        )
    os.close(terminal)
    shown: list[bytes] = []
    reader = threading.Thread(target=drained, args=(reading, shown))
    reader.start()
    assert process.wait(timeout=60) == 0
    reader.join()
    os.close(reading)
    assert b"Finished in" in b"".join(shown)
    assert "Run completed" in (tmp_path / "out.txt").read_text()
    (log,) = (tmp_path / "home").glob("runs/*/task_runs/slow-1/task.log")
    assert "from the task" in log.read_text()


def test_a_reader_that_leaves_does_not_break_the_run(tmp_path: Path, flow_file: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "dagy", "run", f"{flow_file}:many"],
        env=environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert "status=SUCCEEDED" in done.stdout
    logs = list((tmp_path / "home").glob("runs/*/task_runs/*/task.log"))
    assert len(logs) == 50
