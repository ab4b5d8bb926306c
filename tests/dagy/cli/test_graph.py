from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dagy.cli.main import main
from dagy.errors import ExitCode
from dagy.spec import FlowSpec

SOURCE = """
from dagy import flow, task

@task(retries=3, timeout_seconds=2)
def fetch(city: str) -> str:
    raise AssertionError("drawing executes no task")

@task
def merge(parts: list[str]) -> str:
    raise AssertionError("drawing executes no task")

@flow(name="weather", version="1.0.0", example={"cities": ["Bonn"]})
def weather(cities: list[str], extra: int = 0) -> str:
    return merge([fetch(city) for city in cities] + [fetch(str(number)) for number in range(extra)])
"""

TREE = """\
weather:1.0.0 (3 task runs, 2 edges)
├─ fetch-1 fetch retries=3 timeout=2s → merge-1 (see below)
└─ fetch-2 fetch retries=3 timeout=2s
   └─ merge-1 merge
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A flow file, whose module is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "weather_to_draw.py").write_text(SOURCE)
    yield f"{tmp_path / 'weather_to_draw.py'}:weather"
    sys.modules.pop("weather_to_draw", None)


def graph(*words: str, environ: dict[str, str] | None = None) -> int:
    return main(["graph", *words], environ or {})


def test_the_tree_goes_to_stdout(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert graph(target, "--param", 'cities=["Bonn", "Oslo"]') == ExitCode.SUCCESS

    assert capsys.readouterr() == (TREE, "")


def test_the_example_stands_in_for_parameters_that_are_not_given(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph(target, "--param", "extra=1")

    assert capsys.readouterr().out == TREE


def test_json_is_the_flow_spec(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    graph(target, "--format", "json")

    spec = FlowSpec.from_dict(json.loads(capsys.readouterr().out))
    assert [node.id for node in spec.task_runs] == ["fetch-1", "merge-1"]


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("drawn.mmd", "flowchart LR"),
        ("drawn.gv", 'digraph "weather" {'),
        ("drawn.SVG", "<svg "),
        ("drawn.json", "{"),
        ("drawn.txt", "weather:1.0.0 ("),
    ],
)
def test_the_ending_of_the_output_chooses_the_format(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, beginning: str
) -> None:
    assert graph(target, "--output", str(tmp_path / name)) == ExitCode.SUCCESS

    assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)
    assert capsys.readouterr() == ("", "")


def test_format_wins_over_the_ending(target: str, tmp_path: Path) -> None:
    graph(target, "--format", "svg", "--output", str(tmp_path / "drawn.txt"))

    assert ElementTree.parse(tmp_path / "drawn.txt").getroot().tag.endswith("svg")


def test_an_output_that_can_not_be_written_is_named(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "missing" / "drawn.svg"

    assert graph(target, "--output", str(output)) == ExitCode.USAGE
    message = f"{output} can not be written (No such file or directory); name another --output\n"
    assert capsys.readouterr() == ("", message)


def test_large_mermaid_charts_come_with_a_warning(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    graph(target, "--param", "extra=600", "--format", "mermaid")

    printed = capsys.readouterr()
    assert printed.out.startswith("flowchart LR\n")
    assert printed.err == (
        "Mermaid draws at most 500 edges unless its maxEdges is raised, and this graph has 601; "
        "--format svg draws them all\n"
    )


def test_an_encoding_without_box_drawing_gets_ascii(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", screen)

    assert graph(target) == ExitCode.SUCCESS
    screen.seek(0)
    assert screen.read() == (
        "weather:1.0.0 (2 task runs, 1 edge)\n`- fetch-1 fetch retries=3 timeout=2s\n   `- merge-1 merge\n"
    )


@pytest.mark.parametrize(("environ", "is_colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colour_unless_it_is_unwanted(
    target: str, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], is_colored: bool
) -> None:
    controller, terminal = os.openpty()
    with open(terminal, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        graph(target, environ=environ)
    assert (b"\x1b[" in os.read(controller, 10_000)) is is_colored
    os.close(controller)


def test_a_target_of_another_form_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert graph("weather") == ExitCode.USAGE

    assert capsys.readouterr().err == "ValueError: Flow target must be in <path>:<flow_fn> format\n"
