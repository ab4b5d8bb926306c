"""What declared types say of each other, once a value has travelled from one task to the next as JSON.

    fits             could an output of one type pass the check of a parameter of another?
    part_of, item_of the types of `output[key]` and of an item of a map
    is_json          can JSON hold the values of a type?
    can_be_ordered, can_be_equal
    told             a type in a message

What is not certain is allowed: an annotation that is missing, not resolved, or pydantic's matter fits everything.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from dagy.checks import Mismatch, compile_check, describe
from dagy.shapes import SCALARS, Kind, Shape, scalar_name, shape_of

_NONE = type(None)
_JSON_TYPES = (_NONE, bool, int, float, str, list, dict)


def fits(produced: object, wanted: object) -> bool:
    """Return False if certainly no output of one declared type passes the check of another, other than an empty list.

    Args:
        produced: the resolved return annotation of the producer, whose output travels as JSON.
        wanted: the resolved annotation of the consumer's parameter.
    """
    given, want = shape_of(produced), shape_of(wanted)
    if want.kind in (Kind.ANY, Kind.PYDANTIC, Kind.ENUM) and given.kind is not Kind.LITERAL:
        return True
    if given.kind is Kind.UNION:
        return any(fits(member, wanted) for member in given.args)
    if want.kind is Kind.UNION:
        return any(fits(produced, member) for member in want.args)
    if given.kind is Kind.LITERAL:
        return want.kind is Kind.PYDANTIC or any(_passes(value, want.annotation) for value in given.args)
    carried = _carried(given)
    return carried is None or _takes(want, given, carried)


def _passes(value: object, wanted: object) -> bool:
    try:
        compile_check(wanted)(value)
    except Mismatch:
        return isinstance(value, Enum)
    return True


def _carried(shape: Shape) -> type | None:
    """The class that values of a type have after their way as JSON; None if that is not known."""
    if shape.kind is Kind.ARRAY:
        return list if shape.base in (list, tuple) else None
    if shape.kind is Kind.ENUM:
        return next((each for each in (str, int, float) if issubclass(shape.base, each)), None)
    if shape.kind is Kind.MAPPING:
        return dict
    return shape.base if shape.kind is Kind.SCALAR and shape.base in _JSON_TYPES else None


def _takes(want: Shape, given: Shape, carried: type) -> bool:
    if want.kind is Kind.SCALAR:
        accepts = SCALARS[scalar_name(want.base)].accepts
        return carried is want.base or (carried is not bool and carried in accepts)
    if want.kind is Kind.LITERAL:
        return any(type(each.value if isinstance(each, Enum) else each) is carried for each in want.args)
    if want.kind is Kind.ARRAY:
        return _items_fit(given, want) if carried is list else carried is dict and issubclass(dict, want.base)
    if want.kind is Kind.MAPPING:
        return carried is dict and (not given.args or not want.args or fits(given.args[1], want.args[1]))
    if want.kind is Kind.DATACLASS:
        return carried is dict
    return issubclass(carried, want.base)


def _items_fit(given: Shape, want: Shape) -> bool:
    ours, theirs = _items(given), _items(want)
    if ours and theirs and _is_fixed(given) and _is_fixed(want):
        return len(ours) == len(theirs) and all(map(fits, ours, theirs))
    return all(fits(one, other) for one in ours for other in theirs)


def _items(shape: Shape) -> tuple[Any, ...]:
    # In Python 3.10, tuple[()] has the argument ().
    return tuple(each for each in shape.args if each is not ... and each != ())


def _is_fixed(shape: Shape) -> bool:
    return shape.base is tuple and ... not in shape.args


def part_of(annotation: object, key: str | int) -> object:
    """Return the type of `output[key]`."""
    shape = shape_of(annotation)
    if shape.kind is Kind.MAPPING and isinstance(key, str) and shape.args:
        return shape.args[1]
    if shape.kind is Kind.ARRAY and isinstance(key, int):
        return _items(shape)[key] if _is_fixed(shape) and 0 <= key < len(_items(shape)) else item_of(annotation)
    return Any


def item_of(annotation: object) -> object:
    """Return the type of any item of a list."""
    shape = shape_of(annotation)
    is_list = shape.kind is Kind.ARRAY and shape.args and not _is_fixed(shape)
    return shape.args[0] if is_list else Any


def is_json(annotation: object) -> bool:
    """Return whether JSON can hold the values of a type; True if that is not known."""
    shape = shape_of(annotation)
    if shape.kind in (Kind.UNION, Kind.ARRAY, Kind.MAPPING):
        return shape.base not in (set, frozenset) and all(map(is_json, _items(shape)))
    if shape.kind in (Kind.SCALAR, Kind.ENUM):
        return issubclass(shape.base, (_NONE, int, float, str))
    if shape.kind is Kind.CLASS:
        return any(issubclass(each, shape.base) or issubclass(shape.base, each) for each in _JSON_TYPES)
    return shape.kind is not Kind.DATACLASS and not hasattr(shape.base, "__pydantic_fields__")


def can_be_ordered(left: object, right: object) -> bool:
    """Return False if `<` between values of the types certainly raises."""
    ours, theirs = _groups(left), _groups(right)
    # None is what a skipped task run gives, whatever its task declares.
    return not ours or not theirs or bool(ours & theirs) or {_NONE} in (ours, theirs)


def can_be_equal(left: object, right: object) -> bool:
    """Return False if `==` between values of the types is certainly false."""
    one, other = shape_of(left), shape_of(right)
    are_literals = one.kind is Kind.LITERAL and other.kind is Kind.LITERAL and _groups(left) and _groups(right)
    if are_literals and None not in (*one.args, *other.args):
        return bool(set(one.args) & set(other.args))
    return can_be_ordered(left, right)


def _groups(annotation: object) -> set[object]:
    """The classes among which values can be equal and have an order; empty if that is not known."""
    shape = shape_of(annotation)
    if shape.kind is Kind.UNION:
        members = [_groups(each) for each in shape.args]
        return set().union(*members) if all(members) else set()
    classes = {type(each) for each in shape.args} if shape.kind is Kind.LITERAL else {_carried(shape)}
    is_unknown = any(each is None or issubclass(each, Enum) for each in classes)
    return set() if is_unknown else {float if each in (bool, int) else each for each in classes}


def told(annotation: object) -> str:
    """Return a short name of a type; of a Literal of one value, that value."""
    shape = shape_of(annotation)
    text = repr(shape.args[0]) if shape.kind is Kind.LITERAL and len(shape.args) == 1 else describe(annotation)
    return text if len(text) <= 60 else f"{text[:57]}..."
