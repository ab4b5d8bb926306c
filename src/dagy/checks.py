"""Does a value fit an annotation? It is converted only where JSON had lost the type (a tuple, a date, an enum).

    compile_check   the check of an annotation: value in, (converted) value out, or `Mismatch`
    check           one value of one parameter; a mismatch becomes the sentence for the user

Built-in types, dates, enums, containers, dataclasses and other classes (by isinstance) are checked here, without
loading pydantic, which checks the rest by its lax rules; `dagy.shapes` tells them apart.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import json
import sys
import types
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dagy.errors import ParameterTypeError
from dagy.shapes import SCALARS, Field, Kind, Shape, fields_of, scalar_name, shape_of

Checker = Callable[[Any], object]
_LISTS, _SETS, _WALKED = (list, tuple), (list, tuple, set, frozenset), (list, tuple, set, frozenset, dict)
#: Container -> what else is accepted and made one, because JSON has only the list.
_MADE_FROM: dict[type, tuple[type, ...]] = {list: _LISTS, tuple: _LISTS, set: _SETS, frozenset: _SETS}
_NOTHING = object()


class Mismatch(Exception):
    """A value does not fit its type; `path` leads from the parameter to the value, as in `[3].day`."""

    def __init__(self, expected: str, given: object, why: str = "") -> None:
        super().__init__(expected)
        self.path, self.expected, self.given, self.why = "", expected, given, why

    def as_error(self, *, name: str, owner: str) -> ParameterTypeError:
        """Return the sentence for the user, about a parameter of such as `flow 'daily'`."""
        place = f", {name}{self.path}:" if self.path else ""
        hint = f" ({self.why})" if self.why else ""
        given = f"{type(self.given).__name__} {_cut(self.given)}"
        given = "nothing" if self.given is _NOTHING else "None" if self.given is None else given
        return ParameterTypeError(f"Parameter {name!r} of {owner}{place} expects {self.expected}, got {given}{hint}")


def _cut(value: object) -> str:
    # A long list or text is cut before it is written out, which could take seconds.
    text = repr(value[:100] if isinstance(value, (str, bytes, list, tuple)) else value)
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= 80 else text[:77] + "..."


def describe(annotation: object) -> str:
    """Return a short readable name of a type, such as `list[int]`, `date` or `int | None`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is ...:
        return "..."
    if isinstance(annotation, list):  # the arguments of a Callable
        return f"[{', '.join(map(describe, annotation))}]"
    if origin is Union or origin is types.UnionType:
        return " | ".join(map(describe, args))
    if origin is Annotated:
        return describe(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(str if isinstance(args[0], enum.Enum) else repr, args))}]"
    name = getattr(origin or annotation, "__name__", None) or str(annotation).removeprefix("typing.")
    if name == "_empty":
        return "Any"
    return f"{name}[{', '.join(map(describe, args))}]" if args else name


def check(value: object, annotation: object, *, name: str, owner: str) -> object:
    """Return the value as its declared type wants it: itself, or converted where JSON had lost the type.

    Args:
        value: what was given.
        annotation: a resolved annotation (see `parameters.hints`); None, Any and no annotation accept everything.
        name: the parameter, for the message.
        owner: whose parameter it is, such as `flow 'daily'`.

    Raises:
        ParameterTypeError: the value, or one inside it, does not fit; the message names the place.
    """
    try:
        return compile_check(annotation)(value)
    except Mismatch as wrong:
        raise wrong.as_error(name=name, owner=owner) from wrong


_CACHE_SIZE = 2048
#: By identity: some annotations have no hash, and `int | str == str | int` although their order decides. The
#: annotation is kept with its checker, so that its id can not be given to another one.
_compiled: dict[int, tuple[object, Checker]] = {}


def compile_check(annotation: object) -> Checker:
    """Return the check of one annotation: value in, (converted) value out, `Mismatch` if it does not fit.

    A value that needs no conversion comes back as the same object, except from pydantic, which may copy it. The check
    is compiled once per annotation.
    """
    known = _compiled.get(id(annotation))
    if known is not None:
        return known[1]
    shape = shape_of(annotation)
    checker = _COMPILERS[shape.kind](shape, describe(shape.annotation))
    if len(_compiled) >= _CACHE_SIZE:
        _compiled.clear()
    _compiled[id(annotation)] = (annotation, checker)
    return checker


def _compile_scalar(shape: Shape, expected: str) -> Checker:
    cls = shape.base
    example, accepts, convert = SCALARS[scalar_name(cls)]
    refused: type | tuple[()] = ()
    if cls is int:
        refused = bool
    elif expected == "date":
        # JSON would write another text for a datetime, one that is no date.
        refused = sys.modules["datetime"].datetime

    def check_scalar(value: object) -> object:
        if type(value) is cls or (isinstance(value, cls) and not isinstance(value, refused)):
            return value
        if not isinstance(value, accepts) or type(value) is bool:
            raise Mismatch(expected, value)
        try:
            return convert(cls, value)
        except (ValueError, ArithmeticError):
            raise Mismatch(expected, value, f"write it like {example}") from None

    return check_scalar


def _compile_enum(shape: Shape, expected: str) -> Checker:
    cls = shape.base
    values = [_cut(member.value) for member in itertools.islice(cls, 11)]
    legal = "one of " + ", ".join(values[:10] + ["..."] * (len(values) > 10))

    def check_enum(value: object) -> object:
        if isinstance(value, cls):
            return value
        try:
            found = cls(value)
        except (ValueError, TypeError, KeyError):
            found = cls.__members__.get(value) if isinstance(value, str) else None
        # True equals 1, yet is not what an enum of numbers means.
        if found is None or (isinstance(value, bool) and not isinstance(found.value, bool)):
            raise Mismatch(expected, value, legal)
        return found

    return check_enum


def _compile_literal(shape: Shape, expected: str) -> Checker:
    def check_literal(value: object) -> object:
        for literal in shape.args:
            if type(value) is type(literal) and value == literal:
                return value
            if isinstance(literal, enum.Enum) and type(value) is type(literal.value) and value == literal.value:
                return literal
        raise Mismatch(expected, value)

    return check_literal


def _exact_types(annotation: object) -> frozenset[type]:
    """The classes whose direct instances certainly pass as they are."""
    shape = shape_of(annotation)
    if shape.kind is Kind.UNION:
        return frozenset().union(*map(_exact_types, shape.args))
    return frozenset([shape.base]) if shape.kind is Kind.SCALAR else frozenset()


def _compile_union(shape: Shape, expected: str) -> Checker:
    exact, checkers = _exact_types(shape.annotation), [compile_check(member) for member in shape.args]
    is_optional = len(checkers) == 2 and type(None) in shape.args

    def check_union(value: object) -> object:
        if type(value) in exact:
            return value
        converted, deepest = _NOTHING, Mismatch(expected, value)
        for checker in checkers:
            try:
                result = checker(value)
            except Mismatch as wrong:
                if len(wrong.path) > len(deepest.path):
                    deepest = wrong
                elif is_optional and wrong.why:
                    deepest.why = wrong.why
                continue
            if result is value:
                return value
            converted = result if converted is _NOTHING else converted
        if converted is _NOTHING:
            raise deepest
        return converted

    return check_union


#: Values in, and out after their checks; None if all came back as they were. The keys are for the path.
_Walk = Callable[[Iterable[object], Iterable[object]], "list[object] | None"]


def _walk_each(annotation: object, checker: Checker) -> _Walk:
    if shape_of(annotation).kind is Kind.ANY:
        return lambda keys, items: None  # noqa: ARG005 - one of two answers of the same shape
    exact, every = _exact_types(annotation), itertools.repeat(checker)
    return lambda keys, items: None if exact.issuperset(map(type, items)) else _walked(keys, items, every)


def _walked(keys: Iterable[object], items: Iterable[object], checkers: Iterable[Checker]) -> list[object] | None:
    checked, changed = [], False
    for key, item, checker in zip(keys, items, checkers, strict=False):
        try:
            result = checker(item)
        except Mismatch as wrong:
            wrong.path = f"[{_cut(key)}]{wrong.path}"
            raise
        changed = changed or result is not item
        checked.append(result)
    return checked if changed else None


def _walk_array(shape: Shape, expected: str) -> _Walk:
    if shape.base is not tuple or shape.args[-1:] == (...,) or not hasattr(shape.annotation, "__args__"):
        item = shape.args[0] if shape.args else Any
        return _walk_each(item, compile_check(item))
    # In Python 3.10, tuple[()] has the argument ().
    checkers = [compile_check(argument) for argument in shape.args if argument != ()]

    def walk_fixed(keys: Iterable[object], items: Any) -> list[object] | None:
        if len(items) != len(checkers):
            raise Mismatch(expected, items)
        return _walked(keys, items, checkers)

    return walk_fixed


def _compile_array(shape: Shape, expected: str) -> Checker:
    base, walk, accepts = shape.base, _walk_array(shape, expected), _MADE_FROM.get(shape.base, ())

    def check_array(value: Any) -> object:
        fits = isinstance(value, base) and not isinstance(value, (str, bytes))
        if not fits and not isinstance(value, accepts):
            raise Mismatch(expected, value)
        # Only containers are walked: a generator would be used up, a lazy sequence could be endless.
        changed = walk(itertools.count(), value) if isinstance(value, _WALKED) else None
        if changed is None and fits:
            return value
        build: Any = base if accepts else type(value) if type(value) in _SETS else list
        try:
            return build(value if changed is None else changed)
        except TypeError:
            raise Mismatch(expected, value, "what a set contains must be hashable") from None

    return check_array


def _compile_mapping(shape: Shape, expected: str) -> Checker:
    base, (key_type, item_type) = shape.base, shape.args or (Any, Any)
    walk_keys = _walk_each(key_type, _key_checker(compile_check(key_type)))
    walk_items = _walk_each(item_type, compile_check(item_type))

    def check_mapping(value: Any) -> object:
        if not isinstance(value, base):
            raise Mismatch(expected, value)
        keys, items = walk_keys(value, value), walk_items(value, value.values())
        if keys is None and items is None:
            return value
        return dict(zip(value if keys is None else keys, value.values() if items is None else items, strict=True))

    return check_mapping


def _key_checker(checker: Checker) -> Checker:
    def check_key(key: object) -> object:
        try:
            return checker(key)
        except Mismatch as wrong:
            with contextlib.suppress(Mismatch, ValueError, RecursionError):
                if isinstance(key, str):
                    return checker(json.loads(key))  # JSON turns every key into text
            wrong.expected = f"a key of type {wrong.expected}"
            raise

    return check_key


def _compile_dataclass(shape: Shape, expected: str) -> Checker:
    cls = shape.base

    @functools.cache
    def fields() -> dict[str, tuple[Checker, Field]]:
        # At the first use, because a dataclass may contain itself.
        return {name: (compile_check(field.annotation), field) for name, field in fields_of(cls).items()}

    def check_dataclass(value: object) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, abc.Mapping):
            raise Mismatch(expected, value)
        # What `asdict` writes also has the fields that __init__ does not take.
        unknown = [name for name in value if name not in fields() and name not in cls.__dataclass_fields__]
        if unknown:
            raise Mismatch(expected, value, f"it has no field {unknown[0]!r}, only {', '.join(fields())}")
        checked = _checked_fields(value, fields())
        try:
            return cls(**checked)
        except (TypeError, ValueError) as exc:
            raise Mismatch(expected, value, str(exc)) from exc

    return check_dataclass


def _checked_fields(value: Mapping[str, object], fields: Mapping[str, tuple[Checker, Field]]) -> dict[str, object]:
    checked = {}
    for name, (checker, field) in fields.items():
        try:
            if name in value:
                checked[name] = checker(value[name])
            elif field.required:
                raise Mismatch(describe(field.annotation), _NOTHING)
        except Mismatch as wrong:
            wrong.path = f".{name}{wrong.path}"
            raise
    return checked


def _compile_class(shape: Shape, expected: str) -> Checker:
    def check_class(value: object) -> object:
        if isinstance(value, shape.base):
            return value
        raise Mismatch(expected, value)

    return check_class


def _compile_pydantic(shape: Shape, expected: str) -> Checker:
    # Built at the first use, because the import costs more than most runs spend on checks.
    checker_of = functools.cache(lambda: _pydantic_checker(shape.annotation, expected))
    return lambda value: checker_of()(value)


def _pydantic_checker(annotation: Any, expected: str) -> Checker:
    import pydantic  # noqa: PLC0415 - 100 ms that only models and constraints need

    # For what pydantic refuses: typing.TypedDict before Python 3.12, and a class that names a type which only type
    # checkers see.
    check_parent = compile_check(
        next((each for each in (dict, tuple) if each in getattr(annotation, "__mro__", ())), Any)
    )
    # In a tuple, because a bare TypedDict takes no settings: without `extra` its other keys would be lost.
    single: Any = types.GenericAlias(tuple, (annotation,))
    try:
        adapter = pydantic.TypeAdapter[Any](single, config={"arbitrary_types_allowed": True, "extra": "allow"})
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation):
        return check_parent

    def check_by_adapter(value: object) -> object:
        try:
            return adapter.validate_python((value,))[0]
        except pydantic.ValidationError as exc:
            raise Mismatch(expected, value, _sentence(exc.errors(include_url=False))) from exc
        except pydantic.PydanticUserError:
            return check_parent(value)

    return check_by_adapter


def _sentence(errors: list[Any]) -> str:
    steps = errors[0]["loc"][1:]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    message: str = errors[0]["msg"][:1].lower() + errors[0]["msg"][1:]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return (f"{place}: " if place else "") + message + more


_COMPILERS: dict[Kind, Callable[[Shape, str], Checker]] = {
    Kind.ANY: lambda shape, expected: lambda value: value,  # noqa: ARG005 - the shape of the table
    Kind.SCALAR: _compile_scalar,
    Kind.ENUM: _compile_enum,
    Kind.LITERAL: _compile_literal,
    Kind.UNION: _compile_union,
    Kind.ARRAY: _compile_array,
    Kind.MAPPING: _compile_mapping,
    Kind.DATACLASS: _compile_dataclass,
    Kind.CLASS: _compile_class,
    Kind.PYDANTIC: _compile_pydantic,
}
