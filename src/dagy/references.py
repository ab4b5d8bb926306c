"""Values that stand in a FlowSpec: what a task will return (`TaskOutput`), and how inputs become JSON and back.

Markers are JSON objects with one `$` key. They are understood only where `encode` wrote them: a user's own object with
a `$` key is escaped, and outputs of tasks never pass through here.

    {"$ref": "extract-1", "path": ["rows", 0]}       the output of a task run, or a part of it
    {"$tuple": [...]}, {"$set": [...]}                containers that JSON does not have
    {"$dict": [[key, value], ...]}                    a dict with keys other than plain strings
    {"$literal": {...}}                               a user's dict that has `$` keys
    {"$value": "date", "of": "2026-01-01"}            a value of a standard library type
    {"$enum": "module:Class", "name": "RED"}          a member of an enum
    {"$object": "module:Class", "fields": {...}}      a dataclass or pydantic model
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NoReturn

_PLAIN = frozenset({type(None), bool, int, float, str})


class TaskOutput:
    """What a task will return, known only when the flow runs.

    Passing it (also inside lists, tuples, dicts, dataclasses and pydantic models) to another task makes that task
    depend on this one. `output["key"]` and `output[0]` refer to a part of it. Anything that would need the value now
    raises a `TypeError` that says what to write instead.
    """

    __slots__ = ("path", "task_run_id")

    def __init__(self, task_run_id: str, path: tuple[str | int, ...] = ()) -> None:
        self.task_run_id = task_run_id
        self.path = path

    def __getitem__(self, key: str | int) -> TaskOutput:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(f"{self!r} can be indexed by a string or a whole number, not by {key!r}")
        return TaskOutput(self.task_run_id, (*self.path, key))

    def __repr__(self) -> str:
        return f"<output of {self.task_run_id}{''.join(f'[{key!r}]' for key in self.path)}>"

    def __hash__(self) -> int:
        return id(self)

    def _unknown(self, wish: str, instead: str) -> NoReturn:
        raise TypeError(f"{self!r} has no value while the flow is built, so it can not be {wish}; {instead}")

    def __bool__(self) -> bool:
        self._unknown("used as a condition", "decide inside a task that takes it as an argument")

    def __iter__(self) -> Iterator[Any]:
        self._unknown(
            "iterated or unpacked", "pass it whole to a task, or take parts of it with output[0] or output['key']"
        )

    def __len__(self) -> int:
        self._unknown("measured", "call len() inside a task that takes it as an argument")

    def __contains__(self, item: object) -> bool:
        self._unknown("searched", "look inside it in a task that takes it as an argument")

    def __str__(self) -> str:
        self._unknown("made text of", "format it inside a task that takes it as an argument; repr() names it")

    def __format__(self, _: str) -> str:
        return str(self)

    def __eq__(self, _: object) -> bool:
        self._unknown("compared", "compare inside a task that takes it as an argument")

    def __ne__(self, _: object) -> bool:
        return self == _

    def _arithmetic(self, *_: object) -> NoReturn:
        self._unknown("used in an expression", "compute inside a task that takes it as an argument")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _arithmetic
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _arithmetic
    __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __xor__ = __invert__ = _arithmetic
    __int__ = __float__ = __index__ = __round__ = _arithmetic


class NotEncodable(Exception):
    """A value that has no form in a FlowSpec; `value` is the culprit, which may lie deep inside an argument."""

    def __init__(self, value: object) -> None:
        super().__init__(type(value).__name__)
        self.value = value


def encode(value: Any, upstream: dict[str, None]) -> Any:
    """Return the JSON form of an argument, and note in `upstream` the task runs that it refers to, in order.

    Raises:
        NotEncodable: the value, or a part of it, can not be written into a spec.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is TaskOutput:
        upstream[value.task_run_id] = None
        return {"$ref": value.task_run_id, "path": list(value.path)} if value.path else {"$ref": value.task_run_id}
    if kind is list:
        return [encode(item, upstream) for item in value]
    if kind is dict:
        return _encode_dict(value, upstream)
    if kind is tuple:
        return {"$tuple": [encode(item, upstream) for item in value]}
    if kind in (set, frozenset):
        # Sorted, because the order of a set differs between processes and the same flow must give the same spec.
        items = sorted((encode(item, upstream) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        return {"$set": items, "frozen": kind is frozenset}
    return _encode_object(value, upstream)


def hydrate(encoded: Any, resolve: Callable[[str], Any]) -> Any:
    """Return the Python value of an encoded argument; `resolve` gives the output of a task run by its id.

    Raises:
        LookupError, TypeError: a `$ref` path does not exist in the output.
    """
    kind = type(encoded)
    if kind in _PLAIN:
        return encoded
    if kind is list:
        return [hydrate(item, resolve) for item in encoded]
    if "$ref" in encoded:
        return _follow(resolve(encoded["$ref"]), encoded.get("path", ()))
    for marker, decode in _DECODERS.items():
        if marker in encoded:
            return decode(encoded, resolve)
    return {key: hydrate(item, resolve) for key, item in encoded.items()}


def _follow(value: Any, path: list[str | int]) -> Any:
    for key in path:
        value = value[key]
    return value


def _encode_dict(value: dict[Any, Any], upstream: dict[str, None]) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(item, upstream) for key, item in value.items()}
    return {"$dict": [[encode(key, upstream), encode(item, upstream)] for key, item in value.items()]}


def _encode_object(value: Any, upstream: dict[str, None]) -> Any:
    kind = type(value)
    if isinstance(value, Enum):
        return {"$enum": class_path(kind), "name": value.name}
    if hasattr(kind, "__dataclass_fields__"):
        names = [name for name, each in kind.__dataclass_fields__.items() if each.init]
        return _encode_fields(value, names, upstream)
    if hasattr(kind, "model_fields") and hasattr(kind, "model_construct"):
        return _encode_fields(value, list(kind.model_fields), upstream)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _STANDARD:
        return {"$value": name, "of": _STANDARD[name][0](value)}
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _encode_fields(value, list(value._fields), upstream)
    if _is_path(value):
        return {"$value": "pathlib.Path", "of": str(value)}
    raise NotEncodable(value)


def _is_path(value: object) -> bool:
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and isinstance(value, pathlib.PurePath)


def _encode_fields(value: Any, names: list[str], upstream: dict[str, None]) -> Any:
    return {
        "$object": class_path(type(value)),
        "fields": {name: encode(getattr(value, name), upstream) for name in names},
    }


def class_path(cls: type) -> str:
    """Return `module:Class`, by which another process finds the class.

    Raises:
        NotEncodable: the class stands inside a function, where nothing can find it.
    """
    if "<locals>" in cls.__qualname__:
        raise NotEncodable(cls)
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_at(path: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - only flows with classes in their arguments need it

    module, _, qualname = path.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _decode_object(encoded: dict[str, Any], resolve: Callable[[str], Any]) -> Any:
    cls = _class_at(encoded["$object"])
    values = {name: hydrate(item, resolve) for name, item in encoded["fields"].items()}
    construct = getattr(cls, "model_construct", cls)
    return construct(**values)


def _decode_set(encoded: dict[str, Any], resolve: Callable[[str], Any]) -> Any:
    items = [hydrate(item, resolve) for item in encoded["$set"]]
    return frozenset(items) if encoded.get("frozen") else set(items)


def _decode_value(encoded: dict[str, Any], _: Callable[[str], Any]) -> Any:
    module, _, name = encoded["$value"].rpartition(".")
    from importlib import import_module  # noqa: PLC0415 - the module was imported by whoever made the value

    return _STANDARD[encoded["$value"]][1](getattr(import_module(module), name), encoded["of"])


_DECODERS: dict[str, Callable[[dict[str, Any], Callable[[str], Any]], Any]] = {
    "$tuple": lambda encoded, resolve: tuple(hydrate(item, resolve) for item in encoded["$tuple"]),
    "$set": _decode_set,
    "$dict": lambda encoded, resolve: {hydrate(key, resolve): hydrate(item, resolve) for key, item in encoded["$dict"]},
    "$literal": lambda encoded, _: encoded["$literal"],
    "$value": _decode_value,
    "$enum": lambda encoded, _: _class_at(encoded["$enum"])[encoded["name"]],
    "$object": _decode_object,
}

#: Types of the standard library: how a value becomes JSON, and how its class makes it again.
_STANDARD: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "datetime.datetime": (lambda value: value.isoformat(), lambda cls, of: cls.fromisoformat(of)),
    "datetime.date": (lambda value: value.isoformat(), lambda cls, of: cls.fromisoformat(of)),
    "datetime.time": (lambda value: value.isoformat(), lambda cls, of: cls.fromisoformat(of)),
    "datetime.timedelta": (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda cls, of: cls(*of),
    ),
    "decimal.Decimal": (str, lambda cls, of: cls(of)),
    "uuid.UUID": (str, lambda cls, of: cls(of)),
    "pathlib.Path": (str, lambda cls, of: cls(of)),
    "builtins.bytes": (lambda value: value.hex(), lambda cls, of: cls.fromhex(of)),
    "builtins.complex": (lambda value: [value.real, value.imag], lambda cls, of: cls(*of)),
    "builtins.range": (lambda value: [value.start, value.stop, value.step], lambda cls, of: cls(*of)),
}
