"""What a run takes from earlier ones is what they really made, whatever happened in between."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from dagy import LocalArtifact, Settled, allow_failed, flow, run_local, task
from dagy.errors import TaskFailedError
from dagy.local.home import Home
from dagy.local.reuse import EarlierRun
from dagy.local.store import LocalStore
from dagy.testing import InstantClock


def test_a_key_made_again_after_it_expired_has_the_new_bytes(tmp_path: Path) -> None:
    made = iter("AB")

    @task(cache="inputs", cache_expires_after=60)
    def big() -> str:
        return next(made) * 3000

    @flow
    def large() -> Any:
        return big()

    start = 1_800_000_000_000_000_000
    seen = [
        run_local(large, {}, home=tmp_path, clock=InstantClock(start + int(seconds * 1e9))).output()[0]
        for seconds in (0, 120, 130)
    ]
    assert seen == ["A", "B", "B"]


def test_a_cached_file_keeps_its_name(tmp_path: Path) -> None:
    @task(cache="inputs")
    def write() -> LocalArtifact:
        return LocalArtifact.from_text("a,b\n", name="rows.csv")

    @task
    def read(file: LocalArtifact) -> list:
        return [file.name, file.path.name, file.read_text()]

    @flow
    def files() -> Any:
        return read(write())

    for _ in range(2):
        assert run_local(files, {}, home=tmp_path).output() == ["rows.csv", "rows.csv", "a,b\n"]


def test_a_task_that_spoils_its_input_does_not_spoil_the_key(tmp_path: Path) -> None:
    @task
    def rows() -> list:
        return [{"n": 1}, {"n": 2}]

    @task(cache="inputs")
    def inc(row: dict) -> int:
        row["n"] += 1
        return int(row["n"])

    @flow
    def mapped() -> Any:
        return inc.map(rows())

    for _ in range(2):
        assert run_local(mapped, {}, home=tmp_path).output() == [2, 3]


def test_failures_that_are_passed_on_count_as_content(tmp_path: Path) -> None:
    words = iter(["first", "second"])

    @task
    def breaks() -> int:
        raise ValueError(next(words))

    @task(cache="inputs")
    def report(parts: Settled) -> str:
        return parts.failures[0].error_message

    @flow
    def reporting() -> Any:
        return report(allow_failed(breaks()))

    told = [run_local(reporting, {}, home=tmp_path).output() for _ in range(2)]
    assert told == ["ValueError: first", "ValueError: second"]


def test_an_empty_map_is_taken_and_can_be_looked_into(tmp_path: Path) -> None:
    calls: list[str] = []
    broken = [True]

    @task
    def nothing() -> list:
        return []

    @task
    def each(x: int) -> int:
        return x

    @task
    def total(xs: list) -> int:
        calls.append("total")
        return sum(xs)

    @task
    def last(x: int) -> int:
        if broken:
            raise ValueError("no")
        return x

    @flow
    def mapped() -> Any:
        return last(total(each.map(nothing())))

    with pytest.raises(TaskFailedError) as caught:
        run_local(mapped, {}, home=tmp_path)
    broken.clear()
    assert run_local(mapped, {}, home=tmp_path, resume=caught.value.run_id).output() == 0
    assert calls == ["total"]
    earlier = EarlierRun.load(Home(tmp_path), caught.value.run_id, warn=pytest.fail)
    assert earlier.inputs("total-1") == {"xs": []}


def test_several_runs_at_once_may_keep_the_same_key(tmp_path: Path) -> None:
    @task(cache="inputs")
    def same() -> str:
        return "x" * 3000

    @flow
    def keeping() -> Any:
        return same()

    results: list[str] = []

    def run_one() -> None:
        results.append(str(run_local(keeping, {}, home=tmp_path).status))

    threads = [threading.Thread(target=run_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["SUCCEEDED"] * 8


def test_a_listener_that_raises_does_not_end_the_run(tmp_path: Path) -> None:
    class Broken:
        def run_created(self, run_id: str, spec: Any) -> None: ...

        def changed(self, changes: Any) -> None:
            raise BrokenPipeError

        def line(self, task_run_id: str | None, level: str, line: str) -> None: ...

    @task
    def one() -> int:
        return 1

    @flow
    def small() -> Any:
        return one()

    result = run_local(small, {}, home=tmp_path, listener=Broken())
    assert result.output() == 1
    assert "the listener raised" in (tmp_path / "runs" / result.run_id / "run.log").read_text()


def test_a_handler_of_the_program_keeps_its_signal(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:

        @task
        def interrupts() -> int:
            os.kill(os.getpid(), signal.SIGINT)
            return 1

        @flow
        def interrupted() -> Any:
            return interrupts()

        assert run_local(interrupted, {}, home=tmp_path).status == "SUCCEEDED"
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_an_interrupted_hook_ends_with_the_result_of_the_run_recorded(tmp_path: Path) -> None:
    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    @flow(on_completion=[interrupts])
    def hooked() -> None: ...

    with pytest.raises(KeyboardInterrupt):
        run_local(hooked, {}, home=tmp_path)
    (record,) = LocalStore(Home(tmp_path), warn=pytest.fail).runs()
    assert record.status == "SUCCEEDED"
