"""Who executes attempts: what a stop, a timeout and the end of a run do to threads, coroutines and processes."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dagy import flow, task
from dagy.artifacts import RunOutputs
from dagy.attempts import Attempt, Outcome, Workplace
from dagy.building import build_flow
from dagy.runners import LocalRunner
from dagy.testing import MemoryObjects, run_in_memory

_PATIENCE_SECONDS = 30.0


class Reported:
    """Keeps what a runner reports."""

    def __init__(self) -> None:
        self.ends: queue.SimpleQueue[tuple[Attempt, Outcome]] = queue.SimpleQueue()
        self.releases: queue.SimpleQueue[Attempt] = queue.SimpleQueue()

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        self.ends.put((attempt, outcome))

    def released(self, attempt: Attempt) -> None:
        self.releases.put(attempt)

    def next(self) -> tuple[Attempt, Outcome]:
        return self.ends.get(timeout=_PATIENCE_SECONDS)


class Host:
    """A runner with the attempts of a flow, driven by hand instead of by the engine."""

    def __init__(self, described: Any) -> None:
        built = build_flow(described, (), {})
        self.outputs = RunOutputs(MemoryObjects(), "in-memory")
        self.lines: list[str] = []
        workplace = Workplace(
            run_id="in-memory",
            tasks=built.tasks,
            outputs=self.outputs,
            line=lambda _, level, text: self.lines.append(f"{level} {text}"),
        )
        self.attempts = [Attempt(index, node, 1) for index, node in enumerate(built.spec.task_runs)]
        self.reported = Reported()
        self.runner = LocalRunner(workplace)
        self.runner.open(self.reported)

    def value(self, outcome: Outcome) -> Any:
        assert outcome.output is not None, outcome.error_message
        return self.outputs.load(outcome.output)


#: What tasks tell a test, which is in the same process.
notes: queue.SimpleQueue[str] = queue.SimpleQueue()


@task
def in_a_thread() -> None:
    notes.put("thread")


@task
async def on_the_loop() -> None:
    notes.put("loop")


@task(isolation="process")
def its_process(number: int) -> int:
    return os.getpid()


@task(isolation="process")
def marks(file: str) -> None:
    Path(file).touch()


# Attempts that were given up before they started


@pytest.mark.parametrize("given_up", [in_a_thread, on_the_loop])
def test_an_attempt_that_was_given_up_is_not_started(given_up: Any) -> None:
    @flow
    def two() -> None:
        given_up()
        given_up()

    host = Host(two)
    first, second = host.attempts
    host.runner.give_up(first)
    host.runner.start(first)
    host.runner.start(second)
    assert host.reported.next()[0] is second
    assert notes.get()
    assert notes.empty()
    host.runner.close()
    assert host.reported.ends.empty()


@pytest.mark.parametrize("late", [in_a_thread, on_the_loop])
def test_nothing_starts_in_a_closed_runner(late: Any) -> None:
    @flow
    def one() -> None:
        late()

    host = Host(one)
    before = threading.active_count()
    host.runner.close()
    host.runner.start(host.attempts[0])
    host.runner.give_up(host.attempts[0])
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("end", ["give_up", "close"])
def test_no_process_is_called_for_what_ended_meanwhile(end: str, tmp_path: Path) -> None:
    file = tmp_path / "marked"

    def end_it(*_: Any) -> None:
        if end == "close":
            host.runner.close()
        else:
            host.runner.give_up(host.attempts[0])

    marking = task(isolation="process", on_running=[end_it])(marks.fn)

    @flow
    def one() -> None:
        marking(str(file))

    host = Host(one)
    host.runner.start(host.attempts[0])
    assert "ProcessDied" in (host.reported.next()[1].error_message or "")
    host.runner.close()
    assert not file.exists()


# Coroutines


@task(timeout_seconds=60)
async def waits_with_a_limit() -> None:
    notes.put("begun")
    try:
        await asyncio.Event().wait()
    finally:
        notes.put("cleaned up")


@task
async def cleans_up_in_steps() -> None:
    notes.put("begun")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)
        notes.put("cleaned up")


def test_giving_up_cancels_a_coroutine_with_a_timeout() -> None:
    @flow
    def one() -> None:
        waits_with_a_limit()

    host = Host(one)
    host.runner.start(host.attempts[0])
    assert notes.get(timeout=_PATIENCE_SECONDS) == "begun"
    host.runner.give_up(host.attempts[0])
    assert notes.get(timeout=_PATIENCE_SECONDS) == "cleaned up"
    host.runner.close()


@pytest.mark.parametrize("waiting", [waits_with_a_limit, cleans_up_in_steps])
def test_closing_waits_for_the_clean_up_of_coroutines(waiting: Any) -> None:
    @flow
    def two() -> None:
        waiting()
        waiting()

    host = Host(two)
    for attempt in host.attempts:
        host.runner.start(attempt)
        assert notes.get(timeout=_PATIENCE_SECONDS) == "begun"
    host.runner.close()
    assert [notes.get_nowait(), notes.get_nowait()] == ["cleaned up", "cleaned up"]
    assert "dagy-loop" not in [thread.name for thread in threading.enumerate()]


def test_a_coroutine_that_will_not_end_is_abandoned_and_released_when_it_does() -> None:
    may_end = threading.Event()

    @task(timeout_seconds=0.01)
    async def stubborn() -> None:
        while not may_end.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                notes.put("refused")

    @flow
    def one() -> None:
        stubborn()

    host = Host(one)
    host.runner.start(host.attempts[0])
    outcome = host.reported.next()[1]
    assert (outcome.timed_out, outcome.abandoned) == (True, True)
    assert host.reported.releases.empty()
    may_end.set()
    assert host.reported.releases.get(timeout=_PATIENCE_SECONDS) is host.attempts[0]
    assert notes.get_nowait() == "refused"
    host.runner.close()


# Processes


@task(isolation="process", timeout_seconds=0.15)
def returns_at_once() -> int:
    return 1


@task(isolation="process")
def waits_for(begun: str, file: str) -> str:
    Path(begun).touch()
    while not Path(file).exists():
        time.sleep(0.01)
    return "not interrupted"


@pytest.mark.slow
def test_the_start_of_the_interpreter_does_not_count_for_the_timeout() -> None:
    @flow
    def one() -> Any:
        return returns_at_once()

    assert run_in_memory(one).output == 1


@pytest.mark.slow
def test_an_idle_process_that_was_killed_harms_no_other_task() -> None:
    @flow
    def two() -> None:
        its_process(1)
        its_process(2)

    host = Host(two)
    host.runner.start(host.attempts[0])
    first = host.value(host.reported.next()[1])
    os.kill(first, signal.SIGKILL)
    host.runner.start(host.attempts[1])
    second = host.value(host.reported.next()[1])
    host.runner.close()
    assert first != second


@pytest.mark.slow
def test_an_interrupt_of_a_task_process_is_ignored(tmp_path: Path) -> None:
    begun, file = tmp_path / "begun", tmp_path / "go"

    @flow
    def two() -> None:
        its_process(1)
        waits_for(str(begun), str(file))

    host = Host(two)
    host.runner.start(host.attempts[0])
    process = host.value(host.reported.next()[1])
    host.runner.start(host.attempts[1])
    while not begun.exists():
        assert host.reported.ends.empty()
    os.kill(process, signal.SIGINT)
    file.touch()
    outcome = host.reported.next()[1]
    host.runner.close()
    assert host.value(outcome) == "not interrupted"


_SCRIPT = """
from dataclasses import dataclass
from dagy import flow, task
from dagy.testing import run_in_memory
{imports}

print("the script runs")

{task}

@flow
def one():
    return twice(21)

{run}
"""

_TASK = """
@task(isolation="process")
def twice(x: int) -> int:
    return 2 * x
"""

_RUN = """
result = run_in_memory(one)
print(result.output, *result.errors.values())
"""


def _run_script(folder: Path, text: str) -> list[str]:
    (folder / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_script_is_not_run_again_by_the_process_of_a_task_from_a_module(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(f"from dagy import task\n{_TASK}")
    text = _SCRIPT.format(imports="from steps import twice", task="", run=_RUN)
    assert _run_script(tmp_path, text) == ["the script runs", "42"]


@pytest.mark.slow
def test_a_task_of_a_guarded_script_can_run_in_a_process(tmp_path: Path) -> None:
    guarded = 'if __name__ == "__main__":\n' + "\n".join(f"    {line}" for line in _RUN.splitlines())
    text = _SCRIPT.format(imports="", task=_TASK, run=guarded)
    assert _run_script(tmp_path, text) == ["the script runs", "42"]


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    text = _SCRIPT.format(imports="", task=_TASK, run=_RUN + "\nassert result.status == 'SUCCEEDED'\n")
    (tmp_path / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "__main__" in done.stdout
    assert "belongs below" in done.stdout
