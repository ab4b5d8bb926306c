"""How inputs and conditions stand in a FlowSpec: Python values become JSON, and back when their time has come.

Markers are JSON objects with one `$` key. They are understood only where `encode` wrote them: a user's own object with
a `$` key is escaped, and outputs of tasks never pass through here.

    {"$ref": "extract-1", "path": ["rows", 0]}       the output of a task run, or a part of it
    {"$settled": "parse-1"}                          what came of a task run that may have failed, see `Settled`
    {"$first_of": [...]}                             the output of the one branch that ran
    {"$json": ...}                                   JSON that was a task's output, never interpreted
    {"$tuple": [...]}, {"$set": [...]}                containers that JSON does not have
    {"$dict": [[key, value], ...]}                    a dict with `$` keys, or keys other than plain strings
    {"$literal": {...}}                               read for compatibility: a dict that is not interpreted
    {"$value": "date", "of": "2026-01-01"}            a value of a standard library type
    {"$enum": "module:Class", "name": "RED"}          a member of an enum
    {"$object": "module:Class", "fields": {...}}      a dataclass or pydantic model
"""

from __future__ import annotations

import copy
import json
import operator
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from dagy.outputs import AllowFailed, Condition, FirstOf, TaskOutput

_PLAIN = frozenset({type(None), bool, int, float, str})


class Failure(NamedTuple):
    """A task run that did not succeed."""

    task_run_id: str
    error_message: str


class Settled(NamedTuple):
    """What came of task runs of which some may have failed.

    Attributes:
        results: the outputs of those that succeeded, in order.
        failures: the others.
    """

    results: list[Any]
    failures: list[Failure]


class Upstream:
    """What an argument refers to: ids in order, and those of them that may have failed or been skipped."""

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}
        self.tolerated: dict[str, None] = {}
        self.alternatives = False


class Outputs(Protocol):
    """Where hydrating finds what task runs returned."""

    def resolve(self, task_run_id: str) -> Any:
        """Return the output of a task run; None if it was skipped."""

    def settle(self, task_run_id: str) -> Settled:
        """Return what came of a task run, or of the items of a mapped one."""


class NotEncodable(Exception):
    """A value that has no form in a FlowSpec; `value` is the culprit, which may lie deep inside an argument."""

    def __init__(self, value: object) -> None:
        super().__init__(type(value).__name__)
        self.value = value


def encode(value: Any, upstream: Upstream) -> Any:
    """Return the JSON form of an argument, and note in `upstream` the task runs that it refers to, in order.

    Raises:
        NotEncodable: the value, or a part of it, can not be written into a spec.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is TaskOutput:
        upstream.ids[value.task_run_id] = None
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


def hydrate(encoded: Any, outputs: Outputs) -> Any:
    """Return the Python value of an encoded argument; `outputs` has what it refers to.

    Raises:
        LookupError, TypeError: a `$ref` path does not exist in the output.
    """
    kind = type(encoded)
    if kind in _PLAIN:
        return encoded
    if kind is list:
        return [hydrate(item, outputs) for item in encoded]
    if "$ref" in encoded:
        return follow(outputs.resolve(encoded["$ref"]), encoded.get("path", ()))
    for marker, decode in _DECODERS.items():
        if marker in encoded:
            return decode(encoded, outputs)
    return {key: hydrate(item, outputs) for key, item in encoded.items()}


def evaluate(condition: Any, outputs: Outputs) -> bool:
    """Return whether an encoded condition holds.

    Raises:
        LookupError, TypeError: it speaks of a part of an output that is not there, or compares what has no order.
    """
    if isinstance(condition, dict) and "$condition" in condition:
        return bool(_OPERATIONS[condition["$condition"]](condition["args"], outputs))
    return bool(hydrate(condition, outputs))


def _value(encoded: Any, outputs: Outputs) -> Any:
    is_condition = isinstance(encoded, dict) and "$condition" in encoded
    return evaluate(encoded, outputs) if is_condition else hydrate(encoded, outputs)


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[list[Any], Outputs], Any]:
    return lambda args, outputs: compare(_value(args[0], outputs), _value(args[1], outputs))


_OPERATIONS: dict[str, Callable[[list[Any], Outputs], Any]] = {
    "==": _comparison(operator.eq),
    "!=": _comparison(operator.ne),
    "<": _comparison(operator.lt),
    "<=": _comparison(operator.le),
    ">": _comparison(operator.gt),
    ">=": _comparison(operator.ge),
    "and": lambda args, outputs: evaluate(args[0], outputs) and evaluate(args[1], outputs),
    "or": lambda args, outputs: evaluate(args[0], outputs) or evaluate(args[1], outputs),
    "not": lambda args, outputs: not evaluate(args[0], outputs),
}


def follow(value: Any, path: Sequence[str | int]) -> Any:
    """Return the part of a value that a path leads to."""
    for key in path:
        value = value[key]
    return value


def _encode_dict(value: dict[Any, Any], upstream: Upstream) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(item, upstream) for key, item in value.items()}
    return {"$dict": [[encode(key, upstream), encode(item, upstream)] for key, item in value.items()]}


def _encode_object(value: Any, upstream: Upstream) -> Any:
    kind = type(value)
    if kind is Condition:
        return {"$condition": value.op, "args": [encode(item, upstream) for item in value.args]}
    if kind is AllowFailed:
        upstream.ids[value.output.task_run_id] = None
        upstream.tolerated[value.output.task_run_id] = None
        return {"$settled": value.output.task_run_id}
    if kind is FirstOf:
        upstream.alternatives = True
        return {"$first_of": [encode(item, upstream) for item in value.outputs]}
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


def _encode_fields(value: Any, names: list[str], upstream: Upstream) -> Any:
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


def _decode_object(encoded: dict[str, Any], outputs: Outputs) -> Any:
    cls = _class_at(encoded["$object"])
    values = {name: hydrate(item, outputs) for name, item in encoded["fields"].items()}
    construct = getattr(cls, "model_construct", cls)
    return construct(**values)


def _decode_set(encoded: dict[str, Any], outputs: Outputs) -> Any:
    items = [hydrate(item, outputs) for item in encoded["$set"]]
    return frozenset(items) if encoded.get("frozen") else set(items)


def _decode_first_of(encoded: dict[str, Any], outputs: Outputs) -> Any:
    for alternative in encoded["$first_of"]:
        if (value := hydrate(alternative, outputs)) is not None:
            return value
    return None


def _decode_value(encoded: dict[str, Any], _: Outputs) -> Any:
    module, _, name = encoded["$value"].rpartition(".")
    from importlib import import_module  # noqa: PLC0415 - the module was imported by whoever made the value

    return _STANDARD[encoded["$value"]][1](getattr(import_module(module), name), encoded["of"])


_DECODERS: dict[str, Callable[[dict[str, Any], Outputs], Any]] = {
    "$tuple": lambda encoded, outputs: tuple(hydrate(item, outputs) for item in encoded["$tuple"]),
    "$set": _decode_set,
    "$dict": lambda encoded, outputs: {hydrate(key, outputs): hydrate(item, outputs) for key, item in encoded["$dict"]},
    "$literal": lambda encoded, _: encoded["$literal"],
    "$json": lambda encoded, _: copy.deepcopy(encoded["$json"]),  # each attempt gets a value of its own
    "$settled": lambda encoded, outputs: outputs.settle(encoded["$settled"]),
    "$first_of": _decode_first_of,
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
