"""What tasks and flows accept as settings, and what they say about everything else."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import Flow, Task, allow_failed, choose, flow, task
from dagy.errors import FlowDefinitionError, RetryConfigurationError
from dagy.retry import retry_delays
from dagy.settings import LONGEST_SECONDS
from dagy.testing import InstantClock, run_in_memory


@task
def say(word: Any) -> Any:
    return word


@task
def back_up() -> None: ...


def built(body: Callable[[], Any]) -> Any:
    return flow(name="body")(body).build()


def refusal(body: Callable[[], Any]) -> str:
    """Return what the flow of this body says instead of being built."""
    with pytest.raises(FlowDefinitionError) as caught:
        built(body)
    return str(caught.value)


def delays(of: Task[Any, Any], settings: dict[str, Any]) -> list[tuple[float, ...]]:
    return [rule.delays_seconds for rule in of.with_settings(settings).retry_rules]


# Retries of one call


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"retries": 1}, (30.0,)),
        ({"retries": 3}, (30.0, 30.0, 30.0)),
        ({"retries": 0}, ()),
        ({"retry_delay_seconds": 2}, (2.0, 2.0)),
        ({"retries": 1, "retry_delay_seconds": None}, (0.0,)),
        ({"retries": 3, "retry_delay_seconds": [1, 5]}, (1.0, 5.0, 5.0)),
    ],
)
def test_one_call_keeps_the_half_of_the_retries_that_it_does_not_set(settings: Any, expected: Any) -> None:
    plain = task(retries=2, retry_delay_seconds=30)(lambda: None)
    assert delays(plain, settings) == [expected]


def test_the_delay_of_a_task_without_retries_counts_for_a_call_that_has_some() -> None:
    assert delays(task(retry_delay_seconds=30)(lambda: None), {"retries": 1}) == [(30.0,)]


def test_a_function_for_the_delays_is_asked_again() -> None:
    growing = task(retries=1, retry_delay_seconds=lambda retries: [2.0**n for n in range(retries)])(lambda: None)
    assert delays(growing, {"retries": 3}) == [(1.0, 2.0, 4.0)]


def test_settings_change_one_after_the_other() -> None:
    once = task(retries=2, retry_delay_seconds=30)(lambda: None).with_settings({"retry_delay_seconds": 7})
    assert delays(once, {"retries": 1}) == [(7.0,)]


@given(st.integers(0, 5), st.lists(st.floats(0, 1e8), min_size=1, max_size=4), st.integers(0, 5))
def test_a_call_with_other_retries_waits_as_the_task_would_with_them(before: int, waits: list[float], now: int) -> None:
    some = task(retries=before, retry_delay_seconds=waits)(lambda: None)
    assert delays(some, {"retries": now}) == [retry_delays(now, waits, owner="it")]


def test_a_run_waits_the_delay_of_the_task() -> None:
    @task(retries=2, retry_delay_seconds=30)
    def broken() -> None:
        raise ConnectionError

    clock = InstantClock()

    @flow
    def changed() -> Any:
        return broken.options(retries=1)()

    assert run_in_memory(changed, clock=clock).status == "FAILED"
    assert [round(each) for each in clock.skipped] == [30]


def test_a_delay_for_one_call_of_a_task_with_rules_is_refused() -> None:
    ruled = task(name="ruled", retries=[(ConnectionError, 3, 1)])(lambda: None)
    with pytest.raises(RetryConfigurationError, match=r"'ruled' has rules in retries.*; give this call retries, too"):
        ruled.options(retry_delay_seconds=2)


def test_a_call_may_replace_rules_by_a_number() -> None:
    ruled = task(retries=[(ConnectionError, 3, 1)])(lambda: None)
    assert delays(ruled, {"retries": 2}) == [(0.0, 0.0)]
    assert delays(ruled, {"retries": 2, "retry_delay_seconds": 4}) == [(4.0, 4.0)]


# Seconds


@pytest.mark.parametrize("kind", [task, flow])
@pytest.mark.parametrize(
    "seconds", [1e10, pytest.param(10**400, id="huge"), math.nan, math.inf, -math.inf, 0, -1, True, "5"]
)
def test_a_timeout_that_can_not_be_waited_for_is_refused(kind: Any, seconds: Any) -> None:
    with pytest.raises(FlowDefinitionError, match=r"timeout_seconds .* above 0 and up to 100000000"):
        kind(name="it", timeout_seconds=seconds)(lambda: None)


@pytest.mark.parametrize("kind", [task, flow])
@pytest.mark.parametrize("seconds", [1e10, pytest.param(10**400, id="huge"), math.nan, math.inf, -1, True, "x"])
def test_a_delay_that_can_not_be_waited_for_is_refused(kind: Any, seconds: Any) -> None:
    with pytest.raises(RetryConfigurationError, match="retry_delay_seconds of"):
        kind(name="it", retries=1, retry_delay_seconds=[seconds])(lambda: None)
    with pytest.raises(RetryConfigurationError, match="from 0 to 100000000"):
        kind(name="it", retries=1, retry_delay_seconds=[1e10])(lambda: None)


@pytest.mark.parametrize("kind", [task, flow])
def test_the_longest_times_are_accepted(kind: Any) -> None:
    longest = kind(name="it", timeout_seconds=LONGEST_SECONDS, retries=1, retry_delay_seconds=LONGEST_SECONDS)(say.fn)
    assert longest.timeout_seconds == LONGEST_SECONDS
    assert longest.retry_rules[0].delays_seconds == (LONGEST_SECONDS,)


def test_a_server_that_asks_for_ages_gets_the_longest_delay() -> None:
    class Throttled(Exception):
        retry_after = 1e10

    assert task(retries=1)(say.fn).retry_delay(Throttled(), 1) == LONGEST_SECONDS


@pytest.mark.parametrize("after", ["1d", [], object(), True, math.nan, math.inf, 0, -1, timedelta(0)])
def test_an_expiry_that_is_no_time_is_named(after: Any) -> None:
    with pytest.raises(FlowDefinitionError, match=r"cache_expires_after of task 'it' must be .* or a timedelta"):
        task(name="it", cache="inputs", cache_expires_after=after)(lambda: None)


@pytest.mark.parametrize(("after", "seconds"), [(None, None), (3600, 3600), (0.5, 0.5), (timedelta(days=1), 86400)])
def test_an_expiry_is_seconds_or_a_timedelta(after: Any, seconds: Any) -> None:
    assert task(cache="inputs", cache_expires_after=after)(say.fn).cache_expires_seconds == seconds


# Options of one call


@pytest.mark.parametrize("wrap", [lambda output: output, lambda output: [output], lambda output: iter((output,))])
def test_a_call_comes_after_one_output_or_several(wrap: Any) -> None:
    def body() -> None:
        say.options(after=wrap(back_up()))("x")

    assert built(body).edges == [("back_up-1", "say-1")]


def test_a_call_may_come_after_a_part_a_choice_and_what_may_fail() -> None:
    def body() -> None:
        say.options(after=say("x")["a"])("y")
        say.options(after=allow_failed(back_up()))("y")
        say.options(after=choose(say("x"), {"x": lambda: say("y")}))("z")

    edges = built(body).edges
    assert ("say-1", "say-2") in edges
    assert ("back_up-1", "say-3") in edges
    assert ("say-5", "say-6") in edges


@pytest.mark.parametrize("after", [5, "back_up-1", {"a": 1}, None])
def test_what_nothing_can_come_after_is_refused(after: Any) -> None:
    message = refusal(lambda: say.options(after=after)("x"))
    assert message.startswith("after of a call of task 'say' must be a task output or a list of them, got ")


def test_outside_of_a_flow_after_means_nothing() -> None:
    assert say.options(after=back_up())("x") == "x"
    assert say.options(after=[back_up()])("x") == "x"


@pytest.mark.parametrize("name", ["", "  ", 5, "a\nb", "a\x00b"])
def test_a_call_needs_a_name_of_one_line(name: Any) -> None:
    with pytest.raises(FlowDefinitionError, match="name of a call of task 'say' must be"):
        say.options(name=name)
    with pytest.raises(FlowDefinitionError, match="map_name of a call of task 'say' must be"):
        say.options(map_name=name)


# What is not known yet


def chosen() -> Any:
    return choose(say("a"), {"a": lambda: say(1), "b": lambda: [say(2)]})


def tolerated() -> Any:
    return allow_failed(say("a"))


def test_what_stands_for_a_value_can_be_printed() -> None:
    seen: list[str] = []

    def body() -> None:
        seen.extend([repr(chosen()), repr(tolerated())])

    built(body)
    assert seen == [
        "<result of choose(): <output of say-2> or [<output of say-3>]>",
        "<allow_failed of <output of say-4>>",
    ]


@pytest.mark.parametrize(("make", "named"), [(chosen, "result of choose"), (tolerated, "allow_failed of")])
@pytest.mark.parametrize(
    ("use", "wish"),
    [
        (lambda value: value[0], "indexed"),
        (lambda value: value["key"], "indexed"),
        (bool, "used as a condition"),
        (list, "iterated or unpacked"),
        (len, "measured"),
        (lambda value: 1 in value, "searched"),
        (str, "made text of"),
        (lambda value: f"{value}", "made text of"),
        (lambda value: value == 1, "compared"),
        (lambda value: value != 1, "compared"),
        (lambda value: value < 1, "compared"),
        (lambda value: 1 + value, "used in an expression"),
    ],
)
def test_what_needs_a_value_now_says_what_to_write_instead(make: Any, named: str, use: Any, wish: str) -> None:
    message = refusal(lambda: use(make()))
    assert "TypeError: " in message
    assert named in message
    assert f"has no value while the flow is built, so it can not be {wish}; " in message
    assert "a task that takes it as an argument" in message


def test_a_choice_can_not_be_mapped_and_the_message_says_why() -> None:
    message = refusal(lambda: say.map(chosen()))
    assert "the result of choose() can not be mapped, because which branch runs is not known" in message
    assert "pass it to a task that returns the list, and map over the output of that" in message


def test_what_may_have_failed_can_not_be_mapped_and_the_message_says_why() -> None:
    message = refusal(lambda: say.map(tolerated()))
    assert "pass allow_failed() to a task that returns the list" in message


# Arguments that have no form in a spec


class Rows(list[int]):
    pass


class Pair(tuple[int, ...]):
    __slots__ = ()


class Scalar:
    """What the scalars of numpy have."""

    def item(self) -> int:
        return 1

    def tolist(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "kind", "way_out"),
    [
        (Rows([1]), "Rows", "pass list(...) of it"),
        (Pair((1,)), "Pair", "pass tuple(...) of it"),
        (collections.OrderedDict(a=1), "OrderedDict", "pass dict(...) of it"),
        ((each for each in [1]), "generator", "pass list(...) of it"),
        (map(str, [1]), "map", "pass list(...) of it"),
        ({"a": 1}.keys(), "dict_keys", "pass list(...) of it"),
        (Scalar(), "Scalar", "pass its .tolist()"),
        (object(), "object", "pass JSON values, dates, enums, dataclasses or pydantic models"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"deep": [value]}], ids=["bare", "deep"])
def test_an_argument_without_a_form_is_named_with_the_way_out(wrap: Any, value: Any, kind: str, way_out: str) -> None:
    message = refusal(lambda: say(wrap(value)))
    assert message.startswith("Task 'say' is given a ")
    assert f"{kind} in argument 'word', which can not be written into the flow's spec; {way_out}" in message


def test_scalars_and_arrays_of_numpy_are_named() -> None:
    numpy = pytest.importorskip("numpy")
    assert "numpy.int64 in argument 'word'" in refusal(lambda: say(numpy.int64(1)))
    assert "pass its .tolist()" in refusal(lambda: say(numpy.arange(3)))
    assert built(lambda: say(numpy.float64(0.5))).task_runs[0].inputs == {"word": 0.5}


# Building again


def test_a_flow_that_is_built_again_has_the_same_code() -> None:
    first, second = (built(lambda: say("x")).tasks["say"].code_hash for _ in range(2))
    assert first == second


def test_a_callable_object_is_a_task_whose_code_is_known() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __init__(self) -> None:
            self.__name__ = self.__qualname__ = "unhashable"

        def __call__(self) -> int:
            return 1

    some = task(name="some")(Unhashable())
    assert built(lambda: some()).tasks["some"].code_hash


def test_an_async_function_is_called_as_it_is_outside_of_a_flow() -> None:
    @task
    async def later() -> int:
        return 1

    assert isinstance(later, Task)
    assert not isinstance(later, Flow)
    assert asyncio.run(later()) == 1


def test_a_partial_or_a_callable_object_can_be_a_task() -> None:
    import functools

    from dagy import flow
    from dagy.testing import run_in_memory

    class Echo:
        def __call__(self, x: int) -> int:
            return x

    added = task(name="added")(functools.partial(lambda x, y: x + y, 1))
    echoed = task(name="echoed")(Echo())

    @flow
    def both() -> list[int]:
        return [added(2), echoed(3)]

    assert run_in_memory(both).output == [3, 3]
