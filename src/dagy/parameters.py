"""The parameters of a flow or task: what is declared, given on the command line or in Python, and told to others.

    hints         the declared types of a function
    parse_text    what `--param name=text` means for such a type
    bind_values   given values and defaults, in the order of the signature
    json_schema   the parameters of a flow as JSON Schema

Whether a value fits its type is decided in `dagy.checks`.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dagy.checks import Mismatch, check, compile_check, describe
from dagy.errors import ParameterError
from dagy.shapes import SCALARS, Kind, Shape, fields_of, resolve_annotations, scalar_name, shape_of

if TYPE_CHECKING:
    import inspect

_NOTHING = object()
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_NULL = {"null": None, "none": None}
#: Class -> what a text is before it is checked; without one it stays text.
_TEXT_READERS: dict[str, Callable[[str], object]] = {
    "NoneType": lambda text: _NULL[text.lower()],
    "bool": lambda text: _TRUTH[text.lower()],
    "int": int,
    "float": float,
    "timedelta": float,
}
_SCALAR_SCHEMAS: dict[str, dict[str, object]] = {
    "NoneType": {"type": "null"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bytes": {},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "number"},
    "Decimal": {"anyOf": [{"type": "number"}, {"type": "string"}]},
    "UUID": {"type": "string", "format": "uuid"},
    "Path": {"type": "string", "format": "path"},
    "PurePath": {"type": "string", "format": "path"},
}


def hints(fn: Callable[..., object]) -> dict[str, object]:
    """Return the resolved annotations of a function by parameter name, and of what it returns as `return`.

    An annotation that can not be resolved, such as a name imported under TYPE_CHECKING, becomes Any.
    """
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return resolve_annotations(fn)


def parse_text(text: str, annotation: object, *, name: str, owner: str) -> object:
    """Return what `--param name=text` means for the declared type, checked as `check` does.

    Text stays text where str is declared; containers, dataclasses and models are read as JSON; without a declared
    type JSON is tried and anything else is text.

    Args:
        text: what stands behind the `=`.
        annotation: a resolved annotation, from `hints`.
        name: the parameter, for the message.
        owner: whose parameter it is, such as `flow 'daily'`.

    Raises:
        ParameterTypeError: the text does not mean such a value; for a container the message shows an example.
    """
    try:
        return _read(text, annotation)
    except _NotJson as wrong:
        wrong.why = f"write it as JSON: --param {name}='{wrong.example}'"
        raise wrong.as_error(name=name, owner=owner) from wrong
    except Mismatch as wrong:
        raise wrong.as_error(name=name, owner=owner) from wrong


class _NotJson(Mismatch):
    """The text for a container is no JSON at all."""

    def __init__(self, text: str, shape: Shape) -> None:
        super().__init__(describe(shape.annotation), text)
        self.example = json.dumps(_sample(shape.annotation))


def _read(text: str, annotation: object) -> object:
    shape = shape_of(annotation)
    return _READERS.get(shape.kind, _read_other)(text, shape)


def _from_json(text: str, otherwise: object) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return otherwise


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def _sample(annotation: object) -> object:
    """A value that shows how to write such a parameter."""
    kind, _, base, args = shape_of(annotation)
    if kind is Kind.SCALAR:
        example = SCALARS[scalar_name(base)].example
        return _from_json(example, example)
    if kind is Kind.ARRAY:
        return [1, 2] if not args or args[0] is int else [_sample(args[0])]
    if kind is Kind.MAPPING:
        return {"key": _sample(args[1]) if args else 1}
    if kind is Kind.DATACLASS:
        return {name: "..." for name, field in fields_of(base).items() if field.required}
    return "..."


def _read_scalar(text: str, shape: Shape) -> object:
    cls = shape.base
    try:
        value = _TEXT_READERS.get(cls.__name__, str)(text)
    except (ValueError, KeyError):
        raise Mismatch(describe(cls), text, f"write it like {SCALARS[scalar_name(cls)].example}") from None
    return compile_check(cls)(value)


def _read_enum(text: str, shape: Shape) -> object:
    for member in shape.base:
        if str(member.value) == text:
            return member
    return compile_check(shape.base)(text)


def _read_literal(text: str, shape: Shape) -> object:
    for literal in shape.args:
        try:
            value = _read(text, type(literal))
        except Mismatch:
            continue
        if value == literal:
            return literal
    raise Mismatch(describe(shape.annotation), text)


def _read_union(text: str, shape: Shape) -> object:
    # Null before all, text after all else; and 1 is a number before it is true.
    ranks = {id(type(None)): 0, id(bool): 2, id(str): 3, id(Any): 3}
    failures = []
    for member in sorted(shape.args, key=lambda member: ranks.get(id(member), 1)):
        try:
            return _read(text, member)
        except Mismatch as wrong:
            failures.append(wrong)
    is_optional = len(failures) == 2 and type(None) in shape.args
    raise failures[-1] if is_optional else Mismatch(describe(shape.annotation), text)


def _read_container(text: str, shape: Shape) -> object:
    value = _from_json(text, _NOTHING)
    if value is _NOTHING:
        raise _NotJson(text, shape)
    return compile_check(shape.annotation)(value)


def _read_other(text: str, shape: Shape) -> object:
    checker = compile_check(shape.annotation)
    try:
        return checker(text)
    except Mismatch:
        value = _from_json(text, _NOTHING)
        if value is _NOTHING:
            raise
    return checker(value)


_READERS: dict[Kind, Callable[[str, Shape], object]] = {
    Kind.ANY: lambda text, shape: _from_json(text, text),  # noqa: ARG005 - the shape of the table
    Kind.SCALAR: _read_scalar,
    Kind.ENUM: _read_enum,
    Kind.LITERAL: _read_literal,
    Kind.UNION: _read_union,
    Kind.ARRAY: _read_container,
    Kind.MAPPING: _read_container,
    Kind.DATACLASS: _read_container,
}


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
    """Return the JSON Schema (2020-12) of a flow's parameters; a type that JSON can not describe is `{}`.

    Args:
        fn_signature: the flow function's signature.
        annotations: its resolved annotations, from `hints`.
    """
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
    kind, bare, base, args = shape_of(annotation)
    if kind is Kind.SCALAR:
        return _SCALAR_SCHEMAS[base.__name__]
    if kind is Kind.ENUM:
        return {"enum": [member.name if _as_json(member) is _NOTHING else _as_json(member) for member in base]}
    if kind is Kind.LITERAL:
        return {"enum": [_as_json(literal) for literal in args]}
    if kind is Kind.UNION:
        return {"anyOf": [_schema(member, shared) for member in args]}
    if kind is Kind.MAPPING:
        items = _schema(args[1], shared) if args else {}
        return {"type": "object", **({"additionalProperties": items} if items else {})}
    if kind is Kind.ARRAY:
        return _array_schema(base, args, shared)
    return _pydantic_schema(bare, shared) if kind in (Kind.DATACLASS, Kind.PYDANTIC) else {}


def _array_schema(base: Any, args: tuple[Any, ...], shared: dict[str, object]) -> dict[str, Any]:
    if base is tuple and args and args[-1] is not ...:
        items = [_schema(argument, shared) for argument in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    item = _schema(args[0], shared) if args else {}
    unique = {"uniqueItems": True} if base in (set, frozenset) else {}
    return {"type": "array", **({"items": item} if item else {}), **unique}


def _pydantic_schema(annotation: Any, shared: dict[str, object]) -> dict[str, Any]:
    import pydantic  # noqa: PLC0415 - 100 ms that only models and dataclasses need

    try:
        schema = pydantic.TypeAdapter(annotation).json_schema()
    except Exception:  # a schema helps people, its lack must not stop a deployment
        return {}
    definitions = schema.pop("$defs", {})
    if any(shared.get(name, found) != found for name, found in definitions.items()):
        return {}  # two models of different modules share a name
    shared.update(definitions)
    return schema
