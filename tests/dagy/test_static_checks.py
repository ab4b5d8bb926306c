"""Static checks: what is certainly wrong is found, what may work is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy import LocalArtifact, choose, flow, task, tear_down
from dagy.building import build_flow
from dagy.checks import Mismatch, compile_check
from dagy.deploy import EXECUTION_MODES, EXECUTORS
from dagy.errors import FlowDefinitionError
from dagy.static_checks import EXECUTION_MODES as CHECKED_MODES
from dagy.static_checks import EXECUTORS as CHECKED_EXECUTORS
from dagy.static_checks import SEVERITIES, Finding, check_flow, refuse_errors
from dagy.type_fit import fits

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "check-a-flow.md"

T = TypeVar("T")


class Color(str, Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Custom:
    pass


def found(flow_: Any, *codes: str, **values: Any) -> list[Finding]:
    """The findings of these codes, or all but the one that every task inside a function has."""
    findings = check_flow(build_flow(flow_, (), values))
    return [each for each in findings if (each.code in codes if codes else each.code != "DAGY108")]


def messages(flow_: Any, *codes: str, **values: Any) -> list[str]:
    return [each.message for each in found(flow_, *codes, **values)]


def returning(annotation: Any, **settings: Any) -> Any:
    """A task `make` of this return type."""

    def make() -> Any: ...

    make.__annotations__["return"] = annotation
    return task(**settings)(make)


def taking(annotation: Any, **settings: Any) -> Any:
    """A task `take` of one parameter of this type."""

    def take(value: Any) -> None: ...

    take.__annotations__["value"] = annotation
    return task(**settings)(take)


def linked(produced: Any, wanted: Any) -> Any:
    make, take = returning(produced), taking(wanted)

    @flow
    def link() -> None:
        take(make())

    return link


@task
def text() -> str:
    return "a"


@task
def number() -> int:
    return 1


@task
def anything() -> Any:
    return 1


@task
def numbers() -> list[int]:
    return [1]


@task
def double(x: int) -> int:
    return 2 * x


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task
def note(value: Any) -> None: ...


# Types

MISFITS = [
    (str, int),
    (int, str),
    (float, int),
    (bool, int),
    (int, bool),
    (None, str),
    (str, list[str]),
    (str, Sequence[str]),
    (list[int], int),
    (list[int], list[str]),
    (list[int], dict[str, int]),
    (dict[str, int], dict[str, str]),
    (dict[str, int], list[str]),
    (tuple[int, str], list[int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int, ...], tuple[int, int, str]),
    (tuple[int], tuple[int, int]),
    (int | float, str),
    (str, int | None),
    (int, date),
    (str, bytes),
    (int, Literal["a"]),
    (Literal["a"], Literal["b"]),
    (Literal["not a date"], date),
    (str, Point),
    (dict[str, int], Custom),
    (list[dict[str, int]], list[dict[str, str]]),
]

FITS = [
    (int, int),
    (int, float),
    (int, Any),
    (Any, int),
    (T, int),
    (str, T),
    (int | str, int),
    (int | None, int),
    (str, str | None),
    (int, "int | None"),
    (str, "NotImported"),
    (tuple[int, int], list[int]),
    (list[int], tuple[int, ...]),
    (list[int], set[int]),
    (list, list[int]),
    (list[Any], list[int]),
    (list[int], list[int | str]),
    (list[int], Sequence[float]),
    (dict[str, Any], dict[str, int]),
    (dict[int, int], dict[str, int]),
    (dict, Point),
    (str, date),
    (str, Path),
    (str, Color),
    (Color, str),
    (str, Literal["a"]),
    (Literal["a", 1], int),
    (set[int], list[int]),
    (Custom, int),
    (date, date),
    (Iterator[int], list[int]),
    (NoReturn, int),
    (Sequence[str], str),
]


@pytest.mark.parametrize(("produced", "wanted"), MISFITS)
def test_a_type_that_certainly_does_not_fit_is_an_error(produced: Any, wanted: Any) -> None:
    assert [each.severity for each in found(linked(produced, wanted), "DAGY101")] == ["error"]


@pytest.mark.parametrize(("produced", "wanted"), FITS)
def test_a_type_that_may_fit_is_no_finding(produced: Any, wanted: Any) -> None:
    assert found(linked(produced, wanted), "DAGY101") == []


def test_a_finding_names_both_tasks_and_leads_to_the_consumer() -> None:
    @flow
    def wrong() -> None:
        note(double(text()))  # type: ignore[arg-type]

    (finding,) = found(wrong)
    assert finding.message == "Task 'double' gets str from task 'text' for 'x', which takes int"
    assert (finding.code, finding.severity, finding.task_run_id) == ("DAGY101", "error", "double-1")
    assert finding.file == __file__
    assert Path(__file__).read_text().splitlines()[finding.line] == "def double(x: int) -> int:"
    folder = str(Path(__file__).parent)
    assert finding.shown(folder).startswith(f"test_static_checks.py:{finding.line}: DAGY101 error Task 'double' gets")
    assert finding.shown("/elsewhere").startswith(f"{__file__}:")


def test_the_same_mistake_in_many_task_runs_is_one_finding() -> None:
    @flow
    def wrong() -> None:
        for _ in range(100):
            note(double(text()))  # type: ignore[arg-type]

    assert [each.task_run_id for each in found(wrong)] == ["double-1"]


def test_constants_are_checked_too() -> None:
    @flow
    def wrong() -> None:
        note([double("a"), total([1, "b"]), total([number(), text()]), double(1), total([])])  # type: ignore

    assert messages(wrong) == [
        "Task 'double' gets 'a' for 'x', which takes int",
        "Task 'total' gets tuple[Literal[1], Literal['b']] for 'xs', which takes list[int]",
        "Task 'total' gets tuple[int, str] for 'xs', which takes list[int]",
    ]


def test_a_task_that_does_not_validate_takes_everything() -> None:
    take = taking(int, validate_parameters=False)

    @flow
    def unchecked() -> None:
        take(text())

    assert found(unchecked) == []


def test_arguments_by_star_are_left_alone() -> None:
    @task
    def collect(*values: int, **named: int) -> None: ...

    @flow
    def starred() -> None:
        collect(1, 2, a=number(), b=numbers())  # type: ignore[arg-type]

    assert found(starred) == []


@pytest.mark.parametrize(
    ("produced", "path", "is_wrong"),
    [
        (dict[str, str], ["a"], True),
        (dict[str, int], ["a"], False),
        (list[str], [0], True),
        (tuple[int, str], [1], True),
        (tuple[int, str], [0], False),
        (tuple[str, ...], [5], True),
        (dict[str, list[str]], ["a", 0], True),
        (dict, ["a"], False),
        (dict[str, Any], ["a", "b"], False),
        (list[str], ["a"], False),
        (Point, ["x"], False),
    ],
)
def test_a_part_of_an_output_has_the_type_of_the_part(produced: Any, path: list[Any], is_wrong: bool) -> None:
    make, take = returning(produced), taking(int)

    @flow
    def parts() -> None:
        out = make()
        for key in path:
            out = out[key]
        take(out)

    assert bool(found(parts, "DAGY101")) is is_wrong


def test_a_map_gives_items_and_makes_a_list() -> None:
    @flow
    def right() -> Any:
        return total(double.map(double.map(numbers())))

    @flow
    def wrong() -> None:
        words, take = returning(list[str]), taking(int)
        note([double.map(words()), total(double(1)), double.map([1, "a"])])  # type: ignore
        take(double.map([1]))

    assert found(right) == []
    assert messages(wrong) == [
        "Task 'take' gets list[int] from task 'double' for 'value', which takes int",
        "Task 'double' gets 'a' for 'x', which takes int",
        "Task 'double' gets str from task 'make' for 'x', which takes int",
        "Task 'total' gets int from task 'double' for 'xs', which takes list[int]",
    ]


@pytest.mark.parametrize("produced", [int, str, None, dict[str, int], Literal["a"]])
def test_a_map_over_something_else_than_a_list_is_an_error(produced: Any) -> None:
    make = returning(produced)

    @flow
    def wrong() -> None:
        note.map(make())

    (finding,) = found(wrong)
    assert (finding.code, finding.severity) == ("DAGY102", "error")
    assert "and not a list" in finding.message


def test_other_serializers_give_back_other_types() -> None:
    make, take = returning(tuple[date, str], serializer="pickle"), taking(int)

    @flow
    def pickled() -> None:
        take(make())

    assert found(pickled) == []


SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    str: st.text() | st.sampled_from(["1", "2026-01-01", "red", "a"]),
    Literal["a", 1]: st.sampled_from(["a", 1]),
}
WANTED = [*SCALARS, Any, date, Path, Color, Point, Custom, bytes, Literal["1", True]]


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one, two = inner, st.tuples(inner, inner)
    return (
        one.map(lambda each: list[each])
        | one.map(lambda each: tuple[each, ...])
        | two.map(lambda both: tuple[both])
        | one.map(lambda each: dict[str, each])
        | two.map(lambda both: Union[both])  # noqa: UP007 - of a tuple
    )


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a produced type, without empty containers, which fit everything."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return st.one_of(*map(values_of, args))
    if origin is dict:
        return st.dictionaries(st.text(), values_of(args[1]), min_size=1, max_size=2)
    if origin is tuple and ... not in args:
        return st.tuples(*map(values_of, args))
    return st.lists(values_of(args[0]), min_size=1, max_size=2)


PRODUCED_TYPES = st.recursive(st.sampled_from(list(SCALARS)), _containers, max_leaves=4)
WANTED_TYPES = st.recursive(st.sampled_from(WANTED), _containers, max_leaves=4)


@given(produced=PRODUCED_TYPES, wanted=WANTED_TYPES, data=st.data())
def test_what_passes_the_check_at_run_time_is_never_a_finding(produced: Any, wanted: Any, data: st.DataObject) -> None:
    value = json.loads(json.dumps(data.draw(values_of(produced))))
    try:
        compile_check(wanted)(value)
    except Mismatch:
        return
    assert fits(produced, wanted)


@given(annotation=PRODUCED_TYPES)
def test_flows_with_matching_annotations_have_no_findings_about_types(annotation: Any) -> None:
    make, take, same = returning(annotation), taking(annotation), returning(list[annotation], name="same")

    @flow
    def matching() -> None:
        take(make())
        take.map(same())
        take.map([make(), make()])
        take(same()[0])

    assert fits(annotation, annotation)
    assert found(matching, "DAGY101", "DAGY102") == []


# Settings


def test_a_default_of_the_flow_that_can_not_be_stored_is_an_error() -> None:
    @flow
    def wrong(client: Any = Custom(), day: Any = date(2026, 1, 1), tags: Any = frozenset()) -> None:  # noqa: B008
        note(day)

    @task
    def free(client: Any = Custom()) -> None: ...  # noqa: B008

    @flow
    def right() -> None:
        free()

    assert messages(wrong) == ["Flow 'wrong' has a default for 'client' that can not be stored: it is Custom"]
    assert found(right) == []


def test_unknown_executors_and_modes_are_errors() -> None:
    remote = task(name="remote", executor="k8s")(lambda: None)

    @flow(executor="lamda", execution_mode="huge")
    def wrong() -> None:
        remote()
        note.options(executor="mars")(1)

    assert sorted(messages(wrong, "DAGY104")) == [
        "Flow 'wrong' names the execution mode 'huge'",
        "Flow 'wrong' names the executor 'lamda'",
        "Task 'note' names the executor 'mars'",
        "Task 'remote' names the executor 'k8s'",
    ]


def test_the_names_are_those_of_a_deployment() -> None:
    assert (CHECKED_EXECUTORS, CHECKED_MODES) == (EXECUTORS, EXECUTION_MODES)


def test_limits_and_delays_beyond_the_flow_are_warnings() -> None:
    slow = task(name="slow", timeout_seconds=20)(lambda: None)
    patient = task(name="patient", retries=2, retry_delay_seconds=5)(lambda: None)

    @flow(timeout_seconds=10)
    def short() -> None:
        slow()
        patient()
        note.options(timeout_seconds=30)(1)
        note.options(retries=1, retry_delay_seconds=9)(1)

    @flow
    def endless() -> None:
        slow()
        patient()

    assert sorted(messages(short)) == [
        "Task 'note' may run 30s, and the whole flow only 10s",
        "Task 'patient' waits 10s between its retries, and the whole flow runs 10s",
        "Task 'slow' may run 20s, and the whole flow only 10s",
    ]
    assert found(endless) == []


def test_a_rule_behind_a_broader_one_is_a_warning() -> None:
    wrong = task(name="wrong", retries=[(OSError, 1), ((ConnectionError, ValueError), 2)])(lambda: None)
    right = task(name="right", retries=[(ConnectionError, 2), (OSError, 1)])(lambda: None)

    @flow
    def both() -> None:
        wrong()
        right()

    assert messages(both) == [
        "Task 'wrong' has a retry rule for ConnectionError behind a broader one, which decides",
    ]


def test_settings_for_retries_without_retries_are_a_warning() -> None:
    idle = task(name="idle", retry_jitter_factor=0.5, retry_condition_fn=lambda _: True)(lambda: None)

    @flow
    def never() -> None:
        idle()

    @flow
    def once() -> None:
        idle()
        idle.options(retries=1)()

    assert messages(never) == ["Task 'idle' sets retry_jitter_factor, retry_condition_fn and is never retried"]
    assert found(once) == []


def test_a_task_that_no_other_process_finds_is_a_warning() -> None:
    inside = task(name="inside")(lambda: None)

    @flow
    def both() -> None:
        inside()
        note(1)

    assert messages(both, "DAGY108") == ["Task 'inside' is no attribute of its module, so it runs on this machine only"]


@pytest.mark.parametrize(
    ("annotation", "is_stored"),
    [
        (set[int], False),
        (bytes, False),
        (date, False),
        (list[date], False),
        (date | None, False),
        (dict[date, int], False),
        (Point, False),
        (Custom, False),
        (list[LocalArtifact], False),
        (LocalArtifact, True),
        (LocalArtifact | None, True),
        (Color, True),
        (tuple[int, ...], True),
        (dict[str, Any], True),
        (Sequence[str], True),
        (Any, True),
        (T, True),
    ],
)
def test_a_return_type_that_json_does_not_have_is_a_warning(annotation: Any, is_stored: bool) -> None:
    findings = found(linked(annotation, Any), "DAGY107")
    assert [each.severity for each in findings] == ([] if is_stored else ["warning"])


# The graph


def test_a_result_that_nothing_uses_is_a_warning() -> None:
    @flow
    def lost() -> None:
        text()
        anything()
        note(number())

    @flow
    def used() -> Any:
        note.options(after=[text()], when=number() == 1)(1)
        with tear_down(double, 1):
            note(1)
        return {"all": [numbers()[0]]}

    assert messages(lost) == ["Task 'text' returns str, which nothing uses"]
    assert found(used) == []


def conditional(produced: Any, condition: Callable[[Any], Any]) -> Any:
    make = returning(produced)

    @flow
    def conditional_flow() -> None:
        note.options(when=condition(make()))(1)

    return conditional_flow


@pytest.mark.parametrize(
    ("produced", "condition", "codes"),
    [
        (bool, lambda out: out == "yes", ["DAGY112"]),
        (str, lambda out: ~(out == 1), ["DAGY112"]),
        (Literal["a", "b"], lambda out: out == "c", ["DAGY112"]),
        (dict[str, int], lambda out: (out["n"] == "1") | (out["n"] == 2), ["DAGY112"]),
        (str, lambda out: out > 1, ["DAGY105"]),
        (bool, lambda out: out == 1, []),
        (int, lambda out: out == 1.5, []),
        (str | None, lambda out: out == 1, ["DAGY112"]),
        (int | str, lambda out: out == "a", []),
        (str, lambda out: out == None, []),  # noqa: E711 - an expression
        (Literal["a", "b"], lambda out: out == "b", []),
        (Any, lambda out: out > 1, []),
        (Color, lambda out: out == "red", []),
        (int, lambda out: out > 1, []),
        (str, lambda out: out, []),
    ],
)
def test_a_comparison_that_can_not_hold_is_found(produced: Any, condition: Any, codes: list[str]) -> None:
    assert [each.code for each in found(conditional(produced, condition))] == codes


def test_a_branch_for_a_value_that_never_comes_is_found() -> None:
    kind = returning(Literal["full", "partial"])

    @flow
    def branches() -> None:
        choose(kind(), {"full": lambda: note(1), "fulll": lambda: note(2)}, default=lambda: note(3))

    assert messages(branches) == [
        "Task 'note' has the condition Literal['full', 'partial'] == 'fulll', which never holds"
    ]


def test_a_condition_that_is_false_is_found() -> None:
    @flow
    def constant(go: bool) -> None:
        note.options(when=go)(1)
        note.options(when=(anything() == 1) & go)(1)
        note.options(when=(anything() == 1) | go)(1)

    assert [each.task_run_id for each in found(constant, go=False)] == ["note-1"]
    assert found(constant, go=True) == []


# Errors and documents


def test_only_errors_refuse_a_build() -> None:
    @flow
    def wrong() -> None:
        double(text())  # type: ignore[arg-type]

    findings = check_flow(build_flow(wrong, (), {}))
    assert {each.severity for each in findings} == {"error", "warning"}
    with pytest.raises(
        FlowDefinitionError, match=r"^Flow 'wrong' has an error .*:\n  test_stat.*DAGY101 error [^\n]*$"
    ):
        refuse_errors("wrong", findings, cwd=str(Path(__file__).parent))
    refuse_errors("wrong", [each for each in findings if each.severity == "warning"], cwd="/")


def test_each_code_is_explained() -> None:
    assert re.findall(r"(?m)^## (DAGY\d+)", HOW_TO.read_text("utf-8")) == list(SEVERITIES)
