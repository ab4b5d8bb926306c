"""Does a value fit its annotation: what is accepted, what is converted, and what a refusal says."""

# ruff: noqa: UP006, UP007, UP035, UP045 - the older spellings of types are under test too

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import ipaddress
import json
import math
import pathlib
import subprocess
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence, Set
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    Tuple,
    TypeVar,
    Union,
)

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import NotRequired, TypeAliasType, TypedDict, Unpack

from dagy.checks import Mismatch, check, compile_check, describe
from dagy.errors import ParameterTypeError

if TYPE_CHECKING:
    from decimal import Context as Missing  # only type checkers see this name

UTC = dt.timezone.utc
T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
UserId = NewType("UserId", int)
Ids = TypeAliasType("Ids", list[int])


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class HalfRow(TypedDict):
    day: Missing


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)
    size: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Window:
    day: dt.date
    length: int = 1
    scale: dataclasses.InitVar[float] = 1.0

    def __post_init__(self, scale: float) -> None:
        if self.length < 1:
            raise ValueError("length must be positive")


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Model(pydantic.BaseModel):
    limit: int
    day: dt.date | None = None


class Table:
    """Stands for a data frame: a class that nobody has described."""


class Source(Protocol):
    def read(self) -> str: ...


@dataclasses.dataclass
class Half:
    day: Missing
    limit: int


def checked(value: object, annotation: object) -> Any:
    return check(value, annotation, name="p", owner="flow 'f'")


def refusal(value: object, annotation: object) -> str:
    with pytest.raises(ParameterTypeError) as caught:
        checked(value, annotation)
    return str(caught.value)


class TestAccepted:
    @pytest.mark.parametrize("annotation", [None, Any, object, inspect.Parameter.empty, T, "Unresolved"])
    @pytest.mark.parametrize("value", [None, 1, "x", [1], Table])
    def test_everything_fits_where_nothing_is_declared(self, value: object, annotation: object) -> None:
        assert checked(value, annotation) is value

    @pytest.mark.parametrize(
        ("value", "annotation"),
        [
            (5, int),
            (Level.LOW, int),
            (True, bool),
            ("x", str),
            (b"x", bytes),
            (None, type(None)),
            (1.5, float),
            (dt.date(2026, 1, 2), dt.date),
            (pathlib.Path("a"), pathlib.Path),
            (Color.RED, Color),
            ("a", Literal["a", 1]),
            ([1], list),
            ([1], List),
            ([1], list[int]),
            ((1, "a"), tuple[int, str]),
            ((), tuple[()]),
            ((1, 2), Tuple),
            ((1, 2), tuple[int, ...]),
            ((1, "a", "b"), tuple[int, Unpack[tuple[str, ...]]]),
            ({"a": [1]}, dict[str, list[int]]),
            ({"a": 1}, Mapping[str, int]),
            ((1, 2), Sequence[int]),
            ({1}, Iterable[int]),
            (range(3), Sequence[int]),
            (None, Optional[int]),
            (None, int | None),
            ({"a": None}, dict[str, None]),
            (Node("a"), Node),
            (Model(limit=1), Model),
            (Box(1), Box[int]),
            (int, type[int]),
            (len, Callable[[list[int]], int]),
            (4, UserId),
            (4, Bound),
            (4, Annotated[int, "documentation"]),
        ],
    )
    def test_a_value_that_fits_comes_back_as_the_same_object(self, value: object, annotation: object) -> None:
        assert checked(value, annotation) is value

    def test_an_iterator_is_not_used_up(self) -> None:
        values = iter([1, 2])
        assert checked(values, Iterable[int]) is values
        assert checked(values, Iterator[int]) is values
        assert list(values) == [1, 2]

    def test_a_class_without_description_is_checked_by_instance(self) -> None:
        table = Table()
        assert checked(table, Table) is table
        assert refusal("x", Table) == "Parameter 'p' of flow 'f' expects Table, got str 'x'"
        assert refusal("x", list[Table]).endswith("expects list[Table], got str 'x'")

    def test_a_protocol_that_can_not_be_checked_accepts_all(self) -> None:
        assert checked(5, Source) == 5


class TestConverted:
    @pytest.mark.parametrize(
        ("value", "annotation", "expected"),
        [
            (5, float, 5.0),
            ("2026-01-31", dt.date, dt.date(2026, 1, 31)),
            ("2026-01-31T08:00:00Z", dt.datetime, dt.datetime(2026, 1, 31, 8, tzinfo=UTC)),
            ("08:30:00", dt.time, dt.time(8, 30)),
            (90, dt.timedelta, dt.timedelta(seconds=90)),
            (0.5, dt.timedelta, dt.timedelta(milliseconds=500)),
            ("9.99", decimal.Decimal, decimal.Decimal("9.99")),
            (0.1, decimal.Decimal, decimal.Decimal("0.1")),
            ("00000000-0000-4000-8000-000000000001", uuid.UUID, uuid.UUID(int=(4 << 76) + (8 << 60) + 1)),
            ("a/b", pathlib.Path, pathlib.Path("a/b")),
            ("red", Color, Color.RED),
            ("RED", Color, Color.RED),
            (2, Level, Level.HIGH),
            ("red", Literal[Color.RED], Color.RED),
            ([1, 2], tuple, (1, 2)),
            ([1, "a"], tuple[int, str], (1, "a")),
            ([1, 1], set[int], {1}),
            ([1], frozenset[int], frozenset({1})),
            ((1,), list[int], [1]),
            ([1, 2.5], list[float], [1.0, 2.5]),
            ((1,), Sequence[float], (1.0,)),
            ([["2026-01-31"]], list[tuple[dt.date, ...]], [(dt.date(2026, 1, 31),)]),
            ({"1": [1]}, dict[int, set[int]], {1: {1}}),
            ({"true": 1}, dict[bool, int], {True: 1}),
            ({"2026-01-31": 1}, dict[dt.date, int], {dt.date(2026, 1, 31): 1}),
            ({"2": 1}, dict[Level, int], {Level.HIGH: 1}),
            ({"null": 1}, dict[int | None, int], {None: 1}),
            ("2026-01-31", dt.date | None, dt.date(2026, 1, 31)),
            ([1], Optional[tuple[int, ...]], (1,)),
            ({"day": "2026-01-31"}, Window, Window(dt.date(2026, 1, 31))),
            ({"day": "2026-01-31", "scale": 2}, Window, Window(dt.date(2026, 1, 31))),
            ({"name": "a", "children": [{"name": "b"}]}, Node, Node("a", [Node("b")])),
        ],
    )
    def test_what_json_lost_comes_back(self, value: object, annotation: object, expected: object) -> None:
        result = checked(value, annotation)
        assert result == expected
        assert type(result) is type(expected)

    def test_what_asdict_writes_is_read_again(self) -> None:
        node = Node("a", [Node("b")])
        assert checked(json.loads(json.dumps(dataclasses.asdict(node))), Node) == node

    def test_a_union_prefers_the_member_that_fits_without_conversion(self) -> None:
        assert checked("2026-01-31", dt.date | str) == "2026-01-31"
        assert checked([1], tuple[int, ...] | list[int]) == [1]
        assert type(checked(1, float | int)) is int

    def test_the_order_of_a_union_decides_between_conversions(self) -> None:
        assert type(checked("1", pathlib.Path | decimal.Decimal)) is not type(
            checked("1", decimal.Decimal | pathlib.Path)
        )

    def test_a_container_that_needs_no_conversion_is_not_copied_by_its_neighbour(self) -> None:
        inner = [1]
        result = checked({"a": inner, "b": (2,)}, dict[str, list[int]])
        assert result == {"a": [1], "b": [2]}
        assert result["a"] is inner

    def test_a_given_container_is_never_changed(self) -> None:
        given_value = {"1": [1]}
        checked(given_value, dict[int, list[float]])
        assert given_value == {"1": [1]}


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "annotation"),
        [
            (True, int),
            (True, float),
            (1, bool),
            (1.0, int),
            ("1", int),
            (10**400, float),
            (1, str),
            ("x", bytes),
            (None, int),
            (0, None | str),
            (dt.datetime(2026, 1, 31), dt.date),
            (dt.date(2026, 1, 31), dt.datetime),
            ("", dt.datetime),
            ("31.1.2026", dt.date),
            (True, dt.timedelta),
            (math.inf, dt.timedelta),
            ("x", decimal.Decimal),
            ("x", uuid.UUID),
            (True, Level),
            ("green", Color),
            ([], Color),
            (True, Literal[1]),
            (1, Literal["1"]),
            ("ab", list[str]),
            ("ab", Sequence[str]),
            ("ab", Iterable[str]),
            ({1}, list[int]),
            ([1], dict),
            ([1], tuple[int, int]),
            ([1], tuple[()]),
            ([[1]], set[list[int]]),
            ({"name": "a", "other": 1}, Node),
            ("x", type[int]),
            (5, Callable[[], int]),
            ("x", UserId),
        ],
    )
    def test_another_type_is_refused(self, value: object, annotation: object) -> None:
        assert refusal(value, annotation).startswith("Parameter 'p' of flow 'f'")

    def test_the_message_names_owner_parameter_type_and_value(self) -> None:
        with pytest.raises(ParameterTypeError, match=r"^Parameter 'day' of flow 'daily' expects date, got int 5$"):
            check(5, dt.date, name="day", owner="flow 'daily'")

    @pytest.mark.parametrize(
        ("value", "annotation", "ending"),
        [
            ([1, 2, 3, "x"], list[int], "flow 'f', p[3]: expects int, got str 'x'"),
            ({"a": {"b": [1, True]}}, dict[str, dict[str, list[int]]], "p['a']['b'][1]: expects int, got bool True"),
            ([1, "x"], list[int] | None, "p[1]: expects int, got str 'x'"),
            ({"x": 1}, dict[int, int], "p['x']: expects a key of type int, got str 'x'"),
            ({"name": "a", "children": [{"name": 5}]}, Node, "p.children[0].name: expects str, got int 5"),
            ({"name": "a", "children": [{}]}, Node, "p.children[0].name: expects str, got nothing"),
            (None, int, "expects int, got None"),
            ("x", int | None, "expects int | None, got str 'x'"),
            ("green", Color, "expects Color, got str 'green' (one of 'red', 'blue')"),
            ("31.1.", dt.date, "expects date, got str '31.1.' (write it like 2026-01-31)"),
            ("31.1.", dt.date | None, "expects date | None, got str '31.1.' (write it like 2026-01-31)"),
            (
                {"name": "a", "other": 1},
                Node,
                "expects Node, got dict {'name': 'a', 'other': 1} (it has no field 'other', only name, children)",
            ),
            (
                {"day": "2026-01-31", "length": 0},
                Window,
                "got dict {'day': '2026-01-31', 'length': 0} (length must be positive)",
            ),
        ],
    )
    def test_the_message_names_the_place_and_the_way_out(self, value: object, annotation: object, ending: str) -> None:
        assert refusal(value, annotation).endswith(ending)

    @pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), {n: n for n in range(1000)}])
    def test_a_long_value_is_cut_at_80_characters(self, value: object) -> None:
        shown = refusal(value, int).split(f"got {type(value).__name__} ")[1]
        assert len(shown) == 80
        assert shown.endswith("...")

    def test_a_long_key_is_cut_in_the_path(self) -> None:
        message = refusal({"x" * 10_000: 1}, dict[str, str])
        assert f", p['{'x' * 76}...]: expects str" in message

    def test_compile_check_raises_a_mismatch_with_path_expected_and_given(self) -> None:
        with pytest.raises(Mismatch) as caught:
            compile_check(list[int])([1, "x"])
        assert (caught.value.path, caught.value.expected, caught.value.given) == ("[1]", "int", "x")


class TestLeftToPydantic:
    @pytest.mark.parametrize(
        ("value", "annotation", "expected"),
        [
            ({"limit": 1, "day": "2026-01-31"}, Model, Model(limit=1, day=dt.date(2026, 1, 31))),
            ([{"limit": 1}], list[Model], [Model(limit=1)]),
            (5, Annotated[int, pydantic.Field(gt=0)], 5),
            ("a", Annotated[str, pydantic.AfterValidator(str.upper)], "A"),
            (Point(1), Point, Point(1)),
            ([1, 2], Point, Point(1, 2.0)),
            ({"x": 1}, Point, Point(1)),
            ([1], Ids, [1]),
            ([1, 2], collections.deque[int], collections.deque([1, 2])),
            ([1], MutableSequence[float], [1.0]),
            ([1], Set[int], frozenset({1})),
            ("10.0.0.1", ipaddress.IPv4Address, ipaddress.IPv4Address("10.0.0.1")),
        ],
    )
    def test_what_is_rare_is_converted_by_its_rules(self, value: object, annotation: object, expected: object) -> None:
        result = checked(value, annotation)
        assert result == expected
        assert type(result) is type(expected)

    @pytest.mark.parametrize(
        ("value", "annotation", "part"),
        [
            (0, Annotated[int, pydantic.Field(gt=0)], "expects int, got int 0 (input should be greater than 0)"),
            ([], Annotated[list[Table], pydantic.Field(min_length=1)], "expects list[Table], got list [] (list should"),
            (["x"], Ids, "expects Ids, got list ['x'] ([0]: input should be a valid integer"),
            ({}, Row, "expects Row, got dict {} (id: field required)"),
            ([{"id": "x"}], list[Row], "p[0]: expects Row, got dict {'id': 'x'} (id: input should be a valid integer"),
            ([1, 2, 3], Point, "expects Point, got list [1, 2, 3] ("),
            ("x", collections.deque[int], "expects deque[int], got str 'x' (input should be a valid"),
        ],
    )
    def test_its_refusal_names_type_and_value(self, value: object, annotation: object, part: str) -> None:
        assert part in refusal(value, annotation)

    def test_pydantics_errors_become_one_sentence_with_the_place(self) -> None:
        message = refusal([{"limit": "x", "day": 1.5}], list[Model])
        assert message.startswith("Parameter 'p' of flow 'f', p[0]: expects Model, got dict {'limit': 'x', 'day': 1.5}")
        assert "(limit: input should be a valid integer" in message
        assert message.endswith(", and 1 more)")
        assert "\n" not in message

    def test_a_typed_dict_keeps_its_other_keys(self) -> None:
        assert checked({"id": 1, "extra": (2,)}, Row) == {"id": 1, "extra": (2,)}

    def test_a_typed_dict_that_pydantic_refuses_is_still_a_dict(self) -> None:
        row = {"day": "any"}
        assert checked(row, HalfRow) is row
        assert refusal("x", HalfRow).endswith("expects dict, got str 'x'")

    def test_a_type_it_can_not_resolve_accepts_all(self) -> None:
        assert checked("any", TypeAliasType("Unknown", "Missing")) == "any"

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in Python 3.12")
    def test_an_alias_may_contain_itself(self) -> None:
        names: dict[str, Any] = {}
        exec("type Tree = dict[str, Tree] | int", names)
        assert checked({"a": {"b": 1}}, names["Tree"]) == {"a": {"b": 1}}
        assert refusal({"a": {"b": "x"}}, names["Tree"]).startswith("Parameter 'p' of flow 'f' expects Tree")


class TestCompiled:
    def test_an_annotation_is_compiled_once(self) -> None:
        annotation = dict[str, list[int]]
        assert compile_check(annotation) is compile_check(annotation)

    def test_an_annotation_without_hash_is_compiled_once(self) -> None:
        annotation = Annotated[int, pydantic.Field(json_schema_extra={"a": []}), []]
        with pytest.raises(TypeError):
            hash(annotation)
        assert compile_check(annotation) is compile_check(annotation)

    def test_a_union_of_types_without_hash_is_compiled(self) -> None:
        assert checked(5, Union[Annotated[int, pydantic.Field(json_schema_extra={"a": []})], None]) == 5

    def test_many_annotations_do_not_pile_up(self) -> None:
        for _ in range(5000):
            assert checked([1], list[int]) == [1]


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (None, "None"),
        (inspect.Parameter.empty, "Any"),
        (Any, "Any"),
        (list[int], "list[int]"),
        (List[int], "list[int]"),
        (dict[str, list[dt.date]], "dict[str, list[date]]"),
        (int | None, "int | None"),
        (Optional[int], "int | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "note"], "int"),
        (Callable[[int], str], "Callable[[int], str]"),
        (UserId, "UserId"),
        (Color, "Color"),
    ],
)
def test_a_type_is_described_shortly(annotation: object, name: str) -> None:
    assert describe(annotation) == name


SCRIPT = """
import sys
before = set(sys.modules)
import dagy.checks as c
assert not {"pydantic", "inspect", "dataclasses", "datetime"} & (set(sys.modules) - before)
import dataclasses, datetime, enum
Window = dataclasses.make_dataclass("Window", [("day", datetime.date)])
assert c.check({"day": "2026-01-31"}, Window, name="a", owner="flow") == Window(datetime.date(2026, 1, 31))
assert c.check({"1": ["2026-01-31"]}, dict[int, set[datetime.date]] | None, name="a", owner="flow")
assert c.check(enum, type(sys), name="a", owner="flow") is enum
assert "pydantic" not in sys.modules
"""


def test_built_in_types_never_load_pydantic() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


#: Annotation, a strategy for its values, and for what is none of them.
SCALARS: list[tuple[object, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False)),
    (str, st.text()),
    (bool, st.booleans()),
    (type(None), st.none()),
    (dt.date, st.dates()),
    (dt.datetime, st.datetimes(timezones=st.just(UTC))),
    (dt.time, st.times()),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (pathlib.PurePath, st.text("abc/", min_size=1).map(pathlib.PurePath)),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
]
#: Short texts, because a long key is cut in the path.
KEYS = [(str, st.text(max_size=6)), *(pair for pair in SCALARS if pair[0] in (int, dt.date, uuid.UUID, Color))]
HASHABLE = [pair for pair in SCALARS if pair[0] not in (dt.time,)]


class Case(NamedTuple):
    """One generated annotation, a value of it, and the same value with one wrong scalar at `path`."""

    annotation: Any
    value: Any
    spoilt: Any
    path: str


@st.composite
def scalar_cases(draw: st.DrawFn, pairs: list[tuple[Any, st.SearchStrategy[Any]]] = SCALARS) -> Case:
    annotation, values = draw(st.sampled_from(pairs))
    return Case(annotation, draw(values), b"wrong", "")


@st.composite
def container_cases(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    case, index = draw(inner), draw(st.integers(0, 3))
    around = [case.value] * index
    path = f"[{index}]{case.path}"
    shape = draw(st.sampled_from(["list", "tuple", "fixed", "dict", "sequence", "optional", "mapping"]))
    if shape in ("dict", "mapping"):
        key_type, keys = draw(st.sampled_from(KEYS))
        key, kind = draw(keys), dict if shape == "dict" else Mapping
        return Case(kind[key_type, case.annotation], {key: case.value}, {key: case.spoilt}, f"[{key!r}]{case.path}")
    if shape == "optional":
        return Case(Optional[case.annotation], case.value, case.spoilt, case.path)
    if shape == "list":
        return Case(list[case.annotation], [*around, case.value], [*around, case.spoilt], path)  # type: ignore[name-defined]
    if shape == "sequence":
        return Case(Sequence[case.annotation], [*around, case.value], [*around, case.spoilt], path)  # type: ignore[name-defined]
    annotation = tuple[case.annotation, ...] if shape == "tuple" else tuple[(case.annotation,) * (index + 1)]  # type: ignore[name-defined, misc]
    return Case(annotation, (*around, case.value), (*around, case.spoilt), path)


CASES = st.recursive(scalar_cases(), container_cases, max_leaves=4)


def as_json(value: Any) -> Any:
    """What a writer of JSON makes of a value."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {as_key(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value) if isinstance(value, (uuid.UUID, decimal.Decimal, pathlib.PurePath)) else value


def as_key(key: Any) -> Any:
    return key if isinstance(key, (int, str)) and not isinstance(key, enum.Enum) else as_json(key)


@given(CASES)
def test_a_value_of_its_type_passes_unchanged(case: Case) -> None:
    assert checked(case.value, case.annotation) is case.value


@given(CASES)
def test_a_value_passes_equal_after_json(case: Case) -> None:
    result = checked(json.loads(json.dumps(as_json(case.value))), case.annotation)
    assert result == case.value
    assert type(result) is type(case.value)


@given(CASES)
def test_a_wrong_scalar_is_refused_naming_its_path(case: Case) -> None:
    with pytest.raises(Mismatch) as caught:
        compile_check(case.annotation)(case.spoilt)
    assert caught.value.given == b"wrong"
    assert caught.value.path == case.path


@given(scalar_cases(HASHABLE).flatmap(lambda case: st.tuples(st.just(case), st.sampled_from([set, frozenset]))))
def test_a_set_passes_equal_after_json(drawn: tuple[Case, Any]) -> None:
    case, kind = drawn
    value = kind([case.value])
    assert checked(value, kind[case.annotation]) is value
    assert checked(as_json(value), kind[case.annotation]) == value


@given(CASES.filter(lambda case: case.annotation is not type(None)))
def test_a_described_type_fits_on_one_line(case: Case) -> None:
    name = describe(case.annotation)
    assert name
    assert "\n" not in name
    assert "typing." not in name


def test_a_module_is_no_value_of_a_builtin_type() -> None:
    assert "got module" in refusal(types, int)
