"""What the engine promises, on flows that people write and on random graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import flow, task
from dagy.building import BuiltFlow
from dagy.engine import Stop
from dagy.errors import DependencyCycleError
from dagy.events import TaskEnded, TaskRetrying, TaskStarted
from dagy.graph import DagState
from dagy.spec import FlowSpec, TaskRunSpec, TaskSpec
from dagy.status import TASK_RUN_TRANSITIONS, RunStatus, TaskRunStatus
from dagy.testing import InstantClock, MemoryResult, execute_in_memory, run_in_memory


@task
def one() -> int:
    return 1


@task
def add(values: list) -> int:
    return sum(values)


@task
def fail(message: str = "broken") -> int:
    raise ValueError(message)


def test_outputs_flow_along_the_edges() -> None:
    @flow
    def sums() -> Any:
        first = one()
        return add([first, add([first, first])])

    result = run_in_memory(sums, max_workers=4)
    assert result.status == "SUCCEEDED"
    assert result.output == 3


def test_an_empty_flow_succeeds() -> None:
    @flow
    def nothing() -> str:
        return "done"

    result = run_in_memory(nothing)
    assert (result.status, result.output) == ("SUCCEEDED", "done")


def test_each_consumer_gets_a_copy_of_its_own() -> None:
    @task
    def rows() -> list:
        return [1]

    @task
    def spoil(values: list) -> int:
        values.append(99)
        return len(values)

    @flow
    def copies() -> Any:
        shared = rows()
        return [spoil(shared), spoil(shared), spoil(shared)]

    assert run_in_memory(copies).output == [2, 2, 2]


def test_fail_fast_starts_nothing_after_the_first_failure() -> None:
    @flow
    def three() -> None:
        one()
        broken = fail()
        add([broken])
        one()

    result = run_in_memory(three)
    assert result.status == "FAILED"
    assert result.error_message == "Task fail failed: ValueError: broken"
    assert result.statuses == {"one-1": "SUCCEEDED", "fail-1": "FAILED", "add-1": "SKIPPED", "one-2": "CANCELLED"}


def test_without_fail_fast_only_descendants_of_the_failure_are_skipped() -> None:
    @flow
    def branches() -> None:
        broken = fail()
        add([add([broken]), one()])
        add([one()])

    result = run_in_memory(branches, fail_fast=False)
    assert result.status == "FAILED"
    assert result.statuses == {
        "fail-1": "FAILED",
        "add-1": "SKIPPED",
        "one-1": "SUCCEEDED",
        "add-2": "SKIPPED",
        "one-2": "SUCCEEDED",
        "add-3": "SUCCEEDED",
    }


def away() -> Exception:
    return ConnectionError("away")


def failing_times(count: int, error: Callable[[], Exception] = away) -> Callable[[], int]:
    calls = iter(range(count))

    def work() -> int:
        if next(calls, None) is not None:
            raise error()
        return 7

    return work


def test_a_failed_attempt_is_retried_after_its_delay() -> None:
    flaky = task(name="flaky", retries=3, retry_delay_seconds=[10, 3600])(failing_times(2))

    @flow
    def retried() -> Any:
        return flaky()

    clock = InstantClock()
    result = run_in_memory(retried, clock=clock)
    assert (result.status, result.output, result.attempts) == ("SUCCEEDED", 7, {"flaky-1": 3})
    assert [round(each) for each in clock.skipped] == [10, 3600]


def test_retries_end_and_the_last_error_is_told() -> None:
    @flow
    def hopeless() -> None:
        task(name="flaky", retries=2)(failing_times(9))()

    result = run_in_memory(hopeless)
    assert result.attempts == {"flaky-1": 3}
    assert result.error_message == "Task flaky failed: ConnectionError: away"


def test_a_waiting_retry_does_not_occupy_a_worker() -> None:
    flaky = task(name="flaky", retries=1, retry_delay_seconds=60)(failing_times(1))

    @flow
    def both() -> None:
        flaky()
        one()

    result = run_in_memory(both, max_workers=1)
    ends = [change.node.id for change in result.observer.changes if isinstance(change, TaskEnded)]
    assert ends == ["one-1", "flaky-1"]


def test_retry_condition_decides() -> None:
    def only_connection(error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    strict = task(name="strict", retries=5, retry_condition_fn=only_connection)(
        failing_times(9, lambda: ValueError("for good"))
    )

    @flow
    def conditional() -> None:
        strict()

    assert run_in_memory(conditional).attempts == {"strict-1": 1}


def test_a_broken_retry_condition_does_not_hide_the_error() -> None:
    def broken(_: Exception) -> bool:
        raise RuntimeError("no idea")

    unlucky = task(name="unlucky", retries=5, retry_condition_fn=broken)(failing_times(9))

    @flow
    def conditional() -> None:
        unlucky()

    result = run_in_memory(conditional)
    assert result.errors == {"unlucky-1": "ConnectionError: away"}
    assert any("no idea" in line for line in result.observer.task_lines[0])


def test_a_timeout_fails_the_attempt_and_its_late_result_is_ignored() -> None:
    release, ended = threading.Event(), threading.Event()

    @task(timeout_seconds=0.05)
    def slow() -> int:
        release.wait(10)
        ended.set()
        return 5

    @flow
    def late() -> Any:
        return slow()

    result = run_in_memory(late, fail_fast=False)
    release.set()
    assert ended.wait(10)
    assert result.statuses == {"slow-1": "TIMED_OUT"}
    assert result.errors == {"slow-1": "Task exceeded timeout of 0.05s"}


def test_a_timed_out_attempt_can_be_retried() -> None:
    calls = iter([True, False])
    release = threading.Event()

    @task(timeout_seconds=0.05, retries=1)
    def slow_once() -> str:
        if next(calls):
            release.wait(10)
        return "in time"

    @flow
    def late() -> Any:
        return slow_once()

    result = run_in_memory(late)
    release.set()
    assert (result.output, result.attempts) == ("in time", {"slow_once-1": 2})


def test_a_concurrency_limit_holds_whatever_the_workers() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    barrier = threading.Barrier(2)

    @task(concurrency_limit=2)
    def limited(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait(10)
        with lock:
            running[0] -= 1

    @flow
    def six() -> None:
        for number in range(6):
            limited(number)

    assert run_in_memory(six, max_workers=6).status == "SUCCEEDED"
    assert most[0] == 2


def test_an_abandoned_attempt_keeps_its_slot_until_it_returns() -> None:
    release, running = threading.Event(), []

    @task(concurrency_limit=1, timeout_seconds=0.05)
    def limited(number: int) -> int:
        running.append(number)
        if number == 0:
            release.wait(10)
        return number

    @task
    def let_go() -> list:
        seen = list(running)
        release.set()
        return seen

    @flow
    def three() -> Any:
        limited(0)
        limited(1)
        return let_go()

    # The second call of `limited` can start only when `let_go` has let the abandoned first one end.
    result = run_in_memory(three, max_workers=1, fail_fast=False)
    assert result.statuses == {"limited-1": "TIMED_OUT", "limited-2": "SUCCEEDED", "let_go-1": "SUCCEEDED"}
    assert result.started.index("let_go-1") < result.started.index("limited-2")


def test_wrong_parameter_types_fail_the_task_without_a_retry() -> None:
    @task(retries=3)
    def needs_text(value: str) -> str:
        return value

    @flow
    def wrong() -> None:
        needs_text(one())  # type: ignore[arg-type]

    result = run_in_memory(wrong)
    assert result.attempts["needs_text-1"] == 1
    assert "expects str, got int 1" in result.errors["needs_text-1"]


def test_unvalidated_parameters_reach_the_function() -> None:
    @task(validate_parameters=False)
    def lax(value: str) -> Any:
        return value

    @flow
    def loose() -> Any:
        return lax(one())  # type: ignore[arg-type]

    assert run_in_memory(loose).output == 1


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_an_output_that_is_not_json_fails_its_task(value: object) -> None:
    @task(retries=3)
    def odd() -> Any:
        return value

    @flow
    def returns() -> None:
        odd()

    result = run_in_memory(returns)
    assert result.attempts == {"odd-1": 1}
    assert "is not JSON-serialisable" in result.errors["odd-1"]


def test_an_exit_inside_a_task_fails_the_task_and_not_the_process() -> None:
    @task(retries=3)
    def leaves() -> None:
        raise SystemExit(3)

    @flow
    def exits() -> None:
        leaves()

    result = run_in_memory(exits)
    assert (result.status, result.attempts) == ("FAILED", {"leaves-1": 1})
    assert result.errors == {"leaves-1": "SystemExit: 3"}


def test_part_of_an_output_that_is_not_there_names_it() -> None:
    @task
    def row() -> dict:
        return {"id": 1}

    @flow
    def parts() -> None:
        add([row()["nothing"]])

    result = run_in_memory(parts)
    assert result.errors == {"add-1": "Input 'values' of add-1 can not be resolved: KeyError: 'nothing'"}


def test_hooks_fire_in_order_and_a_broken_one_changes_nothing() -> None:
    told: list[str] = []

    def note(word: str) -> Callable[..., None]:
        return lambda ctx, state: told.append(f"{word} {ctx.name} {ctx.attempt} {state.type} {state.message}")

    def broken(ctx: Any, state: Any) -> None:
        raise RuntimeError("hook broke")

    flaky = task(
        name="flaky",
        retries=1,
        on_running=[note("a"), broken, note("b")],
        on_completion=[note("done")],
        on_failure=[note("failed")],
        on_retry=[note("again")],
    )(failing_times(1))

    @flow
    def hooked() -> Any:
        return flaky()

    result = run_in_memory(hooked)
    assert result.status == "SUCCEEDED"
    assert told == [
        "a flaky 1 RUNNING None",
        "b flaky 1 RUNNING None",
        "again flaky 2 RETRYING ConnectionError: away",
        "done flaky 2 COMPLETED None",
    ]
    assert any("hook broke" in line for line in result.observer.task_lines[0])


def test_a_stop_cancels_what_has_not_started() -> None:
    @flow
    def three() -> None:
        for _ in range(3):
            one()

    result = run_in_memory(three, stop=Stop(RunStatus.CANCELLED, "Cancelled by user"))
    assert result.status == "CANCELLED"
    assert TaskRunStatus.CANCELLED in result.statuses.values()
    assert len(result.statuses) == 3


def test_a_stop_now_gives_up_what_is_running() -> None:
    release = threading.Event()

    @task
    def hangs() -> None:
        release.wait(10)

    @flow
    def stuck() -> None:
        add([hangs()])  # type: ignore[func-returns-value]

    result = run_in_memory(stuck, stop=Stop(RunStatus.CANCELLED, "Cancelled by user", now=True))
    release.set()
    assert result.statuses == {"hangs-1": "CANCELLED", "add-1": "CANCELLED"}


def test_a_flow_that_takes_too_long_fails() -> None:
    flaky = task(name="flaky", retries=1, retry_delay_seconds=500)(failing_times(1))

    @flow(timeout_seconds=60)
    def limited() -> None:
        flaky()

    result = run_in_memory(limited)
    assert (result.status, result.error_message) == ("FAILED", "Flow exceeded timeout of 60s")
    assert result.statuses == {"flaky-1": "CANCELLED"}
    assert result.errors["flaky-1"] == "The run was stopped before attempt 2: ConnectionError: away"


def test_an_observer_that_can_not_record_ends_the_run() -> None:
    class FullDisk:
        def changed(self, changes: object) -> None:
            raise OSError(28, "No space left on device")

        def task_line(self, *_: object) -> None: ...

        def run_line(self, *_: object) -> None: ...

    from dagy.artifacts import RunOutputs
    from dagy.attempts import Workplace
    from dagy.building import build_flow
    from dagy.engine import Engine
    from dagy.runners import LocalRunner
    from dagy.testing import MemoryObjects

    @flow
    def small() -> None:
        one()

    built = build_flow(small, (), {})
    place = Workplace(run_id="r", tasks=built.tasks, outputs=RunOutputs(MemoryObjects(), "r"), line=lambda *_: None)
    with pytest.raises(OSError, match="No space left"):
        Engine(built.spec, workplace=place, runner=LocalRunner(place), observer=FullDisk()).run()


def test_a_cycle_is_printed() -> None:
    nodes = tuple(
        TaskRunSpec(id=each, task="t", depends_on=(upstream,))
        for each, upstream in (("a", "c"), ("b", "a"), ("c", "b"))
    )
    spec = FlowSpec(name="f", tasks={"t": TaskSpec("t", "m:t")}, task_runs=nodes)
    with pytest.raises(DependencyCycleError) as caught:
        DagState(spec)
    assert str(caught.value) == "Dependency cycle detected or missing dependency output: a -> b -> c -> a"


def test_a_missing_dependency_is_named() -> None:
    spec = FlowSpec(name="f", task_runs=(TaskRunSpec(id="a", task="t", depends_on=("ghost",)),))
    with pytest.raises(DependencyCycleError, match="a depends on ghost, which is not in the flow"):
        DagState(spec)


# Random graphs


class Case:
    """A random graph whose tasks fail a given number of times before they return the sum of their parents plus one."""

    def __init__(self, parents: list[list[int]], failures: list[int], retries: int) -> None:
        self.parents, self.failures, self.retries = parents, failures, retries
        self.calls: dict[int, int] = {}
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Case(parents={self.parents}, failures={self.failures}, retries={self.retries})"

    def built(self) -> BuiltFlow:
        def work(number: int, above: list) -> int:
            with self.lock:
                self.calls[number] = attempt = self.calls.get(number, 0) + 1
            if attempt <= self.failures[number]:
                raise RuntimeError(f"failure {attempt} of {number}")
            return 1 + sum(above)

        node = task(name="node", retries=self.retries, retry_delay_seconds=1)(work)

        @flow
        def graph() -> Any:
            outputs: list[Any] = []
            for number, above in enumerate(self.parents):
                outputs.append(node(number, [outputs[parent] for parent in above]))
            return outputs

        from dagy.building import build_flow

        return build_flow(graph, (), {})

    def fails(self, number: int) -> bool:
        return self.failures[number] > self.retries

    def expected(self) -> list[str]:
        """The statuses without fail-fast, by a sequential evaluation."""
        statuses: list[str] = []
        for number, above in enumerate(self.parents):
            if any(statuses[parent] != "SUCCEEDED" for parent in above):
                statuses.append("SKIPPED")
            else:
                statuses.append("FAILED" if self.fails(number) else "SUCCEEDED")
        return statuses

    def values(self) -> list[int]:
        values: list[int] = []
        for above in self.parents:
            values.append(1 + sum(values[parent] for parent in above))
        return values


@st.composite
def cases(draw: st.DrawFn, *, failing: bool) -> Case:
    size = draw(st.integers(1, 24))
    parents = [
        draw(st.lists(st.integers(0, number - 1), unique=True, max_size=4)) if number else [] for number in range(size)
    ]
    retries = draw(st.integers(0, 2))
    failures = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)) if failing else [0] * size
    return Case(parents, failures, retries)


def check_history(case: Case, result: MemoryResult) -> None:
    """No task starts before its parents ended, statuses obey the table, and everything ends exactly once."""
    status = dict.fromkeys(range(len(case.parents)), TaskRunStatus.PENDING)
    for change in result.observer.changes:
        if isinstance(change, TaskRetrying):
            assert status[change.index] is TaskRunStatus.RUNNING
            continue
        new = TaskRunStatus.RUNNING if isinstance(change, TaskStarted) else change.status
        assert new in TASK_RUN_TRANSITIONS[status[change.index]]
        if isinstance(change, TaskStarted):
            assert all(status[parent] is TaskRunStatus.SUCCEEDED for parent in case.parents[change.index])
        status[change.index] = new
    assert all(each.is_terminal for each in status.values())


@given(case=cases(failing=False), workers=st.sampled_from([1, 2, 16]))
def test_without_failures_each_task_runs_once_and_results_are_those_of_a_sequential_evaluation(
    case: Case, workers: int
) -> None:
    result = execute_in_memory(case.built(), max_workers=workers)
    check_history(case, result)
    assert result.status == "SUCCEEDED"
    assert result.output == case.values()
    assert set(case.calls.values()) == {1}
    assert len(case.calls) == len(case.parents)


@given(case=cases(failing=True), workers=st.sampled_from([1, 2, 16]))
def test_without_fail_fast_statuses_are_those_of_a_sequential_evaluation(case: Case, workers: int) -> None:
    result = execute_in_memory(case.built(), max_workers=workers, fail_fast=False)
    check_history(case, result)
    expected = case.expected()
    assert [str(result.statuses[f"node-{number + 1}"]) for number in range(len(expected))] == expected
    for number, status in enumerate(expected):
        calls = 0 if status == "SKIPPED" else min(case.failures[number], case.retries) + 1
        assert case.calls.get(number, 0) == calls


@given(case=cases(failing=True), workers=st.sampled_from([1, 2, 16]))
def test_with_fail_fast_nothing_starts_after_the_first_failure(case: Case, workers: int) -> None:
    result = execute_in_memory(case.built(), max_workers=workers)
    check_history(case, result)
    failed = False
    for change in result.observer.changes:
        assert not (failed and isinstance(change, TaskStarted))
        failed = failed or (isinstance(change, TaskEnded) and change.status is TaskRunStatus.FAILED)
    below = set()
    for number, above in enumerate(case.parents):
        status = result.statuses[f"node-{number + 1}"]
        if any(parent in below for parent in above):
            assert status is TaskRunStatus.SKIPPED
        if status in (TaskRunStatus.FAILED, TaskRunStatus.SKIPPED):
            below.add(number)
    assert result.status == ("FAILED" if failed else "SUCCEEDED")
