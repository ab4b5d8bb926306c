"""A run on this machine: what it leaves on disk, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dagy import LocalArtifact, State, flow, get_logger, task
from dagy.errors import (
    FlowDefinitionError,
    FlowFailedError,
    LocalStoreError,
    ParameterError,
    ParameterTypeError,
    TaskFailedError,
)
from dagy.local.home import Home
from dagy.local.records import RunRecord
from dagy.local.runner import run_local
from dagy.local.store import LocalStore


@task
def extract(day: dt.date) -> dict:
    return {"day": day.isoformat(), "rows": [1, 2, None]}


@task
def count(rows: list) -> int:
    print("counting", len(rows))
    return len(rows)


@flow(name="daily etl", version="2.0")
def daily(day: dt.date = dt.date(2026, 3, 4)) -> Any:
    return count(extract(day)["rows"])


def recorded(home: Path, run_id: str) -> RunRecord:
    record = LocalStore(Home(home), warn=pytest.fail).run(run_id)
    assert record is not None
    return record


def test_a_run_is_recorded_with_files_a_person_can_grep(tmp_path: Path) -> None:
    result = run_local(daily, {}, home=tmp_path, print_capture=True)
    assert result.status == "SUCCEEDED"
    assert result.output() == 3
    folder = tmp_path / "runs" / result.run_id
    assert "Run " in (folder / "run.log").read_text()
    assert json.loads((folder / "metadata.json").read_text())["status"] == "SUCCEEDED"
    assert json.loads((folder / "flow_spec.json").read_text())["name"] == "daily etl"
    log = (folder / "task_runs" / "count-1" / "task.log").read_text()
    assert [line.split(" ", 1)[1].split(" in ")[0].strip() for line in log.splitlines()] == [
        "INFO    attempt 1 started",
        "OUT     counting 3",
        "INFO    SUCCEEDED attempt=1",
    ]
    metadata = json.loads((folder / "task_runs" / "count-1" / "metadata.json").read_text())
    assert metadata["status"] == "SUCCEEDED"
    assert (tmp_path / metadata["output"]["key"]).read_text() == "3"
    assert not (folder / "journal.jsonl").exists()


def test_the_database_and_the_files_say_the_same(tmp_path: Path) -> None:
    result = run_local(daily, {}, home=tmp_path)
    stored = recorded(tmp_path, result.run_id)
    assert stored.flow_name == "daily etl"
    assert stored.parameters == {"day": {"$value": "datetime.date", "of": "2026-03-04"}}
    for each in stored.task_runs:
        folder = tmp_path / "runs" / result.run_id / "task_runs" / each.task_run_id
        assert json.loads((folder / "metadata.json").read_text()) == each.to_dict()


def test_run_ids_are_safe_as_names_and_end_in_time_and_chance(tmp_path: Path) -> None:
    result = run_local(daily, {}, home=tmp_path)
    name, stamp, chance = result.run_id.rsplit("-", 2)
    assert name == "daily_etl"
    assert dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    assert len(chance) == 6


def test_a_failed_task_raises_with_its_error_and_is_recorded(tmp_path: Path) -> None:
    @task
    def breaks() -> None:
        raise ValueError("no such customer")

    @flow
    def failing() -> None:
        breaks()

    with pytest.raises(TaskFailedError, match="Task breaks failed: ValueError: no such customer") as caught:
        run_local(failing, {}, home=tmp_path)
    stored = recorded(tmp_path, caught.value.run_id)
    assert stored.status == "FAILED"
    assert stored.error_message == "Task breaks failed: ValueError: no such customer"
    (breaks_1,) = stored.task_runs
    assert breaks_1.trace is not None
    assert breaks_1.trace.startswith("Traceback")
    assert "runners.py" not in breaks_1.trace
    log = tmp_path / "runs" / stored.run_id / "task_runs" / "breaks-1" / "task.log"
    assert "no such customer" in log.read_text()


def test_without_fail_fast_the_result_says_that_it_failed(tmp_path: Path) -> None:
    @task
    def breaks() -> None:
        raise ValueError("no")

    @flow
    def failing() -> Any:
        return breaks()

    result = run_local(failing, {}, home=tmp_path, fail_fast=False)
    assert result.status == "FAILED"
    with pytest.raises(FlowFailedError, match="has no output"):
        result.output()


def test_nothing_is_recorded_of_a_flow_that_can_not_be_built(tmp_path: Path) -> None:
    @flow
    def broken() -> None:
        raise KeyError("in the body")

    with pytest.raises(FlowDefinitionError, match="Flow 'broken' raised while it was built: KeyError: 'in the body'"):
        run_local(broken, {}, home=tmp_path)
    with pytest.raises(ParameterError, match="did you mean 'day'"):
        run_local(daily, {"dya": "2026-01-01"}, home=tmp_path)
    with pytest.raises(ParameterTypeError, match="expects date"):
        run_local(daily, {"day": 5}, home=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, -1, True, "4"])
def test_a_wrong_number_of_workers_is_named(tmp_path: Path, workers: Any) -> None:
    with pytest.raises(ParameterError, match="max_workers must be a whole number from 1"):
        run_local(daily, {}, home=tmp_path, max_workers=workers)


def test_files_travel_as_local_artifacts(tmp_path: Path) -> None:
    @task
    def write() -> LocalArtifact:
        path = tmp_path / "täble.csv"
        path.write_text("a,b\n")
        return LocalArtifact(path, "text/csv")

    @task
    def text() -> LocalArtifact:
        return LocalArtifact.from_text("grüße", name="greeting.txt")

    @task
    def read(table: LocalArtifact, greeting: LocalArtifact) -> list:
        assert table.path != tmp_path / "täble.csv"
        return [table.name, table.read_text(), table.media_type, greeting.read_text(), greeting.size_bytes]

    @flow
    def files() -> Any:
        return read(write(), text())

    result = run_local(files, {}, home=tmp_path / "home")
    assert result.output() == ["täble.csv", "a,b\n", "text/csv", "grüße", 7]


def test_a_missing_file_of_an_artifact_is_named(tmp_path: Path) -> None:
    @task
    def write() -> LocalArtifact:
        return LocalArtifact(tmp_path / "nothing.txt")

    @flow
    def files() -> None:
        write()

    with pytest.raises(TaskFailedError, match=r"nothing.txt.* can not be read .No such file"):
        run_local(files, {}, home=tmp_path / "home")


def test_an_output_beyond_the_limit_fails_its_task(tmp_path: Path) -> None:
    @task
    def big() -> str:
        return "x" * 2000

    @flow
    def large() -> None:
        big()

    home = Home.from_environ({"DAGY_LOCAL_ARTIFACT_MAX_BYTES": "1000"}, tmp_path)
    with pytest.raises(TaskFailedError, match="The output has 2,002 bytes and the limit is 1,000"):
        run_local(large, {}, home=home)


def test_a_large_output_reaches_the_next_task(tmp_path: Path) -> None:
    @task
    def big() -> str:
        return "x" * 100_000

    @task
    def size(text: str) -> int:
        return len(text)

    @flow
    def large() -> Any:
        return size(big())

    assert run_local(large, {}, home=tmp_path).output() == 100_000


def test_logging_goes_to_the_task_that_logs(tmp_path: Path) -> None:
    @task
    def speaks(word: str) -> None:
        get_logger().info("hello %s", word)
        logging.getLogger("library").warning("careful\nwith %s", word)

    @task
    def starts_a_thread() -> None:
        thread = threading.Thread(target=lambda: logging.getLogger("elsewhere").warning("from a foreign thread"))
        thread.start()
        thread.join()

    @flow
    def talking() -> None:
        speaks("a")
        speaks("b")
        starts_a_thread()

    result = run_local(talking, {}, home=tmp_path, max_workers=2)
    folder = tmp_path / "runs" / result.run_id
    for number, word in ((1, "a"), (2, "b")):
        log = (folder / "task_runs" / f"speaks-{number}" / "task.log").read_text()
        assert f"hello {word}" in log
        assert f"with {word}" in log
    assert "from a foreign thread" in (folder / "run.log").read_text()


def test_flow_hooks_fire_once_with_the_flows_parameters(tmp_path: Path) -> None:
    told: list[Any] = []

    def note(ctx: Any, state: State) -> None:
        told.append((ctx.name, ctx.run_id, dict(ctx.parameters), state.type, state.message))
        print("a hook speaks")

    @task
    def breaks() -> None:
        raise ValueError("no")

    @flow(on_running=[note], on_completion=[note], on_failure=[note])
    def hooked(fails: bool) -> None:
        if fails:
            breaks()

    result = run_local(hooked, {"fails": False}, home=tmp_path, print_capture=True)
    with pytest.raises(TaskFailedError) as caught:
        run_local(hooked, {"fails": True}, home=tmp_path)
    assert told == [
        ("hooked", result.run_id, {"fails": False}, "RUNNING", None),
        ("hooked", result.run_id, {"fails": False}, "COMPLETED", None),
        ("hooked", caught.value.run_id, {"fails": True}, "RUNNING", None),
        ("hooked", caught.value.run_id, {"fails": True}, "FAILED", "Task breaks failed: ValueError: no"),
    ]
    assert "a hook speaks" in (tmp_path / "runs" / result.run_id / "run.log").read_text()


@pytest.mark.parametrize(
    "name", ["a b/c\\d", "..", ".", "x" * 300, "🚀 launch", "../../../etc/passwd", "naïve", "con:nul|?*"]
)
def test_hostile_names_stay_inside_the_local_directory(tmp_path: Path, name: str) -> None:
    @task(name=name)
    def named() -> int:
        return 1

    @flow(name=name)
    def flowing() -> Any:
        return named()

    home = tmp_path / "home"
    result = run_local(flowing, {}, home=home)
    assert result.output() == 1
    assert {each.name for each in tmp_path.iterdir()} == {"home"}
    (task_run,) = recorded(home, result.run_id).task_runs
    assert task_run.task_run_id == f"{name}-1"
    assert len(list((home / "runs" / result.run_id / "task_runs").iterdir())) == 1


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "nul\x00"])
def test_names_that_are_not_one_line_of_text_are_refused(name: str) -> None:
    with pytest.raises(FlowDefinitionError, match="name of a task must be"):
        task(name=name)(lambda: None)


def test_a_directory_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStoreError, match="set DAGY_LOCAL_DIR to another one"):
        run_local(daily, {}, home=tmp_path / "file" / "home")


class Stopping:
    """A listener by which a task waits until its run has noticed a signal."""

    def __init__(self) -> None:
        self.noticed = threading.Event()

    def run_created(self, run_id: str, spec: Any) -> None: ...

    def changed(self, changes: Any) -> None: ...

    def line(self, task_run_id: str | None, level: str, line: str) -> None:
        if task_run_id is None and level == "WARNING":
            self.noticed.set()

    def send(self, number: signal.Signals) -> None:
        self.noticed.clear()
        os.kill(os.getpid(), number)
        assert self.noticed.wait(10)


def test_ctrl_c_lets_attempts_in_flight_end_and_cancels_the_rest(tmp_path: Path) -> None:
    stopping = Stopping()

    @task
    def interrupts() -> int:
        stopping.send(signal.SIGINT)
        return 1

    @task
    def after(_: int) -> None: ...

    @flow
    def interrupted() -> None:
        after(interrupts())

    with pytest.raises(KeyboardInterrupt):
        run_local(interrupted, {}, home=tmp_path, listener=stopping)
    (record,) = LocalStore(Home(tmp_path), warn=pytest.fail).runs()
    stored = recorded(tmp_path, record.run_id)
    assert (stored.status, stored.error_message) == ("CANCELLED", "Cancelled by user")
    assert [each.status for each in stored.task_runs] == ["SUCCEEDED", "CANCELLED"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_gives_up_what_is_running(tmp_path: Path) -> None:
    stopping, release = Stopping(), threading.Event()

    @task
    def hangs() -> None:
        stopping.send(signal.SIGINT)
        stopping.send(signal.SIGINT)
        release.wait(30)

    @flow
    def stuck() -> None:
        hangs()

    with pytest.raises(KeyboardInterrupt):
        run_local(stuck, {}, home=tmp_path, listener=stopping)
    release.set()
    (record,) = LocalStore(Home(tmp_path), warn=pytest.fail).runs()
    assert [each.status for each in recorded(tmp_path, record.run_id).task_runs] == ["CANCELLED"]


def test_sigterm_fails_the_run_with_the_documented_message(tmp_path: Path) -> None:
    stopping = Stopping()

    @task
    def told_to_stop() -> int:
        stopping.send(signal.SIGTERM)
        return 1

    @task
    def later(_: int) -> None: ...

    @flow
    def stopped() -> None:
        later(told_to_stop())

    with pytest.raises(FlowFailedError, match="Worker shutdown requested via SIGTERM"):
        run_local(stopped, {}, home=tmp_path, listener=stopping)


def test_a_flow_runs_in_a_thread_that_can_not_take_signals(tmp_path: Path) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run_local(daily, {}, home=tmp_path)))
    thread.start()
    thread.join()
    assert results[0].status == "SUCCEEDED"


def test_two_runs_of_one_process_at_the_same_time_are_both_recorded(tmp_path: Path) -> None:
    results: list[Any] = []

    def run_one() -> None:
        results.append(run_local(daily, {}, home=tmp_path).status)

    threads = [threading.Thread(target=run_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["SUCCEEDED"] * 4
    assert len(LocalStore(Home(tmp_path), warn=pytest.fail).runs()) == 4


def test_task_runs_that_wait_for_a_retry_hold_few_files_open(tmp_path: Path) -> None:
    seen: set[int] = set()
    most = 0

    @task(retries=1, retry_delay_seconds=0.2)
    def flaky(number: int) -> int:
        nonlocal most
        if number not in seen:
            seen.add(number)
            raise ValueError(f"first of {number}")
        most = max(most, len(os.listdir("/proc/self/fd")))
        print("second", number)
        return number

    @flow
    def wide() -> Any:
        return [flaky(number) for number in range(150)]

    before = len(os.listdir("/proc/self/fd"))
    result = run_local(wide, {}, home=tmp_path, print_capture=True)
    assert most < before + 100
    for number in range(150):
        log = (tmp_path / "runs" / result.run_id / "task_runs" / f"flaky-{number + 1}" / "task.log").read_text()
        assert log.count("attempt 1 started") == 1
        assert log.count("attempt 2 started") == 1
        assert f"second {number}\n" in log
        assert log.splitlines()[-1].split()[1:3] == ["INFO", "SUCCEEDED"]


def test_a_line_of_the_run_is_soon_in_its_log(tmp_path: Path) -> None:
    found = threading.Event()

    @task
    def waits() -> bool:
        thread = threading.Thread(target=logging.getLogger("elsewhere").warning, args=("from a thread",))
        thread.start()
        thread.join()
        until = time.monotonic() + 10
        while time.monotonic() < until and not found.is_set():
            if any("from a thread" in path.read_text() for path in tmp_path.glob("runs/*/run.log")):
                found.set()
        return found.is_set()

    @flow
    def logs_meanwhile() -> Any:
        return waits()

    assert run_local(logs_meanwhile, {}, home=tmp_path).output() is True
