"""Whatever stops a run, it ends, in one true state, and what tears down has its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import Settled, allow_failed, choose, flow, task, tear_down
from dagy.building import build_flow
from dagy.engine import Stop
from dagy.status import RunStatus
from dagy.testing import InstantClock, MemoryResult, execute_in_memory, run_in_memory

CANCEL = Stop(RunStatus.CANCELLED, "Cancelled by user")


@task
def say(word: Any) -> Any:
    return word


@task
def breaks(_: Any = None) -> int:
    raise ValueError("broken")


@task
def settled(parts: Settled, _: Any = None) -> int:
    return len(parts.results)


class Stoppable:
    """Executes a flow whose tasks can stop it while they run."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.noticed = threading.Event()

    def stop(self, stop: Stop) -> None:
        """Called by a task: returns when the engine has noticed."""
        self.noticed.clear()
        self.engine.stop(stop)
        assert self.noticed.wait(10)

    def run(self, a_flow: Any, **settings: Any) -> MemoryResult:
        def noticing(observer: Any) -> Callable[[str, str], None]:
            before = observer.run_line

            def run_line(level: str, line: str) -> None:
                before(level, line)
                self.noticed.set()

            return run_line

        def started(engine: Any) -> None:
            self.engine = engine
            engine._observer.run_line = noticing(engine._observer)

        return execute_in_memory(build_flow(a_flow, (), {}), on_engine=started, **settings)


def test_a_condition_that_can_not_be_decided_ends_the_run() -> None:
    @flow
    def undecided() -> None:
        known = say({})
        say.options(when=known["missing"] > 1)(1)
        say(known)

    result = run_in_memory(undecided)
    assert result.status == "FAILED"
    assert all(status.is_terminal for status in result.statuses.values())


def test_a_condition_that_can_not_be_decided_tears_down() -> None:
    torn: list[str] = []

    @task
    def clean() -> None:
        torn.append("clean")

    @flow
    def undecided() -> None:
        with tear_down(clean):
            say.options(when=say({})["zz"] == 1)(1)

    assert run_in_memory(undecided).status == "FAILED"
    assert torn == ["clean"]


def test_a_tolerated_failure_does_not_make_a_stopped_run_succeed() -> None:
    stoppable = Stoppable()

    @task
    def slow() -> int:
        stoppable.stop(CANCEL)
        return 1

    @flow
    def tolerant() -> None:
        settled(allow_failed(breaks()), slow())

    result = stoppable.run(tolerant)
    assert result.status == "CANCELLED"
    assert result.statuses["settled-1"] == "CANCELLED"


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_during_a_tear_down_ends_the_run(now: bool) -> None:
    stoppable = Stoppable()

    @task
    def stops() -> None:
        stoppable.stop(Stop(RunStatus.CANCELLED, "Cancelled by user", now=now))

    @flow
    def stopping() -> None:
        with tear_down(stops):
            say(1)

    result = stoppable.run(stopping)
    assert result.statuses["stops-1"] == ("CANCELLED" if now else "SUCCEEDED")
    assert result.status == ("CANCELLED" if now else "SUCCEEDED")


def test_a_tear_down_is_retried_also_when_the_run_stops() -> None:
    calls = iter(range(5))

    @task(retries=2, retry_delay_seconds=60)
    def clean() -> str:
        if next(calls) < 2:
            raise ConnectionError("away")
        return "clean"

    @flow
    def failing() -> None:
        with tear_down(clean):
            breaks()

    result = run_in_memory(failing)
    assert (result.statuses["clean-1"], result.attempts["clean-1"]) == ("SUCCEEDED", 3)


def test_a_branch_that_was_never_chosen_is_not_torn_down() -> None:
    stoppable, torn = Stoppable(), []

    @task
    def clean() -> None:
        torn.append("clean")

    @task
    def stops() -> str:
        stoppable.stop(CANCEL)
        return "b"

    def branch() -> Any:
        with tear_down(clean):
            return say(1)

    @flow
    def choosing() -> None:
        choose(stops(), {"b": branch})

    stoppable.run(choosing)
    assert torn == []


def test_a_limit_that_only_an_abandoned_attempt_holds_is_given_on() -> None:
    release = threading.Event()
    calls = iter([True, False])

    @task(timeout_seconds=0.05, retries=1, concurrency_limit=1)
    def hangs_once() -> str:
        if next(calls):
            release.wait(20)
        return "done"

    @flow
    def limited() -> Any:
        return hangs_once()

    result = run_in_memory(limited)
    release.set()
    assert result.output == "done"
    assert any("its slot is given to the next" in line for line in result.observer.run_lines)


def test_each_attempt_of_an_item_gets_a_value_of_its_own() -> None:
    seen: list[Any] = []

    @task
    def rows() -> list:
        return [{"n": 1}, {"n": 2}]

    @task(retries=1)
    def spoils(row: dict) -> int:
        seen.append(dict(row))
        row.clear()
        if len(seen) == 1:
            raise ConnectionError
        return 1

    @flow
    def mapped() -> None:
        spoils.map(rows())

    assert run_in_memory(mapped).status == "SUCCEEDED"
    assert sorted(each["n"] for each in seen) == [1, 1, 2]


def test_values_of_users_that_can_not_be_compared_or_formatted_fail_one_task() -> None:
    @flow
    def formatting() -> Any:
        return say.options(map_name="{word:>5}").map(say([{"a": 1}]))

    assert run_in_memory(formatting).output == [{"a": 1}]


def test_nothing_starts_after_the_observer_broke() -> None:
    calls: list[int] = []

    @task
    def count(x: int) -> None:
        calls.append(x)

    @flow
    def many() -> None:
        for number in range(10):
            count(number)

    class Breaks:
        def changed(self, changes: Any) -> None:
            if len(calls) >= 2:
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        execute_in_memory(build_flow(many, (), {}), also=Breaks().changed)
    assert len(calls) == 2


def test_a_map_whose_last_item_is_cancelled_is_cancelled() -> None:
    stoppable = Stoppable()

    @task(retries=1, retry_delay_seconds=3600)
    def flaky(_: int) -> None:
        stoppable.stop(CANCEL)
        raise ConnectionError

    @flow
    def mapped() -> None:
        flaky.map([1])

    result = stoppable.run(mapped)
    assert (result.statuses["flaky-1[0]"], result.statuses["flaky-1"]) == ("CANCELLED", "CANCELLED")


def test_many_ready_tasks_beside_an_async_one_cost_no_more() -> None:
    @task
    async def waits() -> None: ...

    @flow
    def mixed() -> None:
        waits()
        for number in range(3000):
            say(number)

    assert run_in_memory(mixed).status == "SUCCEEDED"


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    steps = []
    for number in range(draw(st.integers(1, 8))):
        kind = draw(
            st.sampled_from(["say", "map", "fails", "flaky", "tolerant", "when", "tear_down", "async", "limited"])
        )
        steps.append((kind, draw(st.integers(0, number)), draw(st.integers(0, 4))))
    return steps


@given(
    steps=programs(),
    workers=st.sampled_from([1, 3]),
    fail_fast=st.booleans(),
    stop_at=st.integers(0, 20),
    now=st.booleans(),
)
def test_every_run_ends_and_every_task_run_ends_once(
    steps: list[tuple[str, int, int]], workers: int, fail_fast: bool, stop_at: int, now: bool
) -> None:
    calls = [0]
    engines: list[Any] = []

    def body(value: Any) -> Any:
        calls[0] += 1
        if calls[0] == stop_at:
            engines[0].stop(Stop(RunStatus.CANCELLED, "Cancelled by user", now=now))
        return value

    async def async_body(value: Any) -> Any:
        return body(value)

    failed: set[Any] = set()

    def flaky_body(value: Any) -> Any:
        body(value)
        if str(value) not in failed:
            failed.add(str(value))
            raise ConnectionError
        return value

    plain = task(name="plain")(body)
    waiting = task(name="waiting")(async_body)
    flaky = task(name="flaky", retries=1, retry_delay_seconds=60)(flaky_body)
    limited = task(name="limited", concurrency_limit=1)(body)

    @flow
    def random_flow() -> None:
        outputs: list[Any] = [plain([1, 2])]
        for kind, source, number in steps:
            above = outputs[source]
            if kind == "map":
                outputs.append(plain.options(max_concurrency=1 + number).map(plain(list(range(number)))))
            elif kind == "fails":
                outputs.append(breaks(above))
            elif kind == "flaky":
                outputs.append(flaky([above, number]))
            elif kind == "tolerant":
                outputs.append(settled(allow_failed(breaks.map(plain([1] * number)))))  # type: ignore[arg-type]
            elif kind == "when":
                outputs.append(plain.options(when=plain(number) > 2, after=[above])(number))
            elif kind == "tear_down":
                with tear_down(plain, above):
                    outputs.append(plain([number]))
            else:
                outputs.append({"async": waiting, "limited": limited}.get(kind, plain)([above]))

    result = execute_in_memory(
        build_flow(random_flow, (), {}),
        max_workers=workers,
        fail_fast=fail_fast,
        clock=InstantClock(),
        on_engine=engines.append,
    )
    ends = [change.node.id for change in result.observer.changes if hasattr(change, "status")]
    assert len(ends) == len(set(ends))
    assert set(result.statuses) >= {node.id for node in random_flow.build().task_runs}
    assert all(status.is_terminal for status in result.statuses.values())
    if result.status == "SUCCEEDED":
        assert "CANCELLED" not in result.statuses.values()
