"""How values stand in a spec: what goes in comes out, and nothing that would lose an edge goes in."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.outputs import TaskOutput
from dagy.references import NotEncodable, Settled, Upstream, encode, hydrate


class Known:
    """Outputs that are known."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        self.outputs = outputs

    def resolve(self, task_run_id: str) -> Any:
        return self.outputs[task_run_id]

    def settle(self, task_run_id: str) -> Settled:
        return Settled([self.outputs[task_run_id]], [])


class Color(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Order:
    id: int
    rows: Any = None


class Point(NamedTuple):
    x: Any
    y: int


class Customer(pydantic.BaseModel):
    name: str
    orders: list[Any] = []


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.just(Color.RED)
    | st.just(Path("a/b"))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.sampled_from(["$ref", "$tuple", "path"]) | st.integers(), inner)
        | st.builds(Order, st.integers(), inner)
        | st.builds(Point, inner, st.integers())
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=12,
)


@given(value=VALUES)
def test_what_goes_in_comes_out_of_json(value: Any) -> None:
    encoded = json.loads(json.dumps(encode(value, Upstream())))
    again = hydrate(encoded, Known({}))
    assert again == value
    assert type(again) is type(value)


def test_outputs_are_found_at_any_depth() -> None:
    output = TaskOutput("extract-1")
    value = {
        "list": [output, (output["rows"][0],)],
        "record": Order(1, [TaskOutput("extract-2")]),
        "model": Customer(name="x", orders=[TaskOutput("extract-3")]),
        "named": Point(TaskOutput("extract-4"), 2),
    }
    upstream = Upstream()
    encoded = json.loads(json.dumps(encode(value, upstream)))
    assert list(upstream.ids) == ["extract-1", "extract-2", "extract-3", "extract-4"]
    outputs = {"extract-1": {"rows": [7]}, "extract-2": 2, "extract-3": 3, "extract-4": 4}
    assert hydrate(encoded, Known(outputs)) == {
        "list": [{"rows": [7]}, (7,)],
        "record": Order(1, [2]),
        "model": Customer(name="x", orders=[3]),
        "named": Point(4, 2),
    }


def test_a_users_own_markers_are_not_understood() -> None:
    value = {"$ref": "extract-1", "nested": {"$tuple": [1]}}
    assert hydrate(encode(value, Upstream()), Known({})) == value


def test_an_output_that_holds_markers_is_not_understood() -> None:
    encoded = encode([TaskOutput("a-1")], Upstream())
    assert hydrate(encoded, Known({"a-1": {"$ref": "b-1"}})) == [{"$ref": "b-1"}]


@pytest.mark.parametrize("value", [object(), open, [1, {"x": [object()]}], Order(1, object())])
def test_what_has_no_form_in_json_is_refused(value: object) -> None:
    with pytest.raises(NotEncodable):
        encode(value, Upstream())


def test_a_class_inside_a_function_is_refused() -> None:
    @dataclass
    class Hidden:
        x: int

    with pytest.raises(NotEncodable):
        encode(Hidden(1), Upstream())


@pytest.mark.parametrize(
    "use",
    [
        bool,
        len,
        list,
        str,
        int,
        lambda output: f"{output}",
        lambda output: output + 1,
        lambda output: 1 + output,
        lambda output: bool(output == 3),
        lambda output: bool(output != 3),
        lambda output: 0 < output < 3,
        lambda output: 3 in output,
        lambda output: output[1.5],
        lambda output: -output,
    ],
)
def test_an_output_says_that_it_is_not_known_yet(use: Any) -> None:
    with pytest.raises(TypeError, match="<output of extract-1>"):
        use(TaskOutput("extract-1"))


def test_outputs_can_be_keys_of_a_dict() -> None:
    first, second = TaskOutput("a-1"), TaskOutput("a-2")
    assert {first: 1, second: 2}[first] == 1


def test_sets_have_one_form_whatever_the_hash_seed() -> None:
    code = "from dagy.references import Upstream, encode; print(encode({'a', 'b', 'c', 'd', 'e'}, Upstream()))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(seed)}, capture_output=True, check=True
        ).stdout
        for seed in range(3)
    }
    assert len(said) == 1


def test_standard_values_are_plain_json() -> None:
    values = [dt.date(2026, 1, 2), uuid.UUID(int=1), decimal.Decimal("1.50")]
    assert json.dumps(encode(values, Upstream()))
