"""What an annotation is: resolved, taken apart, and of one kind.

`dagy.checks` has one check per kind, `dagy.parameters` one reading of text and one JSON Schema. What is rare (models,
constraints, NamedTuple, TypedDict, aliases, the rest of the standard library) is of the kind "pydantic".
"""

from __future__ import annotations

import enum
import sys
import types
from collections import abc
from collections.abc import Callable
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints


class Scalar(NamedTuple):
    """How a class of single values is written as text, and what JSON holds instead of it."""

    example: str
    accepts: tuple[type, ...] = ()
    convert: Callable[[Any, Any], object] = lambda cls, value: cls(value)


def _from_iso(cls: Any, text: str) -> object:
    # Python 3.10 does not read the Z that JavaScript writes.
    return cls.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


#: By name: whoever declares a date has imported datetime, so this module does not have to.
SCALARS: dict[str, Scalar] = {
    "builtins.NoneType": Scalar("null"),
    "builtins.bool": Scalar("true"),
    "builtins.int": Scalar("1"),
    "builtins.float": Scalar("1.5", (int,)),
    "builtins.str": Scalar("a"),
    "builtins.bytes": Scalar(""),
    "datetime.date": Scalar("2026-01-31", (str,), _from_iso),
    "datetime.datetime": Scalar("2026-01-31T08:00:00+00:00", (str,), _from_iso),
    "datetime.time": Scalar("08:00:00", (str,), _from_iso),
    "datetime.timedelta": Scalar("90", (int, float), lambda cls, seconds: cls(seconds=seconds)),
    # Through text, because Decimal(0.1) is not 0.1.
    "decimal.Decimal": Scalar("9.99", (str, int, float), lambda cls, number: cls(str(number))),
    "uuid.UUID": Scalar("00000000-0000-4000-8000-000000000000", (str,)),
    "pathlib.Path": Scalar("data/in.csv", (str,)),
    "pathlib.PurePath": Scalar("data/in.csv", (str,)),
}
_ARRAYS = (list, tuple, set, frozenset, abc.Sequence, abc.Collection, abc.Iterable)


class Kind(enum.Enum):
    """How an annotation is checked, read from text and written as JSON Schema."""

    ANY = enum.auto()
    SCALAR = enum.auto()
    ENUM = enum.auto()
    LITERAL = enum.auto()
    UNION = enum.auto()
    ARRAY = enum.auto()
    MAPPING = enum.auto()
    DATACLASS = enum.auto()
    CLASS = enum.auto()
    PYDANTIC = enum.auto()


class Shape(NamedTuple):
    """An annotation taken apart: `base` stands before the brackets, `args` in them."""

    kind: Kind
    annotation: Any
    base: Any
    args: tuple[Any, ...]


def shape_of(annotation: object) -> Shape:
    """Return what an annotation is; `Kind.ANY` if there is none, or it is not resolved, or says nothing of a value."""
    bare = _unwrapped(annotation)
    base, args = get_origin(bare) or bare, get_args(bare)
    if base is not Literal:
        args = tuple(type(None) if argument is None else argument for argument in args)
    return Shape(_kind(base), bare, base, args)


def _unwrapped(annotation: Any) -> Any:
    """The annotation that decides, behind NewType, TypeVar and documentation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is object or isinstance(annotation, (str, ForwardRef)):
        return Any
    if isinstance(annotation, TypeVar):
        return _unwrapped(annotation.__bound__)
    if hasattr(annotation, "__supertype__"):
        return _unwrapped(annotation.__supertype__)
    if origin is Annotated and all(isinstance(note, str) for note in annotation.__metadata__):
        return _unwrapped(args[0])
    if origin is tuple and any(repr(each).startswith("*") or "Unpack[" in repr(each) for each in args):
        return tuple  # neither we nor pydantic look into tuple[int, *tuple[str, ...]]
    return annotation


def _kind(base: Any) -> Kind:
    if base is Union or base is types.UnionType:
        return Kind.UNION
    if base is Literal:
        return Kind.LITERAL
    if base is Annotated or type(base).__name__ == "TypeAliasType":
        return Kind.PYDANTIC
    if not isinstance(base, type) or base.__module__ == "typing" or scalar_name(base) == "inspect._empty":
        return Kind.ANY
    if base in _ARRAYS:
        return Kind.ARRAY
    return Kind.MAPPING if base in (dict, abc.Mapping) else _kind_of_class(base)


def _kind_of_class(cls: type) -> Kind:
    if scalar_name(cls) in SCALARS:
        return Kind.SCALAR
    if issubclass(cls, enum.Enum):
        return Kind.ENUM
    if hasattr(cls, "__pydantic_validator__") or hasattr(cls, "__get_pydantic_core_schema__"):
        return Kind.PYDANTIC
    if hasattr(cls, "__dataclass_fields__"):
        return Kind.DATACLASS
    if getattr(cls, "_is_protocol", False):
        return Kind.ANY
    # An abstract class without content, such as Iterator or Callable, is as plain as object.
    is_plain = cls.__module__ == "builtins" or (
        cls.__module__ == "collections.abc" and not issubclass(cls, abc.Collection)
    )
    is_library = not is_plain and cls.__module__.partition(".")[0] in sys.stdlib_module_names
    # What derives from dict and tuple is mostly a TypedDict or a NamedTuple.
    return Kind.PYDANTIC if is_library or issubclass(cls, (dict, tuple)) else Kind.CLASS


def scalar_name(cls: type) -> str:
    """Return the key of a class in `SCALARS`."""
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def resolve_annotations(part: Any) -> dict[str, object]:
    """Return the annotations of a function, or of a class without its bases; Any for one that can not be resolved."""
    module = getattr(sys.modules.get(part.__module__), "__dict__", {})
    names = getattr(part, "__globals__", None) or {**getattr(part, "__dict__", {}), **module}
    return {name: _resolved(raw, names) for name, raw in _raw_annotations(part).items()}


def _raw_annotations(part: Any) -> dict[str, object]:
    try:
        return dict(getattr(part, "__annotations__", {}))
    except NameError:  # Python 3.14 evaluates them here
        import importlib  # noqa: PLC0415 - only for a name that does not resolve

        lib = importlib.import_module("annotationlib")
        return dict(lib.get_annotations(part, format=lib.Format.FORWARDREF))


def _resolved(raw: object, names: dict[str, Any]) -> object:
    holder = types.SimpleNamespace(__annotations__={"it": raw})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:  # evaluating someone's annotation can raise anything
        return Any


class Field(NamedTuple):
    """What the `__init__` of a dataclass takes under one name."""

    annotation: object
    required: bool


def fields_of(cls: Any) -> dict[str, Field]:
    """Return the fields of a dataclass by name, in the order of its `__init__`."""
    import inspect  # noqa: PLC0415 - 6 ms, and a dataclass has loaded it already

    declared: dict[str, object] = {}
    for part in reversed(cls.__mro__):
        declared |= resolve_annotations(part)
    named = {n: p for n, p in inspect.signature(cls).parameters.items() if not p.kind.name.startswith("VAR_")}
    return {name: Field(declared.get(name, Any), each.default is each.empty) for name, each in named.items()}
