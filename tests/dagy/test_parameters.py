"""The parameters of a flow: read from text, bound to a signature, described as JSON Schema."""

# ruff: noqa: UP007, UP045 - the older spellings of types are under test too

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import inspect
import ipaddress
import json
import math
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NewType,
    Optional,
    Union,
)

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from dagy.errors import ParameterError, ParameterTypeError
from dagy.parameters import bind_values, hints, json_schema, parse_text

if TYPE_CHECKING:
    from decimal import Context as Missing  # only type checkers see this name

UTC = dt.timezone.utc
UserId = NewType("UserId", int)
Ids = TypeAliasType("Ids", list[int])


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Window:
    day: dt.date
    length: int = 1


class Model(pydantic.BaseModel):
    limit: int
    day: dt.date | None = None


class Table:
    """Stands for a data frame: a class that nobody has described."""


def read(text: str, annotation: object) -> Any:
    return parse_text(text, annotation, name="p", owner="flow 'f'")


def unread(text: str, annotation: object) -> str:
    with pytest.raises(ParameterTypeError) as caught:
        read(text, annotation)
    return str(caught.value)


def daily(day: dt.date, limit: int = 10, *, color: Color = Color.RED, tags: Optional[list[str]] = None) -> None: ...


def bound(fn: Callable[..., object], **values: object) -> dict[str, object]:
    return bind_values(inspect.signature(fn), hints(fn), values, owner=f"flow {fn.__name__!r}")


def schema_of(annotation: object) -> Any:
    signature = inspect.Signature([inspect.Parameter("p", inspect.Parameter.KEYWORD_ONLY)])
    return json_schema(signature, {"p": annotation})["properties"]["p"]  # type: ignore[index]


def unresolved(day: Missing, limit: int, rows: list[Missing]) -> Missing:
    raise NotImplementedError


class TestHints:
    def test_string_annotations_are_resolved(self) -> None:
        assert hints(daily)["day"] is dt.date
        assert hints(daily)["limit"] is int
        assert hints(daily)["return"] is type(None)

    def test_a_name_that_can_not_be_resolved_leaves_only_that_parameter_unchecked(self) -> None:
        assert hints(unresolved) == {"day": Any, "limit": int, "rows": Any, "return": Any}

    def test_a_decorated_function_has_its_own_hints(self) -> None:
        @functools.wraps(unresolved)
        def wrapper(*args: object, **kwargs: object) -> object: ...

        assert hints(wrapper)["limit"] is int

    def test_annotated_keeps_its_notes(self) -> None:
        def fn(limit: Annotated[int, "rows"]) -> None: ...

        assert hints(fn)["limit"] == Annotated[int, "rows"]

    @pytest.mark.parametrize("fn", [len, functools.partial(daily, limit=1)])
    def test_a_callable_without_annotations_has_none(self, fn: Callable[..., object]) -> None:
        assert hints(fn) == {}


class TestText:
    @pytest.mark.parametrize(
        ("text", "annotation", "expected"),
        [
            ("5", str, "5"),
            ("null", str, "null"),
            ("5", int, 5),
            ("1.5", float, 1.5),
            ("5", float, 5.0),
            ("TRUE", bool, True),
            ("off", bool, False),
            ("0", bool, False),
            ("2026-01-31", dt.date, dt.date(2026, 1, 31)),
            ("90", dt.timedelta, dt.timedelta(seconds=90)),
            ("9.99", decimal.Decimal, decimal.Decimal("9.99")),
            ("a/b", pathlib.Path, pathlib.Path("a/b")),
            ("red", Color, Color.RED),
            ("BLUE", Color, Color.BLUE),
            ("2", Level, Level.HIGH),
            ("LOW", Level, Level.LOW),
            ("a", Literal["a", 1], "a"),
            ("1", Literal["a", 1], 1),
            ("red", Literal[Color.RED], Color.RED),
            ("null", Optional[str], None),
            ("None", int | None, None),
            ("5", int | str, 5),
            ("5", str | int, 5),
            ("x", int | str, "x"),
            ("1", bool | int, 1),
            ("true", bool | int, True),
            ("[1, 2]", list[int] | None, [1, 2]),
            ('["2026-01-31"]', tuple[dt.date, ...], (dt.date(2026, 1, 31),)),
            ('{"1": 2}', dict[int, int], {1: 2}),
            ('{"day": "2026-01-31"}', Window, Window(dt.date(2026, 1, 31))),
            ('{"limit": 3}', Model, Model(limit=3)),
            ("10.0.0.1", ipaddress.IPv4Address, ipaddress.IPv4Address("10.0.0.1")),
            ("12", Annotated[str, pydantic.AfterValidator(str.upper)], "12"),
            ("0.10", Annotated[decimal.Decimal, pydantic.Field(ge=0)], decimal.Decimal("0.10")),
            ("null", Annotated[int | None, pydantic.Field(gt=0)], None),
            ("5", Union[Annotated[int, pydantic.Field(gt=0)], None], 5),
            ("5", Annotated[int, pydantic.Field(gt=0)], 5),
            ("[1]", Ids, [1]),
            ("5", UserId, 5),
            ("5", None, 5),
            ("[1]", Any, [1]),
            ("hello", inspect.Parameter.empty, "hello"),
            ("NaN", Any, "NaN"),
        ],
    )
    def test_text_means_what_the_type_says(self, text: str, annotation: object, expected: object) -> None:
        result = read(text, annotation)
        assert result == expected
        assert type(result) is type(expected)

    @pytest.mark.parametrize(
        ("text", "annotation", "ending"),
        [
            ("[1, 2", list[int], "expects list[int], got str '[1, 2' (write it as JSON: --param p='[1, 2]')"),
            ("a,b", list[str], """(write it as JSON: --param p='["a"]')"""),
            ("a", dict[str, float], """(write it as JSON: --param p='{"key": 1.5}')"""),
            ("a", Node, """(write it as JSON: --param p='{"name": "..."}')"""),
            ("5", list[int], "expects list[int], got int 5"),
            ('[1, "x"]', list[int], "p[1]: expects int, got str 'x'"),
            ("x", int, "expects int, got str 'x' (write it like 1)"),
            ("maybe", bool, "expects bool, got str 'maybe' (write it like true)"),
            ("x", dt.date | None, "expects date, got str 'x' (write it like 2026-01-31)"),
            ("x", int | float, "expects int | float, got str 'x'"),
            ("x", Literal["a"], "expects Literal['a'], got str 'x'"),
            ("green", Color, "(one of 'red', 'blue')"),
            ("-1", Annotated[int, pydantic.Field(gt=0)], "got int -1 (input should be greater than 0)"),
            ('{"limit": "x"}', Model, "limit: input should be a valid integer, unable to parse string as an integer)"),
            ("x", Table, "expects Table, got str 'x'"),
            ("x", bytes, "expects bytes, got str 'x'"),
        ],
    )
    def test_text_without_meaning_is_refused(self, text: str, annotation: object, ending: str) -> None:
        assert unread(text, annotation).endswith(ending)

    @given(st.text())
    def test_str_takes_any_text_as_it_is(self, text: str) -> None:
        assert read(text, str) == text

    @given(st.text() | st.recursive(st.integers(), st.lists).map(json.dumps))
    def test_any_text_means_something_where_nothing_is_declared(self, text: str) -> None:
        assert read(text, Any) == text or json.dumps(read(text, Any))


def free(day: dt.date, **others: int) -> None: ...


def alone() -> None: ...


class TestBound:
    def test_defaults_are_filled_in_the_order_of_the_signature(self) -> None:
        values = bound(daily, limit=3, day="2026-01-31")
        assert list(values.items()) == [
            ("day", dt.date(2026, 1, 31)),
            ("limit", 3),
            ("color", Color.RED),
            ("tags", None),
        ]

    def test_an_unknown_parameter_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(ParameterError) as caught:
            bound(daily, dya=1)
        assert str(caught.value) == (
            "Flow 'daily' has no parameter 'dya'; did you mean 'day'? It takes: day, limit, color, tags"
        )

    def test_an_unknown_parameter_like_no_other_is_answered_with_all(self) -> None:
        with pytest.raises(ParameterError, match=r"'zzz'; it takes: day, limit, color, tags$"):
            bound(daily, zzz=1)
        with pytest.raises(ParameterError, match=r"^Flow 'alone' has no parameter 'zzz'; it takes none$"):
            bound(alone, zzz=1)

    def test_a_missing_parameter_is_named_with_its_type(self) -> None:
        with pytest.raises(ParameterError) as caught:
            bound(daily)
        assert str(caught.value) == (
            "Flow 'daily' needs parameter 'day' (date); pass --param day=... or day=... in Python"
        )

    def test_all_missing_parameters_are_named(self) -> None:
        def fn(a, b: int, c=1): ...  # type: ignore[no-untyped-def]

        with pytest.raises(ParameterError, match=r"needs parameters 'a', 'b' \(int\); pass --param a="):
            bound(fn)

    def test_a_wrong_type_is_refused(self) -> None:
        with pytest.raises(ParameterTypeError, match=r"^Parameter 'limit' of flow 'daily' expects int, got str 'x'$"):
            bound(daily, day="2026-01-31", limit="x")

    def test_a_default_is_not_checked_nor_a_value_equal_to_it(self) -> None:
        def fn(day: dt.date = "today", limit: int = 1) -> None: ...  # type: ignore[assignment]

        assert bound(fn) == {"day": "today", "limit": 1}
        assert bound(fn, day="today") == {"day": "today", "limit": 1}
        with pytest.raises(ParameterTypeError, match="expects int, got bool True"):
            bound(fn, limit=True)

    def test_a_default_that_refuses_to_be_compared_is_only_a_default(self) -> None:
        class Array:
            def __eq__(self, other: object) -> bool:
                raise ValueError("ambiguous")

            __hash__ = None  # type: ignore[assignment]

        def fn(rows=Array()): ...  # type: ignore[no-untyped-def]  # noqa: B008

        given_rows = Array()
        assert bound(fn, rows=given_rows)["rows"] is given_rows

    def test_keyword_arguments_take_other_names_and_are_checked(self) -> None:
        assert bound(free, day="2026-01-31", a=1, others=2) == {"day": dt.date(2026, 1, 31), "a": 1, "others": 2}
        with pytest.raises(ParameterTypeError, match="Parameter 'a' of flow 'free' expects int, got str 'x'"):
            bound(free, day="2026-01-31", a="x")


def same_name(name: str) -> type[pydantic.BaseModel]:
    inner = pydantic.create_model("Inner", **{name: (int, ...)})  # type: ignore[call-overload]
    return pydantic.create_model("Outer", inner=(inner, ...))


class TestSchema:
    def test_a_flow_has_an_object_with_its_parameters(self) -> None:
        assert json_schema(inspect.signature(daily), hints(daily)) == {
            "type": "object",
            "properties": {
                "day": {"type": "string", "format": "date"},
                "limit": {"type": "integer", "default": 10},
                "color": {"enum": ["red", "blue"], "default": "red"},
                "tags": {
                    "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                    "default": None,
                },
            },
            "required": ["day"],
            "additionalProperties": False,
        }

    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (Any, {}),
            (None, {}),
            (bool, {"type": "boolean"}),
            (dt.datetime, {"type": "string", "format": "date-time"}),
            (dt.time, {"type": "string", "format": "time"}),
            (uuid.UUID, {"type": "string", "format": "uuid"}),
            (pathlib.Path, {"type": "string", "format": "path"}),
            (list, {"type": "array"}),
            (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
            (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
            (
                tuple[int, str],
                {
                    "type": "array",
                    "prefixItems": [{"type": "integer"}, {"type": "string"}],
                    "minItems": 2,
                    "maxItems": 2,
                },
            ),
            (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
            (dict, {"type": "object"}),
            (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
            (dict[str, None], {"type": "object", "additionalProperties": {"type": "null"}}),
            (Literal["a", 1], {"enum": ["a", 1]}),
            (Level, {"enum": [1, 2]}),
            (UserId, {"type": "integer"}),
            (Annotated[int, pydantic.Field(gt=0)], {"type": "integer", "exclusiveMinimum": 0}),
            (Callable[[], int], {}),
            (Table, {}),
            (bytes, {}),
        ],
    )
    def test_a_type_has_its_schema(self, annotation: object, expected: object) -> None:
        assert schema_of(annotation) == expected

    def test_a_model_and_a_dataclass_have_properties(self) -> None:
        assert schema_of(Model)["properties"]["limit"]["type"] == "integer"
        assert schema_of(Window)["required"] == ["day"]

    def test_definitions_lie_at_the_root_where_their_references_point(self) -> None:
        def fn(tree: list[Node]) -> None: ...

        schema = json_schema(inspect.signature(fn), hints(fn))
        assert schema["properties"] == {"tree": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}
        assert schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}  # type: ignore[index]

    def test_of_two_models_of_one_name_only_the_first_is_described(self) -> None:
        signature = inspect.signature(lambda a, b: None)
        schema: Any = json_schema(signature, {"a": same_name("x"), "b": same_name("y")})
        assert schema["properties"]["a"]["properties"]["inner"] == {"$ref": "#/$defs/Inner"}
        assert schema["properties"]["b"] == {}
        assert list(schema["$defs"]["Inner"]["properties"]) == ["x"]

    def test_defaults_are_written_as_json_or_left_out(self) -> None:
        def fn(  # type: ignore[no-untyped-def]
            day=dt.date(2026, 1, 31),
            wait=dt.timedelta(seconds=5),
            path=pathlib.Path("a"),
            price=decimal.Decimal("9.99"),
            pair=(1, 2),
            table=Table(),  # noqa: B008
            number=math.nan,
        ): ...

        properties: Any = json_schema(inspect.signature(fn), {})["properties"]
        assert {name: schema.get("default", "-") for name, schema in properties.items()} == {
            "day": "2026-01-31",
            "wait": 5.0,
            "path": "a",
            "price": "9.99",
            "pair": [1, 2],
            "table": "-",
            "number": "-",
        }

    def test_keyword_arguments_allow_other_properties(self) -> None:
        assert json_schema(inspect.signature(free), hints(free))["additionalProperties"] == {"type": "integer"}


SCRIPT = """
import sys
before = set(sys.modules)
import dagy.parameters as p
assert not {"pydantic", "inspect", "dataclasses", "difflib", "datetime"} & (set(sys.modules) - before)
import datetime, enum, inspect, typing
Color = enum.Enum("Color", {"RED": "red"})
def flow(day: datetime.date, color: Color, items: dict[str, list[int]] | None = None, a: typing.Literal["a"] = "a"): ...
signature = inspect.signature(flow)
p.bind_values(signature, p.hints(flow), {"day": "2026-01-31", "color": "red", "items": {"a": [1]}}, owner="flow")
p.json_schema(signature, p.hints(flow))
assert p.parse_text("[1]", list[int], name="a", owner="flow") == [1]
assert "pydantic" not in sys.modules
"""


def test_parameters_of_built_in_types_never_load_pydantic() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
