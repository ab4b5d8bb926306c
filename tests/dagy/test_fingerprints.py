"""What counts as a change of a task's code or inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagy.fingerprints import Fingerprint, code_hash, fingerprint
from dagy.spec import TaskRunSpec


def load(folder: Path, name: str, source: str) -> Any:
    path = folder / f"{name}.py"
    path.write_text(source)
    scope: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), scope)
    return scope["f"]


BODY = "def f(x):\n    return x in {'a', 'b'}\n"


@pytest.mark.parametrize("before", ["", "\n\n# moved down\n", "def deco(f):\n    return f\n\n@deco\n"])
def test_place_and_decorators_do_not_count(tmp_path: Path, before: str) -> None:
    assert code_hash(load(tmp_path, "a", BODY)) == code_hash(load(tmp_path, "b", before + BODY))


def test_the_body_counts(tmp_path: Path) -> None:
    assert code_hash(load(tmp_path, "a", BODY)) != code_hash(load(tmp_path, "b", BODY.replace("'b'", "'c'")))


def test_a_function_without_source_has_a_hash() -> None:
    scope: dict[str, Any] = {}
    exec("def f(): return 1.5\ndef g(): return 2.5", scope)
    assert len(code_hash(scope["f"])) == 16
    assert code_hash(scope["f"]) != code_hash(scope["g"])
    assert len(code_hash(len)) == 16


def test_inputs_count_by_content() -> None:
    node = TaskRunSpec(
        id="b-1", task="b", inputs={"x": [{"$ref": "a-1"}, {"$settled": "a-2"}], "y": {"$json": {"$ref": 1}}}
    )
    same = fingerprint(node, "code", lambda task_run_id: f"content of {task_run_id}")
    assert same == fingerprint(node, "code", lambda task_run_id: f"content of {task_run_id}")
    other = fingerprint(node, "code", lambda task_run_id: "other")
    assert same.differences(other) == ["input 'x'"]


def test_differences_are_told_in_words() -> None:
    first = Fingerprint("1", {"a": "1", "b": "2"}, "p")
    assert first.differences(first) == []
    assert first.differences(Fingerprint("2", {"b": "2", "c": "3"}, "q")) == [
        "the code of the task",
        "input 'a'",
        "input 'c'",
        "the dependency pins",
    ]
