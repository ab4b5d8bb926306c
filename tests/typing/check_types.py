"""What a type checker sees of a decorated function. Nothing here is executed: `mypy --strict` reads it.

A line with `assert_type` says what mypy infers, and a line with `type: ignore[code]` is wrong on purpose: mypy would
report an ignore that hides nothing. `tests/test_typing.py` checks both.
"""

from __future__ import annotations

from collections.abc import Callable

# typing has it from Python 3.11 on, and mypy looks as for 3.10.
from typing_extensions import assert_type

from dagy import Flow, FlowSpec, Hook, LocalRunResult, RunContext, RunStatus, State, Task, flow, task


@task
def read(path: str) -> list[int]:
    return [len(path)]


@task(retries=3, retry_delay_seconds=[1, 5], timeout_seconds=60)
def total(numbers: list[int], *, factor: int = 1) -> int:
    return sum(numbers) * factor


@task
def describe(numbers: list[int]) -> dict[str, float]:
    return {"mean": sum(numbers) / len(numbers)}


@task
def show(text: str) -> None:
    print(text)


@flow
def bare_flow(path: str = "in.csv") -> int:
    return total(read(path))


@flow(name="daily", version="1.0.0")
def daily_flow(path: str, factor: int = 1) -> int:
    return total(read(path), factor=factor)


@flow
def no_parameters() -> int:
    return total([1])


def both_forms_of_task_keep_parameters_and_result() -> None:
    as_task: Task[[str], list[int]] = read
    assert_type(as_task("in.csv"), list[int])
    assert_type(read("in.csv"), list[int])
    assert_type(total([1, 2], factor=3), int)
    assert_type(show("text"), None)


def wrong_arguments_of_a_bare_task_are_errors() -> None:
    read(1)  # type: ignore[arg-type]
    read()  # type: ignore[call-arg]
    read("in.csv", "out.csv")  # type: ignore[call-arg]
    read(file="in.csv")  # type: ignore[call-arg]


def wrong_arguments_of_a_task_with_settings_are_errors() -> None:
    total(["a"])  # type: ignore[list-item]
    total([1], factor="2")  # type: ignore[arg-type]
    total([1], 2)  # type: ignore[call-arg]  # factor has no position
    total([1], scale=2)  # type: ignore[call-arg]


@flow
def outputs_fit_where_their_declared_type_fits(path: str) -> None:
    numbers = read(path)
    assert_type(numbers, list[int])
    total(numbers)
    total([numbers[0], total(numbers)])
    assert_type(describe(numbers)["mean"], float)


@flow
def outputs_of_another_type_are_errors(path: str) -> None:
    numbers = read(path)
    show(numbers)  # type: ignore[arg-type]
    read(total(numbers))  # type: ignore[arg-type]
    total(numbers[0])  # type: ignore[arg-type]
    total([numbers])  # type: ignore[list-item]
    total(numbers, factor=describe(numbers)["mean"])  # type: ignore[arg-type]
    total(show("text"))  # type: ignore[arg-type]


@flow
def a_flow_returns_what_it_declares(path: str) -> str:
    return total(read(path))  # type: ignore[return-value]


def both_forms_of_flow_keep_parameters_and_result() -> None:
    as_flow: Flow[[], int] = no_parameters
    assert_type(as_flow(), int)
    assert_type(bare_flow(), int)
    assert_type(bare_flow("in.csv"), int)
    assert_type(daily_flow("in.csv", factor=2), int)
    bare_flow(1)  # type: ignore[arg-type]
    daily_flow()  # type: ignore[call-arg]
    daily_flow("in.csv", factor="2")  # type: ignore[arg-type]
    daily_flow("in.csv", scale=2)  # type: ignore[call-arg]


@flow
def a_flow_inside_a_flow_is_typed_as_well(path: str) -> int:
    assert_type(daily_flow(path), int)
    show(daily_flow(path))  # type: ignore[arg-type]
    return daily_flow(path)


def build_takes_the_parameters_of_the_flow() -> None:
    assert_type(daily_flow.build("in.csv", factor=2), FlowSpec)
    daily_flow.build()  # type: ignore[call-arg]
    daily_flow.build("in.csv", factor="2")  # type: ignore[arg-type]


def a_local_run_has_a_typed_result() -> None:
    result = daily_flow.run_local(max_workers=2, fail_fast=False, path="in.csv")
    assert_type(result, LocalRunResult)
    assert_type(result.status, RunStatus)
    assert_type(result.run_id, str)
    daily_flow.run_local(max_workers="2", path="in.csv")  # type: ignore[arg-type]


def fn_is_the_plain_function() -> None:
    assert_type(read.fn("in.csv"), list[int])
    assert_type(total.fn([1], factor=2), int)
    assert_type(daily_flow.fn("in.csv"), int)
    plain: Callable[[str], list[int]] = read.fn
    plain("in.csv")
    read.fn(1)  # type: ignore[arg-type]
    total.fn([1], factor="2")  # type: ignore[arg-type]
    daily_flow.fn()  # type: ignore[call-arg]


def log(ctx: RunContext, state: State) -> None:
    assert_type(ctx.attempt, int)
    assert_type(state.type, str)
    assert_type(state.message, str | None)


def hook_of(actor: str) -> Hook:
    def hook(ctx: RunContext, state: State) -> None:
        print(actor, ctx.name, state.type)

    return hook


def no_hook(ctx: RunContext) -> None:
    print(ctx.name)


def says_yes(error: Exception) -> str:
    return str(error)


def is_temporary(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def settings_are_typed() -> None:
    task(on_running=[log, hook_of("me")], retry_condition_fn=is_temporary)
    task(retries=5, retry_delay_seconds=lambda n: [2**i for i in range(n)])
    flow(on_failure=[log], tags={"team": "data"})
    task(on_running=[no_hook])  # type: ignore[list-item]
    task(on_running=log)  # type: ignore[call-overload]
    task(retry_condition_fn=says_yes)  # type: ignore[arg-type]
    task(retries="3")  # type: ignore[arg-type]
    flow(version=1)  # type: ignore[call-overload]
    flow(retry=3)  # type: ignore[call-overload]
