from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dagy.cli.completion import SHELLS, completion_script
from dagy.cli.main import COMMANDS, build_parser, main
from dagy.errors import ExitCode

FLOWS = """
from dagy import flow, task

@task
def work(): ...

@flow
def hello(): ...

@flow(
    name="another name",
)
def hey(): ...

@dagy.flow(version="2")
def other(): ...

def plain(): ...
"""

RUN_IDS = """\
#!/bin/sh
test "$*" = "runs list --limit 50" || exit 1
echo "hello-20260101T000000Z-abc123 SUCCEEDED 2026-01-01T00:00:00Z hello:latest"
echo "daily-20260102T000000Z-def456 FAILED 2026-01-02T00:00:00Z daily:1.0.0"
"""

#: Does what Readline does before it calls a completion function, and prints the answers.
ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
_dagy
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    main(["completion", "bash"], {})
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project, and in `bin` a `dagy` that knows two runs."""
    project = tmp_path / "project"
    for name in ("flows", "out"):
        (project / name).mkdir(parents=True)
    (project / "flows" / "hello.py").write_text(FLOWS)
    (project / "flows" / "notes.txt").touch()
    (project / "artifact.zip").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dagy").write_text(RUN_IDS)
    (tmp_path / "bin" / "dagy").chmod(0o755)
    return project


def ask(script: Path, folder: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of the words, which are split as Readline splits them."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    path = f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        [bash, "--norc", "-c", ASK, "bash", str(script), "dagy", *words],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert answer.stderr == ""
    return answer.stdout.split()


def test_bash_offers_every_command(script: Path, folder: Path) -> None:
    assert ask(script, folder, "") == [name for name, _, _ in COMMANDS]
    assert ask(script, folder, "ru") == ["run", "runs"]


def test_bash_offers_sub_commands_and_their_options(script: Path, folder: Path) -> None:
    assert ask(script, folder, "runs", "") == ["list", "show"]
    assert "--limit" in ask(script, folder, "runs", "list", "--")
    assert ask(script, folder, "--no-color", "runs", "list", "--li") == ["--limit"]


def test_bash_offers_choices(script: Path, folder: Path) -> None:
    assert ask(script, folder, "completion", "") == list(SHELLS)
    assert ask(script, folder, "graph", "x", "--format", "") == ["tree", "mermaid", "dot", "svg", "json"]
    assert ask(script, folder, "graph", "x", "--format", "=", "s") == ["svg"]
    assert ask(script, folder, "graph", "x", "--format", "=") == ["tree", "mermaid", "dot", "svg", "json"]


@pytest.mark.parametrize("command", ["run", "graph", "build"])
def test_bash_offers_files_with_flows_and_then_their_flows(script: Path, folder: Path, command: str) -> None:
    assert ask(script, folder, command, "fl") == ["flows/"]
    assert ask(script, folder, command, "flows/") == ["flows/hello.py:"]
    assert ask(script, folder, command, "flows/hello.py", ":") == ["hello", "hey", "other"]
    assert ask(script, folder, command, "flows/hello.py", ":", "he") == ["hello", "hey"]


def test_bash_goes_on_with_options_after_a_flow(script: Path, folder: Path) -> None:
    words = ["run", "flows/hello.py", ":", "hello", "--param", "name", "=", "a", ":", "b", "--max"]

    assert ask(script, folder, *words) == ["--max-workers"]


def test_bash_offers_run_ids(script: Path, folder: Path) -> None:
    ids = ["hello-20260101T000000Z-abc123", "daily-20260102T000000Z-def456"]

    assert ask(script, folder, "runs", "show", "") == ids
    assert ask(script, folder, "logs", "da") == ids[1:]


def test_bash_offers_files_and_folders(script: Path, folder: Path) -> None:
    assert ask(script, folder, "deploy", "a") == ["artifact.zip"]
    assert ask(script, folder, "graph", "x", "--output", "a") == ["artifact.zip"]
    assert sorted(ask(script, folder, "init", "")) == ["flows", "out"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_legal(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell], {}) == ExitCode.SUCCESS

    printed = capsys.readouterr()
    assert printed.err == ""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run(
        [program, "-n", "/dev/stdin"], input=printed.out, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_everything_without_a_dash_is_completed(shell: str) -> None:
    parser = build_parser()
    completion_script(parser, shell)

    assert [
        f"{each.prog} {action.dest}"
        for each in parsers_below(parser)
        for action in each._actions
        if not action.option_strings and not action.choices and not hasattr(action, "complete")
    ] == []


def parsers_below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for each in found:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                found.extend(action.choices.values())
    return found


def test_a_person_at_a_terminal_is_told_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stdout", Terminal())
    main(["completion", "zsh"], {})

    assert 'eval "$(dagy completion zsh)"' in capsys.readouterr().err
