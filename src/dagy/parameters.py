"""Declared types turned into checks of values, readings of `--param` text and a flow's JSON Schema.

Every annotation is of one kind (`_kind`), and each question has one answer per kind:

    check         does this value fit? It is converted only where JSON had lost the type (a tuple, a date, an enum).
    parse_text    what does this text of the command line mean?
    json_schema   how is it written as JSON Schema?

Built-in types, dates, enums, containers and records (dataclass, NamedTuple, TypedDict) are handled here, without
pydantic; models, constrained `Annotated` types and the rest of the standard library are handed to pydantic, and a
class that pydantic does not know is an isinstance check.
"""

from __future__ import annotations

import enum
import functools
import itertools
import json
import operator
import sys
import types
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dagy.errors import ParameterError, ParameterTypeError

if TYPE_CHECKING:
    import inspect

Checker = Callable[[object], object]


class Mismatch(Exception):
    """A value does not fit its type; `path` leads from the parameter to the value, as in `[3].day`."""

    def __init__(self, expected: str, given: object, why: str = "", *, json_example: str = "") -> None:
        super().__init__(expected)
        self.path = ""
        self.expected = expected
        self.given = given
        self.why = why
        self.json_example = json_example


class _Scalar(NamedTuple):
    schema: dict[str, object]
    example: str
    #: What JSON holds instead, and how it becomes the declared class again.
    accepts: tuple[type, ...] = ()
    convert: Callable[[Any, Any], object] = lambda cls, value: cls(value)
    #: What the text of the command line is before it is checked.
    read: Callable[[str], object] = str


def _from_iso(cls: Any, text: str) -> object:
    # Python 3.10 does not read the Z that JavaScript writes.
    return cls.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


def _text_schema(format_: str) -> dict[str, object]:
    return {"type": "string", "format": format_}


_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_NULL = {"null": None, "none": None}
_UUID = "00000000-0000-4000-8000-000000000000"
#: By name: whoever declares a date has imported datetime, so this module does not have to.
_SCALARS: dict[str, _Scalar] = {
    "builtins.NoneType": _Scalar({"type": "null"}, "null", read=lambda text: _NULL[text.lower()]),
    "builtins.bool": _Scalar({"type": "boolean"}, "true", read=lambda text: _TRUTH[text.lower()]),
    "builtins.int": _Scalar({"type": "integer"}, "1", read=int),
    "builtins.float": _Scalar({"type": "number"}, "1.5", (int,), read=float),
    "builtins.str": _Scalar({"type": "string"}, "a"),
    "builtins.bytes": _Scalar({}, ""),
    "datetime.date": _Scalar(_text_schema("date"), "2026-01-31", (str,), _from_iso),
    "datetime.datetime": _Scalar(_text_schema("date-time"), "2026-01-31T08:00:00+00:00", (str,), _from_iso),
    "datetime.time": _Scalar(_text_schema("time"), "08:00:00", (str,), _from_iso),
    "datetime.timedelta": _Scalar({"type": "number"}, "90", (int, float), lambda cls, s: cls(seconds=s), float),
    # Through text, because Decimal(0.1) is not 0.1.
    "decimal.Decimal": _Scalar(
        {"anyOf": [{"type": "number"}, {"type": "string"}]}, "9.99", (str, int, float), lambda cls, n: cls(str(n))
    ),
    "uuid.UUID": _Scalar(_text_schema("uuid"), _UUID, (str,)),
    "pathlib.Path": _Scalar(_text_schema("path"), "data/in.csv", (str,)),
    "pathlib.PurePath": _Scalar(_text_schema("path"), "data/in.csv", (str,)),
}

_LISTS, _SETS, _WALKED = (list, tuple), (list, tuple, set, frozenset), (list, tuple, set, frozenset, dict)
#: Container -> what else is accepted for it, and how that (or a converted content) becomes the container.
_ARRAYS: dict[object, tuple[tuple[type, ...], Callable[[Iterable[object]], object] | None]] = {
    list: (_LISTS, list),
    tuple: (_LISTS, tuple),
    set: (_SETS, set),
    frozenset: (_SETS, frozenset),
    abc.Set: (_LISTS, set),
    abc.MutableSet: (_SETS, set),
    abc.MutableSequence: (_LISTS, list),
    abc.Sequence: ((), None),
    abc.Collection: ((), None),
    abc.Iterable: ((), None),
}
_MAPPINGS: tuple[object, ...] = (dict, abc.Mapping, abc.MutableMapping)
_NOTHING = object()


def check(value: object, annotation: object, *, name: str, owner: str) -> object:
    """Return the value as its declared type wants it: itself, or converted where JSON had lost the type.

    Args:
        value: what was given.
        annotation: a resolved annotation (see `hints`); None, Any and no annotation accept everything.
        name: the parameter, for the message.
        owner: whose parameter it is, such as `flow 'daily'`.

    Raises:
        ParameterTypeError: the value, or one inside it, does not fit; the message names the place.
    """
    try:
        return compile_check(annotation)(value)
    except Mismatch as wrong:
        raise _type_error(wrong, name=name, owner=owner) from wrong


def _type_error(wrong: Mismatch, *, name: str, owner: str) -> ParameterTypeError:
    place = f", {name}{wrong.path}:" if wrong.path else ""
    why = f"write it as JSON: --param {name}='{wrong.json_example}'" if wrong.json_example else wrong.why
    given = "nothing" if wrong.given is _NOTHING else _shown(wrong.given)
    hint = f" ({why})" if why else ""
    return ParameterTypeError(f"Parameter {name!r} of {owner}{place} expects {wrong.expected}, got {given}{hint}")


def _shown(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} {_cut(value)}"


def _cut(value: object) -> str:
    # A long list or text is cut before it is written out, which could take seconds.
    text = repr(value[:100] if isinstance(value, (str, bytes, list, tuple)) else value)
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= 80 else text[:77] + "..."


_CACHE_SIZE = 2048
#: By identity: some annotations have no hash, and `int | str == str | int` although their order decides. The
#: annotation is kept with its checker, so that its id can not be given to another one.
_compiled: dict[int, tuple[object, Checker]] = {}


def compile_check(annotation: object) -> Checker:
    """Return the check of one annotation: value in, (converted) value out, `Mismatch` if it does not fit.

    A value that needs no conversion comes back as the same object. The check is compiled once per annotation.
    """
    known = _compiled.get(id(annotation))
    if known is not None:
        return known[1]
    bare = _unwrapped(annotation)
    checker = _COMPILERS[_kind(bare)](bare)
    if len(_compiled) >= _CACHE_SIZE:
        _compiled.clear()
    _compiled[id(annotation)] = (annotation, checker)
    return checker


def _unwrapped(annotation: Any) -> Any:
    """The annotation that decides, behind NewType, TypeVar, Required and documentation; Any for an unresolved one."""
    origin, loaded_inspect = get_origin(annotation), sys.modules.get("inspect")
    if annotation is None or annotation is object or isinstance(annotation, (str, ForwardRef)):
        return Any
    if loaded_inspect is not None and annotation is loaded_inspect.Parameter.empty:
        return Any
    if isinstance(annotation, TypeVar):
        constraints: Any = annotation.__constraints__
        return functools.reduce(operator.or_, constraints) if constraints else _unwrapped(annotation.__bound__)
    if hasattr(annotation, "__supertype__"):
        return _unwrapped(annotation.__supertype__)
    if type(annotation).__name__ == "InitVar":
        return _unwrapped(annotation.type)
    if origin is Annotated and all(isinstance(note, str) for note in annotation.__metadata__):
        return _unwrapped(get_args(annotation)[0])
    if getattr(origin, "_name", "") == "Unpack":
        return Any
    if origin is tuple and any(getattr(p, "__unpacked__", False) or "Unpack[" in repr(p) for p in get_args(annotation)):
        return tuple  # neither we nor pydantic look into tuple[int, *tuple[str, ...]]
    if getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly", "Final"):
        return _unwrapped(get_args(annotation)[0])
    return annotation


def _inner(annotation: object) -> object:
    """The annotation inside another one, where None is written for NoneType."""
    return type(None) if annotation is None else _unwrapped(annotation)


def _base(annotation: Any) -> Any:
    return get_origin(annotation) or annotation


def _scalar_name(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _kind(annotation: Any) -> str:
    base = _base(annotation)
    if annotation is Any:
        return "any"
    if base is Union or base is types.UnionType:
        return "union"
    if base is Literal:
        return "literal"
    if base is type or base is abc.Callable:
        return "callable"
    if type(annotation).__name__ == "TypeAliasType":
        return "alias"
    if base is Annotated or not isinstance(base, type):
        return "pydantic"
    if base in _ARRAYS:
        return "array"
    if base in _MAPPINGS:
        return "mapping"
    return _kind_of_class(base)


def _kind_of_class(cls: type) -> str:
    module = cls.__module__.partition(".")[0]
    if _scalar_name(cls) in _SCALARS:
        return "scalar"
    if issubclass(cls, enum.Enum):
        return "enum"
    if hasattr(cls, "__pydantic_validator__") or hasattr(cls, "__get_pydantic_core_schema__"):
        return "pydantic"
    if hasattr(cls, "__dataclass_fields__") or _is_typed_dict(cls) or _is_named_tuple(cls):
        return "record"
    if module == "typing":  # IO and its like: their instances are not instances of them
        return "any"
    is_library = module in sys.stdlib_module_names and cls.__module__ not in ("builtins", "collections.abc")
    return "pydantic" if is_library else "class"


def _is_typed_dict(cls: type) -> bool:
    return hasattr(cls, "__total__") and issubclass(cls, dict)


def _is_named_tuple(cls: type) -> bool:
    return hasattr(cls, "_fields") and issubclass(cls, tuple)


def _accept(value: object) -> object:
    return value


def _compile_scalar(cls: Any) -> Checker:
    scalar = _SCALARS[_scalar_name(cls)]
    accepts, convert, expected = scalar.accepts, scalar.convert, describe(cls)
    refused: type | tuple[()] = ()
    if cls is int:
        refused = bool
    elif expected == "date":
        # JSON would write another text for a datetime, one that is no date.
        refused = sys.modules["datetime"].datetime

    def check_scalar(value: object) -> object:
        if type(value) is cls or (isinstance(value, cls) and not isinstance(value, refused)):
            return value
        if isinstance(value, accepts) and type(value) is not bool:
            try:
                return convert(cls, value)
            except (ValueError, ArithmeticError):
                raise Mismatch(expected, value, f"write it like {scalar.example}") from None
        raise Mismatch(expected, value)

    return check_scalar


def _compile_enum(cls: Any) -> Checker:
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
            raise Mismatch(cls.__name__, value, legal)
        return found

    return check_enum


def _compile_literal(annotation: Any) -> Checker:
    literals, expected = get_args(annotation), describe(annotation)

    def check_literal(value: object) -> object:
        for literal in literals:
            if _is_same(value, literal):
                return value
            if isinstance(literal, enum.Enum) and _is_same(value, literal.value):
                return literal
        raise Mismatch(expected, value)

    return check_literal


def _exact_types(annotation: object) -> frozenset[type]:
    """The classes whose direct instances certainly pass as they are."""
    if _kind(annotation) == "union":
        return frozenset().union(*(_exact_types(_inner(member)) for member in get_args(annotation)))
    return frozenset([annotation]) if isinstance(annotation, type) and _kind(annotation) == "scalar" else frozenset()


def _compile_union(annotation: Any) -> Checker:
    exact, expected = _exact_types(annotation), describe(annotation)
    members = [_inner(member) for member in get_args(annotation)]
    checkers = [compile_check(member) for member in members]
    is_optional = len(members) == 2 and type(None) in members

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


def _all_exact(annotation: object) -> Callable[[Iterable[object]], bool]:
    """A quick claim about many values: none of them needs a look."""
    if _kind(annotation) == "any":
        return lambda values: True  # noqa: ARG005 - one of two answers of the same shape
    exact = _exact_types(annotation)
    return lambda values: exact.issuperset(map(type, values))


def _walked(items: Iterable[object], checkers: Iterable[Checker]) -> list[object] | None:
    """The items after their checks, or None if all came back as they were."""
    checked, changed = [], False
    for index, (item, checker) in enumerate(zip(items, checkers, strict=False)):
        try:
            result = checker(item)
        except Mismatch as wrong:
            wrong.path = f"[{index}]{wrong.path}"
            raise
        changed = changed or result is not item
        checked.append(result)
    return checked if changed else None


def _walker(annotation: Any, expected: str) -> Callable[[Any], list[object] | None]:
    args = [_inner(argument) for argument in get_args(annotation)]
    if _base(annotation) is tuple and args[-1:] != [...] and hasattr(annotation, "__args__"):
        checkers = [compile_check(argument) for argument in args if argument != ()]

        def walk_fixed(items: Any) -> list[object] | None:
            if len(items) != len(checkers):
                raise Mismatch(expected, items)
            return _walked(items, checkers)

        return walk_fixed
    item = args[0] if args else Any
    all_exact, every = _all_exact(item), itertools.repeat(compile_check(item))
    return lambda items: None if all_exact(items) else _walked(items, every)


def _compile_array(annotation: Any) -> Checker:
    base, expected = _base(annotation), describe(annotation)
    accepts, make = _ARRAYS[base]
    walk = _walker(annotation, expected)

    def check_array(value: Any) -> object:
        fits = isinstance(value, base) and not isinstance(value, (str, bytes))
        if not fits and not isinstance(value, accepts):
            raise Mismatch(expected, value)
        # Only containers are walked: a generator would be used up, a lazy sequence could be endless.
        changed = walk(value) if isinstance(value, _WALKED) else None
        if changed is None and fits:
            return value
        build: Any = make or (type(value) if type(value) in _SETS else list)
        try:
            return build(value if changed is None else changed)
        except TypeError:
            raise Mismatch(expected, value, "what a set contains must be hashable") from None

    return check_array


def _compile_mapping(annotation: Any) -> Checker:
    base, expected = _base(annotation), describe(annotation)
    key_type, item_type = (_inner(argument) for argument in get_args(annotation) or (Any, Any))
    keys_exact, items_exact = _all_exact(key_type), _all_exact(item_type)
    check_item = compile_check(item_type)

    def check_mapping(value: Any) -> object:
        if not isinstance(value, base):
            raise Mismatch(expected, value)
        if keys_exact(value) and items_exact(value.values()):
            return value
        checked, changed = {}, False
        for key, item in value.items():
            try:
                new_key, new_item = _checked_key(key, key_type), check_item(item)
            except Mismatch as wrong:
                wrong.path = f"[{_cut(key)}]{wrong.path}"
                raise
            changed = changed or new_key is not key or new_item is not item
            checked[new_key] = new_item
        return checked if changed else value

    return check_mapping


def _checked_key(key: object, annotation: object) -> object:
    try:
        return compile_check(annotation)(key)
    except Mismatch as wrong:
        # JSON turns every key into text.
        if isinstance(key, str):
            try:
                return _read(key, annotation)
            except Mismatch:
                pass
        wrong.expected = f"a key of type {wrong.expected}"
        raise


class _Field(NamedTuple):
    check: Checker
    expected: str
    required: bool


def _record_fields(cls: Any) -> dict[str, _Field]:
    declared = hints(cls)
    if _is_typed_dict(cls):
        # A string annotation hides its NotRequired from the class, but not from its resolved hint.
        marks = {name: getattr(get_origin(hint), "_name", "") for name, hint in declared.items()}
        required = {n: m == "Required" or (n in cls.__required_keys__ and m != "NotRequired") for n, m in marks.items()}
    else:
        import inspect  # noqa: PLC0415 - 6 ms, and a dataclass has loaded it already

        named, _ = _named_parameters(inspect.signature(cls))
        required = {name: parameter.default is parameter.empty for name, parameter in named.items()}
    types_ = {name: _inner(declared.get(name, Any)) for name in required}
    return {name: _Field(compile_check(kind), describe(kind), required[name]) for name, kind in types_.items()}


def _compile_record(annotation: Any) -> Checker:
    cls = _base(annotation)
    is_dict, is_tuple = _is_typed_dict(cls), _is_named_tuple(cls)
    # At the first use, because a record may contain itself.
    fields_of = functools.cache(_record_fields)

    def check_record(value: Any) -> object:
        if not is_dict and isinstance(value, cls):
            return value
        fields = fields_of(cls)
        if is_tuple and isinstance(value, _LISTS) and len(value) <= len(fields):
            value = dict(zip(fields, value, strict=False))
        if not isinstance(value, abc.Mapping):
            raise Mismatch(cls.__name__, value)
        if is_dict:
            checked = _checked_fields(value, fields, "[{!r}]")
            same = all(checked[name] is value[name] for name in checked)
            return value if same else {**value, **checked}
        return _built(cls, value, fields)

    return check_record


def _checked_fields(value: Mapping[str, object], fields: Mapping[str, _Field], place: str) -> dict[str, object]:
    checked = {}
    for name, field in fields.items():
        try:
            if name in value:
                checked[name] = field.check(value[name])
            elif field.required:
                raise Mismatch(field.expected, _NOTHING)
        except Mismatch as wrong:
            wrong.path = place.format(name) + wrong.path
            raise
    return checked


def _built(cls: Any, value: Mapping[str, object], fields: Mapping[str, _Field]) -> object:
    # What `asdict` writes also has the fields that __init__ does not take.
    known = {*fields, *getattr(cls, "__dataclass_fields__", ())}
    unknown = [name for name in value if name not in known]
    if unknown:
        raise Mismatch(cls.__name__, value, f"it has no field {unknown[0]!r}, only {', '.join(fields)}")
    checked = _checked_fields(value, fields, ".{}")
    try:
        return cls(**checked)
    except (TypeError, ValueError) as exc:
        raise Mismatch(cls.__name__, value, str(exc)) from exc


def _compile_class(annotation: Any) -> Checker:
    cls = _base(annotation)
    try:
        isinstance(None, cls)
    except TypeError:  # a Protocol that says nothing at run time
        return _accept
    return _compile_claim(lambda value: isinstance(value, cls), describe(annotation))


def _compile_claim(holds: Callable[[object], bool], expected: str) -> Checker:
    def check_claim(value: object) -> object:
        if holds(value):
            return value
        raise Mismatch(expected, value)

    return check_claim


def _compile_pydantic(annotation: Any) -> Checker:
    """Pydantic's check, after ours of the plain type unless a validator of its own comes before that."""
    # Built at the first use, because the import costs more than most runs spend on checks.
    checker_of = functools.cache(lambda: _pydantic_checker(annotation))
    before = compile_check(get_args(annotation)[0]) if _is_constrained(annotation) else _accept

    return lambda value: checker_of()(before(value))


def _is_constrained(annotation: Any) -> bool:
    """An Annotated type whose notes only narrow it, with no validator that could accept something else."""
    notes = getattr(annotation, "__metadata__", ())
    return bool(notes) and not any(hasattr(note, "__get_pydantic_core_schema__") for note in notes)


def _pydantic_checker(annotation: Any) -> Checker:
    import pydantic  # noqa: PLC0415 - 100 ms that only models and constraints need

    try:
        try:
            adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
        except pydantic.PydanticSchemaGenerationError:  # a class it does not know: ask for an instance
            adapter = pydantic.TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
    except pydantic.PydanticUserError:
        return _accept
    expected = describe(annotation)

    def check_by_adapter(value: object) -> object:
        try:
            return adapter.validate_python(value)
        except pydantic.ValidationError as exc:
            raise Mismatch(expected, value, _sentence(exc.errors(include_url=False))) from exc

    return check_by_adapter


def _sentence(errors: list[Any]) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in errors[0]["loc"]).lstrip(".")
    message: str = errors[0]["msg"][:1].lower() + errors[0]["msg"][1:]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return (f"{place}: " if place else "") + message + more


def _compile_alias(annotation: Any) -> Checker:
    # At each use, because an alias (`type Tree = list[Tree]`) may contain itself.
    return lambda value: compile_check(annotation.__value__)(value)


_COMPILERS: dict[str, Callable[[Any], Checker]] = {
    "any": lambda annotation: _accept,  # noqa: ARG005 - the shape of the table
    "scalar": _compile_scalar,
    "enum": _compile_enum,
    "literal": _compile_literal,
    "union": _compile_union,
    "array": _compile_array,
    "mapping": _compile_mapping,
    "record": _compile_record,
    "alias": _compile_alias,
    "class": _compile_class,
    "callable": lambda annotation: _compile_claim(callable, describe(annotation)),
    "pydantic": _compile_pydantic,
}


def parse_text(text: str, annotation: object, *, name: str, owner: str) -> object:
    """Return what `--param name=text` means for the declared type, checked as `check` does.

    Text stays text where str is declared; containers, records and models are read as JSON; without a declared type
    JSON is tried and anything else is text.

    Raises:
        ParameterTypeError: the text does not mean such a value; for a container the message shows an example.
    """
    try:
        return _read(text, _unwrapped(annotation))
    except Mismatch as wrong:
        raise _type_error(wrong, name=name, owner=owner) from wrong


def _read(text: str, annotation: Any) -> object:
    kind = _kind(annotation)
    if kind == "any":
        return _from_json(text, text)
    if kind in ("array", "mapping", "record"):
        value = _from_json(text, _NOTHING)
        if value is _NOTHING:
            raise Mismatch(describe(annotation), text, json_example=json.dumps(_sample(annotation)))
        return compile_check(annotation)(value)
    return _READERS.get(kind, _read_other)(text, annotation)


def _from_json(text: str, otherwise: object) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return otherwise


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def _sample(annotation: Any) -> object:
    """A value that shows how to write such a parameter."""
    kind, args = _kind(annotation), [_inner(argument) for argument in get_args(annotation)]
    if kind == "scalar":
        example = _SCALARS[_scalar_name(annotation)].example
        return _from_json(example, example)
    if kind == "array":
        return [1, 2] if not args or args[0] is int else [_sample(args[0])]
    if kind == "mapping":
        return {"key": _sample(args[1]) if args else 1}
    if kind == "record":
        return {name: "..." for name, field in _record_fields(_base(annotation)).items() if field.required}
    return "..."


def _read_scalar(text: str, cls: Any) -> object:
    scalar = _SCALARS[_scalar_name(cls)]
    try:
        value = scalar.read(text)
    except (ValueError, KeyError):
        raise Mismatch(describe(cls), text, f"write it like {scalar.example}") from None
    return compile_check(cls)(value)


def _read_enum(text: str, cls: Any) -> object:
    for member in cls:
        if str(member.value) == text:
            return member
    return compile_check(cls)(text)


def _read_literal(text: str, annotation: Any) -> object:
    for literal in get_args(annotation):
        try:
            value = _read(text, type(literal))
        except Mismatch:
            continue
        if value == literal:
            return literal
    raise Mismatch(describe(annotation), text)


def _read_union(text: str, annotation: Any) -> object:
    # Null before all, text after all else; and 1 is a number before it is true.
    ranks = {id(type(None)): 0, id(bool): 2, id(str): 3, id(Any): 3}
    members = sorted((_inner(member) for member in get_args(annotation)), key=lambda member: ranks.get(id(member), 1))
    failures = []
    for member in members:
        try:
            return _read(text, member)
        except Mismatch as wrong:
            failures.append(wrong)
    raise failures[-1] if len(failures) == 2 and type(None) in members else Mismatch(describe(annotation), text)


def _read_other(text: str, annotation: Any) -> object:
    checker = compile_check(annotation)
    if _is_constrained(annotation):
        return checker(_read(text, _inner(get_args(annotation)[0])))
    value = _from_json(text, text)
    try:
        return checker(value)
    except Mismatch:
        if value is text:
            raise
    return checker(text)


_READERS: dict[str, Callable[[str, Any], object]] = {
    "scalar": _read_scalar,
    "enum": _read_enum,
    "literal": _read_literal,
    "union": _read_union,
    "alias": lambda text, annotation: _read(text, _unwrapped(annotation.__value__)),
}


def hints(fn: Callable[..., object]) -> dict[str, object]:
    """Return the resolved annotations of a function by parameter name, and of what it returns as `return`.

    An annotation that can not be resolved, such as a name imported under TYPE_CHECKING, becomes Any.
    """
    try:
        return dict(get_type_hints(fn, include_extras=True))
    except Exception:  # evaluating someone's annotation can raise anything
        while hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
    found: dict[str, object] = {}
    for part in reversed(getattr(fn, "__mro__", (fn,))):  # a class has the annotations of its bases
        names = getattr(part, "__globals__", None) or getattr(sys.modules.get(part.__module__), "__dict__", {})
        found |= {name: _resolved(raw, names) for name, raw in _raw_annotations(part).items()}
    return found


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
    except Exception:  # as above
        return Any


def bind_values(
    fn_signature: inspect.Signature, annotations: Mapping[str, object], values: Mapping[str, object], *, owner: str
) -> dict[str, object]:
    """Return every parameter of a flow with its value, in the order of the signature: given and checked, or default.

    Args:
        fn_signature: the flow function's signature.
        annotations: its resolved annotations, from `hints`.
        values: what was given, by name. A value equal to the default is not checked.
        owner: whose parameters they are, such as `flow 'daily'`.

    Raises:
        ParameterError: a name is unknown, or a parameter without default is missing.
        ParameterTypeError: a value does not fit its type.
    """
    named, rest = _named_parameters(fn_signature)
    unknown = [name for name in values if name not in named]
    if unknown and rest is None:
        raise ParameterError(_unknown_message(unknown[0], list(named), owner=owner))
    missing = [name for name, parameter in named.items() if parameter.default is parameter.empty and name not in values]
    if missing:
        raise ParameterError(_missing_message(missing, annotations, owner=owner))
    bound = {}
    for name, parameter in named.items():
        value = values.get(name, parameter.default)
        same = _is_same(value, parameter.default)
        bound[name] = value if same else check(value, annotations.get(name), name=name, owner=owner)
    for name in unknown:
        bound[name] = check(values[name], annotations.get(rest or ""), name=name, owner=owner)
    return bound


def _named_parameters(fn_signature: inspect.Signature) -> tuple[dict[str, inspect.Parameter], str | None]:
    """The parameters that are given by name, and the name of `**kwargs` if there is one."""
    named = {n: p for n, p in fn_signature.parameters.items() if not p.kind.name.startswith("VAR_")}
    return named, next((n for n, p in fn_signature.parameters.items() if p.kind.name == "VAR_KEYWORD"), None)


def _is_same(value: object, other: object) -> bool:
    try:
        return value is other or (type(value) is type(other) and bool(value == other))
    except Exception:  # arrays and tables refuse to be compared
        return False


def _unknown_message(name: str, known: list[str], *, owner: str) -> str:
    import difflib  # noqa: PLC0415 - only for a message

    near = difflib.get_close_matches(name, known, n=1)
    takes = f"takes: {', '.join(known)}" if known else "takes none"
    way_out = f"did you mean {near[0]!r}? It {takes}" if near else f"it {takes}"
    return f"{owner[:1].upper()}{owner[1:]} has no parameter {name!r}; {way_out}"


def _missing_message(missing: list[str], annotations: Mapping[str, object], *, owner: str) -> str:
    names = [f"{n!r} ({describe(annotations[n])})" if n in annotations else repr(n) for n in missing]
    noun, first = "parameter" if len(missing) == 1 else "parameters", missing[0]
    way_out = f"pass --param {first}=... or {first}=... in Python"
    return f"{owner[:1].upper()}{owner[1:]} needs {noun} {', '.join(names)}; {way_out}"


def json_schema(fn_signature: inspect.Signature, annotations: Mapping[str, object]) -> dict[str, object]:
    """Return the JSON Schema (2020-12) of a flow's parameters; a type that JSON can not describe is `{}`."""
    named, rest = _named_parameters(fn_signature)
    shared: dict[str, object] = {}
    properties: dict[str, dict[str, object]] = {}
    for name, parameter in named.items():
        properties[name] = dict(_schema(annotations.get(name), shared))
        default = _as_json(parameter.default)
        if default is not _NOTHING:
            properties[name]["default"] = default
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, parameter in named.items() if parameter.default is parameter.empty],
        "additionalProperties": _schema(annotations.get(rest), shared) if rest else False,
        **({"$defs": shared} if shared else {}),
    }


def _as_json(value: object) -> Any:
    """The value as JSON holds it, or `_NOTHING`."""
    try:
        return json.loads(json.dumps(value, default=_json_form, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return _NOTHING


def _json_form(value: Any) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    for method in ("isoformat", "total_seconds", "__fspath__"):
        if hasattr(value, method) and not isinstance(value, type):
            return getattr(value, method)()
    if type(value).__name__ in ("Decimal", "UUID"):
        return str(value)
    raise TypeError


def _schema(annotation: object, shared: dict[str, object]) -> dict[str, Any]:
    """The schema of one annotation; the definitions that it refers to are added to `shared`."""
    bare: Any = _unwrapped(annotation)
    kind, args = _kind(bare), get_args(bare)
    if kind == "scalar":
        return _SCALARS[_scalar_name(bare)].schema
    if kind == "enum":
        return {"enum": [member.name if _as_json(member) is _NOTHING else _as_json(member) for member in bare]}
    if kind == "literal":
        return {"enum": [_as_json(literal) for literal in args if _as_json(literal) is not _NOTHING]}
    if kind == "union":
        return {"anyOf": [_schema(_inner(member), shared) for member in args]}
    if kind == "mapping":
        items = _schema(_inner(args[1]), shared) if args else {}
        return {"type": "object", **({"additionalProperties": items} if items else {})}
    if kind == "array":
        return _array_schema(_base(bare), args, shared)
    return _pydantic_schema(bare, shared) if kind in ("record", "alias", "pydantic") else {}


def _array_schema(base: Any, args: tuple[Any, ...], shared: dict[str, object]) -> dict[str, Any]:
    if base is tuple and args and args[-1] is not ...:
        items = [_schema(_inner(argument), shared) for argument in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    item = _schema(_inner(args[0]), shared) if args else {}
    unique = {"uniqueItems": True} if base in (set, frozenset, abc.Set, abc.MutableSet) else {}
    return {"type": "array", **({"items": item} if item else {}), **unique}


def _pydantic_schema(annotation: Any, shared: dict[str, object]) -> dict[str, Any]:
    import pydantic  # noqa: PLC0415 - as above

    for suffix in itertools.chain([""], map(str, itertools.count(2))):
        try:
            template = f"#/$defs/{{model}}{suffix}"
            schema = pydantic.TypeAdapter(annotation).json_schema(ref_template=template)
        except Exception:  # a schema helps people, its lack must not stop a deployment
            return {}
        definitions = {f"{name}{suffix}": found for name, found in schema.pop("$defs", {}).items()}
        # Two models of different modules may share a name.
        if all(shared.get(name, found) == found for name, found in definitions.items()):
            shared.update(definitions)
            return schema
    raise AssertionError("unreachable")


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
