"""What stands for a value in the body of a flow, where nothing has run yet: outputs, and conditions on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn


class Unknown:
    """What has no value while the flow is built: what would need it raises a `TypeError` that says what to write."""

    __slots__ = ()

    def _unknown(self, wish: str, instead: str) -> NoReturn:
        raise TypeError(f"{self!r} has no value while the flow is built, so it can not be {wish}; {instead}")

    def __getitem__(self, key: Any) -> Any:
        self._unknown("indexed", "take the part inside a task that takes it as an argument")

    def __bool__(self) -> bool:
        self._unknown("used as a condition", "decide inside a task that takes it as an argument")

    def __iter__(self) -> Iterator[Any]:
        self._unknown("iterated or unpacked", "do that inside a task that takes it as an argument")

    def __len__(self) -> int:
        self._unknown("measured", "call len() inside a task that takes it as an argument")

    def __contains__(self, item: object) -> bool:
        self._unknown("searched", "look inside it in a task that takes it as an argument")

    def __str__(self) -> str:
        self._unknown("made text of", "format it inside a task that takes it as an argument; repr() names it")

    def __format__(self, _: str) -> str:
        return str(self)

    def __hash__(self) -> int:
        return id(self)

    def _comparison(self, _: object) -> Any:
        self._unknown("compared", "compare inside a task that takes it as an argument, and test the output of that")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _comparison

    def _arithmetic(self, *_: object) -> NoReturn:
        self._unknown("used in an expression", "compute inside a task that takes it as an argument")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _arithmetic
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _arithmetic
    __xor__ = _arithmetic
    __int__ = __float__ = __index__ = __round__ = _arithmetic


class TaskOutput(Unknown):
    """What a task will return, known only when the flow runs.

    Passing it (also inside lists, tuples, dicts, dataclasses and pydantic models) to another task makes that task
    depend on this one. `output["key"]` and `output[0]` refer to a part of it, comparisons give a `Condition` for
    `when=`. Anything that would need the value now raises a `TypeError` that says what to write instead.
    """

    __slots__ = ("path", "task_run_id")
    __hash__ = Unknown.__hash__  # defining __eq__ would take it away

    def __init__(self, task_run_id: str, path: tuple[str | int, ...] = ()) -> None:
        self.task_run_id = task_run_id
        self.path = path

    def __getitem__(self, key: str | int) -> TaskOutput:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(f"{self!r} can be indexed by a string or a whole number, not by {key!r}")
        return TaskOutput(self.task_run_id, (*self.path, key))

    def __repr__(self) -> str:
        return f"<output of {self.task_run_id}{''.join(f'[{key!r}]' for key in self.path)}>"

    def __bool__(self) -> bool:
        self._unknown("used as a condition", "give it to task.options(when=...), or decide inside a task")

    def __iter__(self) -> Iterator[Any]:
        self._unknown(
            "iterated or unpacked", "pass it whole to a task, or take parts of it with output[0] or output['key']"
        )

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]  # an expression, as in SQLAlchemy
        return Condition("==", (self, other))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Condition("!=", (self, other))

    def __lt__(self, other: object) -> Condition:
        return Condition("<", (self, other))

    def __le__(self, other: object) -> Condition:
        return Condition("<=", (self, other))

    def __gt__(self, other: object) -> Condition:
        return Condition(">", (self, other))

    def __ge__(self, other: object) -> Condition:
        return Condition(">=", (self, other))

    def __and__(self, other: object) -> Condition:
        return Condition("and", (self, other))

    def __or__(self, other: object) -> Condition:
        return Condition("or", (self, other))

    def __invert__(self) -> Condition:
        return Condition("not", (self,))


class Condition:
    """Whether a task run is to be executed, decided when the outputs that it speaks of are known."""

    __slots__ = ("args", "op")

    def __init__(self, op: str, args: tuple[Any, ...]) -> None:
        self.op = op
        self.args = args

    def __and__(self, other: object) -> Condition:
        return Condition("and", (self, other))

    def __or__(self, other: object) -> Condition:
        return Condition("or", (self, other))

    def __invert__(self) -> Condition:
        return Condition("not", (self,))

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is not known while the flow is built; give it to task.options(when=...), and combine conditions "
            "with & | ~ instead of and, or, not"
        )

    def __repr__(self) -> str:
        if self.op == "not":
            return f"~{self.args[0]!r}"
        return f"({self.args[0]!r} {self.op} {self.args[1]!r})"


class AllowFailed(Unknown):
    """An output that a task wants even if the task runs behind it failed; see `dagy.allow_failed`."""

    __slots__ = ("output",)

    def __init__(self, output: TaskOutput) -> None:
        self.output = output

    def __repr__(self) -> str:
        return f"<allow_failed of {self.output!r}>"


class FirstOf(Unknown):
    """The output of whichever of several alternatives is executed."""

    __slots__ = ("outputs",)

    def __init__(self, outputs: Sequence[Any]) -> None:
        self.outputs = outputs

    def __repr__(self) -> str:
        return f"<result of choose(): {' or '.join(map(repr, self.outputs)) or None}>"
