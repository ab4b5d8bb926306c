"""The pages are read as a reader would: their code is executed, their commands are typed, their outputs compared.

A page is taken block by block, from top to bottom, in an empty folder:

    ```python title="flows/daily.py"     the file is written
    ```python                            the code is executed; all such blocks of a page share their names
    ```python title="raises TypeError"   the code is executed and raises that
    ```sh                                each line that begins with `dagy` or `python` is executed and exits with 0,
                                         `export NAME=value` is done, other lines are left out
    ```sh title="exits with 1"           the last one exits with 1
    ```text                              below `sh`: each line was printed, apart from what differs from run to run
    ```text title="..."                  something else to read

Blocks of another language are not touched.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import boto3
import pytest
from moto.server import ThreadedMotoServer

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"

FAST = [
    DOCS / "index.md",
    REPOSITORY / "README.md",
    *sorted(DOCS.glob("concepts/*.md")),
    *sorted(DOCS.glob("how-to/*.md")),
    DOCS / "reference/sdk.md",
    DOCS / "reference/flow-spec.md",
]
SLOW = [DOCS / "quickstart.md", DOCS / "reference/cli.md"]

#: Where the reader of the pages works.
SHOWN_PROJECT, SHOWN_HOME = "/home/me/project", "/home/me/.dagy"

RUN_ID = re.compile(r"\b\w+-\d{8}T\d{6}Z-[0-9a-f]{6}\b")

#: What differs from run to run, and what stands for it in a comparison.
_VOLATILE = (
    (RUN_ID, "<run id>"),
    (re.compile(r"-\d{8}T\d{6}-[0-9a-f]{6}\b"), "<build id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d"), "<time>"),
    (re.compile(r"(?<![\w.])\d+\.\d+s\b"), "<duration>"),
    (re.compile(r'("duration_seconds"|duration_seconds|"pid"|pid)(:? )[\d.]+'), r"\1\2<number>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"line \d+"), "line <number>"),
    (re.compile(r"\bPython 3\.\d+\.\d+\b"), "Python <version>"),
)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    text: str
    line: int


class Typed(NamedTuple):
    """A command that has ended."""

    line: str
    exit_code: int
    output: str


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, also indented ones."""
    language, title, lines, start, indent = "", "", [], 0, ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = re.fullmatch(r'(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?', line)
        if fence is None:
            lines.append(line.removeprefix(indent))
        elif start:
            yield Block(language, title, "\n".join(lines) + "\n", start)
            start = 0
        else:
            language, title, lines = fence["language"], fence["title"] or "", []
            start, indent = number, fence["indent"]


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(self, page: Path, project: Path, environ: dict[str, str]) -> None:
        self._page = page
        self._project = project
        self._environ = environ
        self._module = ModuleType(f"docs_page_{page.stem.replace('-', '_')}")
        self._source = project / f"{self._module.__name__}.py"
        #: The Python of the page so far, each block at its line.
        self._text = ""
        self._module.__file__ = str(self._source)
        self._typed: list[Typed] = []
        #: Run ids of the page, and those that were really made.
        self._run_ids: dict[str, str] = {}

    def read(self) -> None:
        sys.modules[self._module.__name__] = self._module
        try:
            for block in blocks_of(self._page):
                self._follow(block)
        finally:
            del sys.modules[self._module.__name__]

    def _follow(self, block: Block) -> None:
        if block.language == "python" and block.title.endswith(".py"):
            path = self._project / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
        elif block.language == "python":
            self._execute(block)
        elif block.language == "sh":
            self._type(block)
        elif block.language == "text" and not block.title:
            self._compare(block)

    def _execute(self, block: Block) -> None:
        # At its place in the page, so that the traceback of a failure leads there; behind the earlier blocks, so that
        # the source of their functions stays what it was.
        code = compile("\n" * block.line + block.text, str(self._source), "exec")
        self._text += "\n" * (block.line - self._text.count("\n")) + block.text
        self._source.write_text(self._text, "utf-8")
        raises = re.fullmatch(r"raises (\w+)", block.title)
        if raises is None:
            exec(code, self._module.__dict__)
            return
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the page names the class
            exec(code, self._module.__dict__)
        assert caught.type.__name__ == raises[1], f"{self._at(block)} raised {caught.value!r}"

    def _type(self, block: Block) -> None:
        self._typed = []
        lines = block.text.replace("\\\n", " ").splitlines()
        for name, value in (line.removeprefix("export ").split("=") for line in lines if line.startswith("export ")):
            self._environ[name] = value
        commands = [line for line in lines if line.split()[:1] in (["dagy"], ["python"])]
        wanted = re.fullmatch(r"exits with (\d+)", block.title)
        for number, line in enumerate(commands, 1):
            done = self._run(line)
            expected = int(wanted[1]) if wanted and number == len(commands) else 0
            assert done.exit_code == expected, f"{self._at(block)}: {line!r} exits with {done.exit_code}\n{done.output}"
            self._typed.append(done)

    def _run(self, line: str) -> Typed:
        known = RUN_ID.sub(lambda match: self._run_ids.get(match[0], match[0]), line)
        program, *arguments = shlex.split(known)
        command = [sys.executable, *(["-m", "dagy"] if program == "dagy" else []), *arguments]
        done = subprocess.run(
            command,
            cwd=self._project,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return Typed(line, done.returncode, done.stdout)

    def _compare(self, block: Block) -> None:
        assert self._typed, f"{self._at(block)}: no command stands above it"
        printed = [line for each in self._typed for line in self._as_shown(each.output).splitlines()]
        known = {_stable(line): line for line in printed}
        for line in block.text.splitlines():
            if line.strip() in ("", "..."):
                continue
            assert _stable(line) in known, f"{self._at(block)}: not printed: {line!r}\n" + "\n".join(printed)
            ids = zip(RUN_ID.findall(line), RUN_ID.findall(known[_stable(line)]), strict=True)
            self._run_ids |= {shown: real for shown, real in ids if shown not in self._run_ids}

    def _as_shown(self, text: str) -> str:
        text = text.replace(self._environ["DAGY_LOCAL_DIR"], SHOWN_HOME).replace(str(self._project), SHOWN_PROJECT)
        return text.replace("python -m dagy", "dagy")

    def _at(self, block: Block) -> str:
        return f"{self._page.name}:{block.line}"


def _stable(line: str) -> str:
    for pattern, instead in _VOLATILE:
        line = pattern.sub(instead, line)
    return line.rstrip()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a reader who has installed Dagy and nothing else."""
    for name in [name for name in os.environ if name.startswith(("DAGY_", "AWS_"))]:
        monkeypatch.delenv(name)
    settings = {"DAGY_LOCAL_DIR": str(tmp_path / "home"), "HOME": str(tmp_path), "COLUMNS": "120", "NO_COLOR": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the reader works, with the examples in it as in a checkout."""
    folder = tmp_path / "project"
    shutil.copytree(REPOSITORY / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


@pytest.fixture
def bucket(environ: dict[str, str]) -> Iterator[str]:
    """The S3 bucket `my-artifacts` of the reader's AWS account, served by this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    client: Any = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="my-artifacts")
    yield "my-artifacts"
    client.close()
    server.stop()


@pytest.mark.parametrize("page", FAST, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(page: Path, project: Path, environ: dict[str, str]) -> None:
    Reader(page, project, environ).read()


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.stem)
def test_the_commands_of_the_page_do_what_it_says(page: Path, project: Path, environ: dict[str, str]) -> None:
    Reader(page, project, environ).read()
