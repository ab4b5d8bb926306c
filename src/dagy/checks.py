"""Does a value fit an annotation? It is converted only where JSON had lost the type (a tuple, a date, an enum).

    shape_of        what an annotation is: its kind and its parts
    compile_check   its check as a function: value in, (converted) value out, or `Mismatch`
    check           one value of one parameter; a mismatch becomes the sentence for the user

Built-in types, dates, enums, containers, dataclasses and other classes (by isinstance) are checked here, without
loading pydantic. Pydantic checks the rest by its lax rules: models, constraints, NamedTuple, TypedDict, aliases, and
what else the standard library has.
"""

from __future__ import annotations

import enum
import functools
import itertools
import json
import sys
import types
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from dagy.errors import ParameterTypeError

Checker = Callable[[Any], object]
Kind = Literal["any", "scalar", "enum", "literal", "union", "array", "mapping", "dataclass", "class", "pydantic"]
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
_LISTS, _SETS, _WALKED = (list, tuple), (list, tuple, set, frozenset), (list, tuple, set, frozenset, dict)
#: Container -> what else is accepted for it, and how that (or a converted content) becomes the container.
_ARRAYS: dict[type, tuple[tuple[type, ...], Callable[[Iterable[object]], object] | None]] = {
    list: (_LISTS, list),
    tuple: (_LISTS, tuple),
    set: (_SETS, set),
    frozenset: (_SETS, frozenset),
    abc.Sequence: ((), None),
    abc.Collection: ((), None),
    abc.Iterable: ((), None),
}


class Shape(NamedTuple):
    """An annotation taken apart: `base` stands before the brackets, `args` in them."""

    kind: Kind
    annotation: Any
    base: Any
    args: tuple[Any, ...]


def shape_of(annotation: object) -> Shape:
    """Return what an annotation is; "any" if there is none, or it can not be resolved, or it is like ParamSpec."""
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
        return "union"
    if base is Literal:
        return "literal"
    if base is Annotated or type(base).__name__ == "TypeAliasType":
        return "pydantic"
    if not isinstance(base, type) or base.__module__ == "typing" or base.__name__ == "_empty":
        return "any"
    if base in _ARRAYS:
        return "array"
    return "mapping" if base in (dict, abc.Mapping) else _kind_of_class(base)


def _kind_of_class(cls: type) -> Kind:
    if scalar_name(cls) in SCALARS:
        return "scalar"
    if issubclass(cls, enum.Enum):
        return "enum"
    if hasattr(cls, "__pydantic_validator__") or hasattr(cls, "__get_pydantic_core_schema__"):
        return "pydantic"
    if hasattr(cls, "__dataclass_fields__"):
        return "dataclass"
    if getattr(cls, "_is_protocol", False):
        return "any"
    is_library = cls.__module__ != "builtins" and cls.__module__.partition(".")[0] in sys.stdlib_module_names
    # What derives from them is a NamedTuple or a TypedDict.
    return "pydantic" if is_library or issubclass(cls, (tuple, dict)) else "class"


def scalar_name(cls: type) -> str:
    """Return the key of a class in `SCALARS`."""
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


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


def resolve_annotations(part: Any) -> dict[str, object]:
    """Return the annotations of a function, or of a class without its bases; Any for one that can not be resolved."""
    module = getattr(sys.modules.get(part.__module__), "__dict__", {})
    names = getattr(part, "__globals__", None) or {**vars(part), **module}
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
