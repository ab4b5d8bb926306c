"""What a task run's output depends on: the code of its task and its inputs, as short hashes that can be compared."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from types import CodeType
from typing import Any, NamedTuple

from dagy.spec import TaskRunSpec


class Fingerprint(NamedTuple):
    """Two task runs of equal fingerprints compute the same, as far as Dagy can know.

    Attributes:
        code: of the task's function; what that calls does not count.
        inputs: of each input, with upstream outputs by their content.
        pins: of the flow's dependency pins; empty where they do not count.
    """

    code: str
    inputs: Mapping[str, str]
    pins: str = ""

    def differences(self, other: Fingerprint) -> list[str]:
        """Return what differs, in words; nothing for equal fingerprints."""
        told = ["the code of the task"] if self.code != other.code else []
        for name in dict.fromkeys((*self.inputs, *other.inputs)):
            if self.inputs.get(name) != other.inputs.get(name):
                told.append(f"input {name!r}")
        return [*told, "the dependency pins"] if self.pins != other.pins else told


def fingerprint(node: TaskRunSpec, code: str, content_of: Callable[[str], str], *, pins: str = "") -> Fingerprint:
    """Return the fingerprint of a task run; `content_of` gives the hash of an upstream output by its id."""
    inputs = {name: short_hash(_by_content(encoded, content_of)) for name, encoded in node.inputs.items()}
    return Fingerprint(code, inputs, pins)


def _by_content(encoded: Any, content_of: Callable[[str], str]) -> Any:
    if isinstance(encoded, list):
        return [_by_content(item, content_of) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if "$ref" in encoded:
        return {"$content": content_of(encoded["$ref"]), "path": encoded.get("path", [])}
    if "$settled" in encoded:
        return {"$content": content_of(encoded["$settled"])}
    if "$json" in encoded:
        return encoded
    return {key: _by_content(item, content_of) for key, item in encoded.items()}


def short_hash(document: Any) -> str:
    """Return 16 hex digits of the SHA-256 of a JSON document."""
    return sha256(json.dumps(document, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def code_hash(fn: Any) -> str:
    """Return a hash of a function's source from its `def` on: decorators and where it stands do not count.

    A function without a source file, such as one typed into a prompt, is known by its bytecode.
    """
    try:
        lines = inspect.getsource(fn).split("\n")
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        return short_hash(repr(fn) if code is None else _facts_of(code))
    begin = next((number for number, line in enumerate(lines) if _BEGIN.match(line)), 0)
    indent = len(lines[begin]) - len(lines[begin].lstrip())
    return short_hash([line[indent:].rstrip() for line in lines[begin:]])


def _facts_of(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), [_constant(each) for each in code.co_consts], code.co_names]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _facts_of(value)
    # The order of a set differs between processes.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


_BEGIN = re.compile(r"\s*(async\s+)?def\s")
