"""Maps, conditions, branches, partial success and clean-up: what a flow can say, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import Settled, allow_failed, choose, flow, run_local, task, tear_down, unmapped
from dagy.engine import Stop
from dagy.errors import FlowDefinitionError, RetryConfigurationError, TaskFailedError
from dagy.local.home import Home
from dagy.local.store import LocalStore
from dagy.status import RunStatus
from dagy.testing import InstantClock, run_in_memory


@task
def numbers(count: int) -> list:
    return list(range(count))


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task
def total(xs: list) -> int:
    return sum(xs)


@task
def odd_fails(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@task
def report(parts: Settled) -> dict:
    return {"results": parts.results, "failures": [list(each) for each in parts.failures]}


@task
def say(word: Any) -> Any:
    return word


# Maps


def test_a_map_goes_over_a_list_of_the_body() -> None:
    @flow
    def mapped() -> Any:
        return total(double.map([1, 2, 3]))

    result = run_in_memory(mapped, max_workers=4)
    assert result.output == 12
    assert result.statuses == {
        "double-1": "SUCCEEDED",
        "double-1[0]": "SUCCEEDED",
        "double-1[1]": "SUCCEEDED",
        "double-1[2]": "SUCCEEDED",
        "total-1": "SUCCEEDED",
    }


def test_a_map_goes_over_a_list_that_is_known_only_at_run_time() -> None:
    @flow
    def mapped(count: int) -> Any:
        return double.map(numbers(count))

    assert run_in_memory(mapped, count=4).output == [0, 2, 4, 6]
    assert run_in_memory(mapped, count=0).output == []


def test_several_lists_are_zipped_and_unmapped_arguments_passed_whole() -> None:
    @flow
    def mapped() -> Any:
        return [add.map(numbers(3), [10, 20, 30]), add.map(numbers(2), unmapped(5)), add.map(x=numbers(2))]

    assert run_in_memory(mapped).output == [[10, 21, 32], [5, 6], [0, 1]]


def test_a_map_over_a_map_follows_item_by_item() -> None:
    @flow
    def mapped() -> Any:
        return total(double.map(double.map(numbers(3))))

    assert run_in_memory(mapped, max_workers=3).output == 12


def test_a_map_over_outputs_in_a_list() -> None:
    @flow
    def mapped() -> Any:
        return double.map([say(1), say(2)])

    assert run_in_memory(mapped).output == [2, 4]


def test_items_have_names_where_wanted() -> None:
    @flow
    def mapped() -> Any:
        return double.options(map_name="customer {x}").map(numbers(2))

    result = run_in_memory(mapped)
    labels = {change.node.id: change.node.label for change in result.observer.changes if change.node.kind == "item"}
    assert labels == {"double-1[0]": "customer 0", "double-1[1]": "customer 1"}


def test_a_map_holds_its_concurrency() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    together = threading.Barrier(2)

    @task
    def slow(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(10)
        with lock:
            running[0] -= 1

    @flow
    def mapped() -> None:
        slow.options(max_concurrency=2).map(numbers(6))

    assert run_in_memory(mapped, max_workers=6).status == "SUCCEEDED"
    assert most == [2]


def test_items_are_retried_one_by_one() -> None:
    calls: dict[int, int] = {}

    @task(retries=1, retry_delay_seconds=60)
    def flaky(x: int) -> int:
        calls[x] = calls.get(x, 0) + 1
        if x == 1 and calls[x] == 1:
            raise ConnectionError("away")
        return x

    @flow
    def mapped() -> Any:
        return flaky.map(numbers(3))

    result = run_in_memory(mapped)
    assert result.output == [0, 1, 2]
    assert calls == {0: 1, 1: 2, 2: 1}


def test_a_failed_item_fails_the_map_and_what_needs_it() -> None:
    @flow
    def mapped() -> Any:
        return total(odd_fails.map(numbers(4)))

    result = run_in_memory(mapped, fail_fast=False)
    assert result.status == "FAILED"
    assert result.statuses["odd_fails-1[2]"] == "SUCCEEDED"
    assert result.statuses["odd_fails-1"] == "FAILED"
    assert result.errors["odd_fails-1"] == "2 of 4 items did not succeed"
    assert result.statuses["total-1"] == "SKIPPED"


def test_fail_fast_stops_a_map() -> None:
    @flow
    def mapped() -> None:
        total(odd_fails.map(numbers(4)))

    result = run_in_memory(mapped, max_workers=1)
    assert result.error_message == "Task odd_fails failed: ValueError: 1 is odd"
    assert [str(result.statuses[f"odd_fails-1[{item}]"]) for item in range(4)] == [
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "CANCELLED",
    ]
    assert result.statuses["odd_fails-1"] == "FAILED"
    assert result.statuses["total-1"] == "SKIPPED"


def test_allow_failed_gives_results_and_failures_and_keeps_the_run_going() -> None:
    @flow
    def mapped() -> Any:
        return report(allow_failed(odd_fails.map(numbers(4))))  # type: ignore[arg-type]

    result = run_in_memory(mapped)
    assert result.status == "SUCCEEDED"
    assert result.output == {
        "results": [0, 2],
        "failures": [["odd_fails-1[1]", "ValueError: 1 is odd"], ["odd_fails-1[3]", "ValueError: 3 is odd"]],
    }


def test_allow_failed_of_a_single_task() -> None:
    @flow
    def single() -> Any:
        return report(allow_failed(odd_fails(1)))

    assert run_in_memory(single).output == {"results": [], "failures": [["odd_fails-1", "ValueError: 1 is odd"]]}


@pytest.mark.parametrize("value", ["text", None, 5, {"a": 1}])
def test_a_map_over_something_else_than_a_list_is_refused(value: Any) -> None:
    @flow
    def literal() -> None:
        say.map(value)

    with pytest.raises(FlowDefinitionError, match=r"map\(\) of task 'say' goes over 'word'.* and not a list"):
        run_in_memory(literal)

    @flow
    def at_run_time() -> None:
        say.map(say(value))

    result = run_in_memory(at_run_time)
    assert result.status == "FAILED"
    assert "say-2 maps over 'word'" in (result.error_message or "")
    assert "and not a list" in (result.error_message or "")


def test_lists_of_unequal_length_are_refused() -> None:
    @flow
    def literal() -> None:
        add.map([1, 2], [1, 2, 3])

    with pytest.raises(FlowDefinitionError, match="x has 2, y has 3; wrap one in unmapped"):
        run_in_memory(literal)

    @flow
    def at_run_time() -> None:
        add.map(numbers(2), numbers(3))

    result = run_in_memory(at_run_time)
    assert "add-1 maps over lists of unequal length: x has 2, y has 3" in (result.error_message or "")


def test_outside_of_a_flow_a_map_is_a_loop() -> None:
    assert add.map([1, 2], unmapped(10)) == [11, 12]
    assert add.options(retries=3)(1, 2) == 3


def test_a_map_is_recorded_with_its_items(tmp_path: Path) -> None:
    @flow
    def mapped() -> Any:
        return double.options(map_name="<{x}>").map(numbers(3))

    result = run_local(mapped, {}, home=tmp_path, max_workers=2)
    assert result.output() == [0, 2, 4]
    record = LocalStore(Home(tmp_path), warn=pytest.fail).run(result.run_id)
    assert record is not None
    assert {(each.task_run_id, each.label) for each in record.task_runs} == {
        ("numbers-1", None),
        ("double-1", None),
        ("double-1[0]", "<0>"),
        ("double-1[1]", "<1>"),
        ("double-1[2]", "<2>"),
    }
    assert (Home(tmp_path).task_run_folder(result.run_id, "double-1[1]") / "task.log").exists()


# Conditions


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (lambda out: out["ok"], True),
        (lambda out: ~out["ok"], False),
        (lambda out: out["n"] == 3, True),
        (lambda out: out["n"] != 3, False),
        (lambda out: out["n"] < 3, False),
        (lambda out: out["n"] <= 3, True),
        (lambda out: (out["n"] > 2) & out["ok"], True),
        (lambda out: (out["n"] >= 4) | ~(out["n"] == 3), False),
    ],
)
def test_a_condition_decides_whether_a_task_runs(condition: Any, holds: bool) -> None:
    @flow
    def conditional() -> Any:
        checked = say({"ok": True, "n": 3})
        return say.options(when=condition(checked))("ran")

    result = run_in_memory(conditional)
    assert result.status == "SUCCEEDED"
    assert result.statuses["say-2"] == ("SUCCEEDED" if holds else "SKIPPED")
    assert result.output == ("ran" if holds else None)


def test_what_depends_on_a_skipped_task_is_skipped_and_the_run_succeeds() -> None:
    @flow
    def conditional() -> None:
        skipped = say.options(when=say(False))(1)
        double(double(skipped))

    result = run_in_memory(conditional)
    assert result.status == "SUCCEEDED"
    assert result.statuses == {"say-1": "SUCCEEDED", "say-2": "SKIPPED", "double-1": "SKIPPED", "double-2": "SKIPPED"}
    assert result.errors["say-2"] == "Its condition does not hold"
    assert result.errors["double-1"] == "A task run that it depends on was skipped"


@pytest.mark.parametrize(
    ("rule", "statuses"),
    [
        ("all_succeeded", ["SKIPPED", "SKIPPED", "SKIPPED", "SUCCEEDED"]),
        ("none_failed", ["SKIPPED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]),
        ("any_succeeded", ["SUCCEEDED", "SUCCEEDED", "SKIPPED", "SUCCEEDED"]),
        ("all_done", ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]),
    ],
)
def test_trigger_rules_decide_by_what_became_of_the_parents(rule: str, statuses: list[str]) -> None:
    @flow
    def joins() -> None:
        good, bad, skipped = say(1), odd_fails(1), say.options(when=say(False))(2)
        for parents in ([good, bad], [good, skipped], [skipped], [good]):
            say.options(trigger_rule=rule, name="join")(parents)

    result = run_in_memory(joins, fail_fast=False)
    assert [str(result.statuses[f"join-{number}"]) for number in range(1, 5)] == statuses


def test_after_makes_an_order_without_passing_anything() -> None:
    @flow
    def ordered() -> None:
        first = say(1)
        say.options(after=[double.options(after=[first])(1)])(2)

    assert run_in_memory(ordered, max_workers=4).started == ["say-1", "double-1", "say-2"]


def test_a_condition_on_a_failed_task_is_not_decided() -> None:
    @flow
    def conditional() -> None:
        say.options(when=odd_fails(1) == 1)(1)

    assert run_in_memory(conditional, fail_fast=False).statuses["say-1"] == "SKIPPED"


def test_a_condition_that_can_not_be_decided_says_so() -> None:
    @flow
    def conditional() -> None:
        say.options(when=say({"a": 1})["b"])(1)

    result = run_in_memory(conditional)
    assert result.error_message == "Task say failed: The condition of say-2 can not be decided: KeyError: 'b'"


@pytest.mark.parametrize(("kind", "expected"), [("full", 1), ("partial", 4), ("other", "default")])
def test_choose_executes_one_branch(kind: str, expected: Any) -> None:
    @flow
    def branches() -> Any:
        chosen = choose(
            say(kind), {"full": lambda: say(1), "partial": lambda: double(say(2))}, default=lambda: say("default")
        )
        return say.options(name="join")(chosen)

    result = run_in_memory(branches)
    assert result.status == "SUCCEEDED"
    assert result.output == expected


def test_choose_without_a_default_may_execute_nothing() -> None:
    @flow
    def branches() -> Any:
        return say.options(name="join")(choose(say("other"), {"full": lambda: say(1)}))

    assert run_in_memory(branches).output is None


def test_choose_outside_of_a_flow_calls_the_branch() -> None:
    assert choose("a", {"a": lambda: say(1)}) == 1
    assert choose("b", {"a": lambda: say(1)}) is None


# Clean-up


def torn(fails: bool, log: list[str]) -> Any:
    @task
    def start() -> str:
        log.append("start")
        return "server"

    @task
    def use(server: str) -> None:
        log.append(f"use {server}")
        if fails:
            raise RuntimeError("broken")

    @task
    def stop(server: str) -> None:
        log.append(f"stop {server}")

    @flow
    def serving() -> None:
        server = start()
        with tear_down(stop, server):
            use(use(server))  # type: ignore[func-returns-value, arg-type]

    return serving


def test_a_tear_down_runs_after_its_block() -> None:
    log: list[str] = []
    result = run_in_memory(torn(False, log))
    assert result.status == "FAILED"  # the second `use` gets None
    assert log == ["start", "use server", "stop server"]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_tear_down_runs_when_its_block_failed(fail_fast: bool) -> None:
    log: list[str] = []
    result = run_in_memory(torn(True, log), fail_fast=fail_fast)
    assert result.status == "FAILED"
    assert result.statuses["stop-1"] == "SUCCEEDED"
    assert log == ["start", "use server", "stop server"]


def test_a_tear_down_runs_when_the_run_is_stopped_and_not_without_its_set_up() -> None:
    log: list[str] = []
    result = run_in_memory(torn(False, log), stop=Stop(RunStatus.CANCELLED, "Cancelled by user"))
    assert result.status == "CANCELLED"
    assert log in (["start", "stop server"], [])
    assert result.statuses["stop-1"] == ("SUCCEEDED" if log else "SKIPPED")


def test_tear_downs_nest() -> None:
    log: list[str] = []

    @task
    def note(word: str) -> str:
        log.append(word)
        return word

    @flow
    def nested() -> None:
        outer = note("outer")
        with tear_down(note, outer):
            inner = note("inner")
            with tear_down(note, inner):
                odd_fails(1)

    result = run_in_memory(nested, max_workers=1)
    assert result.status == "FAILED"
    assert log == ["outer", "inner", "inner", "outer"]


# Async


def test_async_tasks_wait_together_on_one_worker() -> None:
    together: list[int] = []

    @task
    async def wait(x: int) -> int:
        together.append(x)
        while len(together) < 50:
            await asyncio.sleep(0)
        return x

    @flow
    def waiting() -> Any:
        return total(wait.map(numbers(50)))

    result = run_in_memory(waiting, max_workers=1)
    assert result.output == sum(range(50))


def test_async_tasks_are_retried_and_time_out_for_real() -> None:
    cancelled: list[str] = []
    calls = iter(range(10))

    @task(retries=1, timeout_seconds=0.05)
    async def slow_once() -> str:
        if next(calls) == 0:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append("cancelled")
                raise
        return "in time"

    @flow
    def waiting() -> Any:
        return slow_once()

    result = run_in_memory(waiting)
    assert (result.output, result.attempts["slow_once-1"], cancelled) == ("in time", 2, ["cancelled"])


def test_an_async_task_that_raises_fails() -> None:
    @task
    async def breaks() -> None:
        print("before")
        raise ValueError("no")

    @flow
    def waiting() -> None:
        breaks()

    result = run_in_memory(waiting)
    assert result.errors == {"breaks-1": "ValueError: no"}


# Retry rules


def test_the_first_rule_that_fits_decides() -> None:
    errors = iter([ConnectionError("a"), TimeoutError("b"), ConnectionError("c"), None])

    @task(retries=[(TimeoutError, 3, 5), (ConnectionError, 3, [10, 20, 30])])
    def flaky() -> str:
        if (error := next(errors)) is not None:
            raise error
        return "done"

    @flow
    def retried() -> Any:
        return flaky()

    clock = InstantClock()
    assert run_in_memory(retried, clock=clock).output == "done"
    assert [round(each) for each in clock.skipped] == [10, 5, 30]


def test_an_exception_that_no_rule_names_is_final() -> None:
    @task(retries=[((TimeoutError, ConnectionError), 3)])
    def breaks() -> None:
        raise ValueError("no")

    @flow
    def once() -> None:
        breaks()

    assert run_in_memory(once).attempts == {"breaks-1": 1}


def test_retry_after_is_honoured() -> None:
    class Throttled(Exception):
        retry_after = 120

    errors = iter([True, False])

    @task(retries=1, retry_delay_seconds=1)
    def throttled() -> int:
        if next(errors):
            raise Throttled
        return 1

    @flow
    def retried() -> Any:
        return throttled()

    clock = InstantClock()
    assert run_in_memory(retried, clock=clock).output == 1
    assert [round(each) for each in clock.skipped] == [120]


@pytest.mark.parametrize("rules", [[ValueError], [("ValueError", 1)], [(ValueError, -1)], [(ValueError, 1, "x")]])
def test_wrong_rules_are_named(rules: Any) -> None:
    with pytest.raises(RetryConfigurationError):
        task(retries=rules)(lambda: None)


def test_settings_can_be_changed_for_one_call() -> None:
    calls = iter(range(10))

    @task
    def flaky() -> int:
        if next(calls) < 2:
            raise ConnectionError
        return 1

    @flow
    def changed() -> Any:
        return flaky.options(retries=2, retry_delay_seconds=[1, 2])()

    assert run_in_memory(changed).output == 1
    with pytest.raises(FlowDefinitionError, match="has no setting 'retriez'"):
        flaky.options(retriez=1)


# Processes


@task(isolation="process")
def process_id(x: int) -> list:
    print("in a process", x)
    return [os.getpid(), x]


@task(isolation="process", timeout_seconds=0.5)
def sleeps_in_a_process() -> None:
    time.sleep(60)


@task(isolation="process")
def breaks_in_a_process() -> None:
    raise KeyError("missing")


@task(isolation="process")
def dies_in_a_process() -> None:
    os._exit(7)


@pytest.mark.slow
def test_a_process_task_runs_elsewhere_and_its_output_is_captured() -> None:
    @flow
    def isolated() -> Any:
        return process_id.map(numbers(4))

    result = run_in_memory(isolated, max_workers=2)
    assert [x for _, x in result.output] == [0, 1, 2, 3]
    processes = {pid for pid, _ in result.output}
    assert os.getpid() not in processes
    assert len(processes) <= 2
    assert "OUT in a process 2" in [line for lines in result.observer.task_lines.values() for line in lines]


@pytest.mark.slow
def test_a_timeout_kills_the_process() -> None:
    @flow
    def isolated() -> None:
        sleeps_in_a_process()

    begin = time.monotonic()
    result = run_in_memory(isolated)
    assert result.statuses == {"sleeps_in_a_process-1": "TIMED_OUT"}
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told() -> None:
    @flow
    def isolated() -> None:
        breaks_in_a_process()
        dies_in_a_process()

    result = run_in_memory(isolated, fail_fast=False)
    assert result.errors == {
        "breaks_in_a_process-1": "KeyError: 'missing'",
        "dies_in_a_process-1": "ProcessDied: The process of the task ended with code 7",
    }


# Sub-flows


def test_a_flow_inside_a_flow_is_a_named_group() -> None:
    @flow
    def inner(x: int) -> Any:
        return double(double(x))

    @flow
    def outer() -> Any:
        return total([inner(1), inner(2)])

    built = outer.build()
    assert [(node.id, node.group) for node in built.task_runs] == [
        ("double-1", "inner-1"),
        ("double-2", "inner-1"),
        ("double-3", "inner-2"),
        ("double-4", "inner-2"),
        ("total-1", None),
    ]
    assert run_in_memory(outer).output == 12


# Random flows


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Steps that each add an output: (kind, which earlier output, a number)."""
    steps = []
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["say", "map", "chain", "when", "fails", "tolerant", "any"]))
        steps.append((kind, draw(st.integers(0, number)), draw(st.integers(0, 5))))
    return steps


def program(steps: list[tuple[str, int, int]], *, as_async: bool) -> Any:
    def plain(value: Any) -> Any:
        return value

    async def waiting(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def breaking(value: Any) -> Any:
        raise ValueError("broken")

    same = task(name="same")(waiting if as_async else plain)
    broken = task(name="broken")(breaking)

    @flow
    def random_flow() -> Any:
        outputs: list[Any] = [numbers(3)]
        for kind, source, number in steps:
            given_ = outputs[source]
            if kind == "say":
                outputs.append(same([given_, number]))
            elif kind == "map":
                outputs.append(same.options(max_concurrency=1 + number).map(numbers(number)))
            elif kind == "chain":
                outputs.append(same.map(same.map(numbers(number))))
            elif kind == "when":
                outputs.append(same.options(when=same(number) > 2, after=[given_])(number))
            elif kind == "fails":
                outputs.append(broken([given_]))
            elif kind == "tolerant":
                outputs.append(report(allow_failed(broken.map(numbers(number)))))  # type: ignore[arg-type]
            else:
                outputs.append(same.options(trigger_rule="all_done")([given_, outputs[-1]]))
        return None

    return random_flow


@given(steps=programs())
def test_outcomes_do_not_depend_on_workers_or_on_async(steps: list[tuple[str, int, int]]) -> None:
    runs = [
        run_in_memory(program(steps, as_async=as_async), max_workers=workers, fail_fast=False)
        for workers, as_async in ((1, False), (16, False), (1, True), (16, True))
    ]
    assert len({str(sorted(run.statuses.items())) for run in runs}) == 1
    assert len({str(sorted(run.attempts.items())) for run in runs}) == 1
    assert len({run.status for run in runs}) == 1
    assert all(status.is_terminal for status in runs[0].statuses.values())


def test_a_failed_task_in_a_map_raises_from_run_local(tmp_path: Path) -> None:
    @flow
    def mapped() -> None:
        odd_fails.map([1])

    with pytest.raises(TaskFailedError, match="1 is odd"):
        run_local(mapped, {}, home=tmp_path)


def test_a_submitted_flow_has_a_run_of_its_own(tmp_path: Path) -> None:
    @flow
    def child(x: int) -> Any:
        return double(x)

    @flow
    def parent() -> Any:
        return total([child.submit(x=1), child.submit(x=2)])

    result = run_local(parent, {}, home=tmp_path, max_workers=2)
    assert result.output() == 6
    runs = LocalStore(Home(tmp_path), warn=pytest.fail).runs()
    assert {(run.flow_name, run.parent) for run in runs} == {
        ("parent", None),
        ("child", f"{result.run_id}/child-1"),
        ("child", f"{result.run_id}/child-2"),
    }
    assert run_in_memory(parent).output == 6


def test_a_submitted_flow_that_fails_fails_its_task_run(tmp_path: Path) -> None:
    @flow
    def child() -> Any:
        return odd_fails(1)

    @flow
    def parent() -> Any:
        return child.submit()

    with pytest.raises(TaskFailedError, match=r"Task child failed: .*1 is odd"):
        run_local(parent, {}, home=tmp_path)
    assert {str(run.status) for run in LocalStore(Home(tmp_path), warn=pytest.fail).runs()} == {"FAILED"}
    with pytest.raises(FlowDefinitionError, match="is for use inside another flow"):
        child.submit()


def test_a_failed_flow_is_retried_with_what_succeeded(tmp_path: Path) -> None:
    calls: list[str] = []

    @task
    def first() -> int:
        calls.append("first")
        return 1

    @task
    def second(x: int) -> int:
        calls.append("second")
        if calls.count("second") < 3:
            raise ConnectionError("away")
        return x + 1

    @flow(retries=[(ConnectionError, 2, [60, 120])])
    def retried() -> Any:
        return second(first())

    clock = InstantClock()
    result = run_local(retried, {}, home=tmp_path, clock=clock)
    assert result.output() == 2
    assert calls == ["first", "second", "second", "second"]
    assert [round(each) for each in clock.skipped] == [60, 120]
    runs = LocalStore(Home(tmp_path), warn=pytest.fail).runs()
    assert sorted(str(run.status) for run in runs) == ["FAILED", "FAILED", "SUCCEEDED"]


def test_logging_of_a_submitted_flow_is_written_once(tmp_path: Path) -> None:
    import logging

    @task
    def speaks() -> None:
        logging.getLogger("library").warning("once")

    @flow
    def child() -> None:
        speaks()

    @flow
    def parent() -> None:
        child.submit()

    run_local(parent, {}, home=tmp_path)
    (log,) = tmp_path.glob("runs/*/task_runs/speaks-1/task.log")
    assert log.read_text().count("once") == 1
