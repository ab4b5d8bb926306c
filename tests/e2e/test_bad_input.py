"""Every mistake that a person can make on a laptop: one clear sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GOOD = """
from dagy import flow, task

@task
def extract(day: str) -> str:
    return day

@flow(name="daily", version="1.0.0")
def daily(day: str, limit: int = 5):
    return extract(day)
"""


class Laptop:
    """A working directory, a local directory, and `dagy` run in them as a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        (folder / "flows.py").write_text(GOOD)
        self.environ = {**os.environ, "DAGY_LOCAL_DIR": str(self.home), "NO_COLOR": "1"}
        for name in ("DAGY_API_URL", "DAGY_PROFILE"):
            self.environ.pop(name, None)

    def write(self, text: str, name: str = "flows.py") -> None:
        (self.folder / name).write_text(text)

    def dagy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dagy", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def runs(self) -> list[str]:
        return self.dagy("runs", "list").stdout.splitlines()


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


def assert_refused(done: subprocess.CompletedProcess[str], code: int, message: str, *, traceback: bool = False) -> None:
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert ("Traceback" in done.stderr) is traceback
    assert "dagy/cli" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "flows.py"], 2, "ValueError: Flow target must be in <path>:<flow_fn> format\n"),
        (["build", "flows.py"], 2, "ValueError: Flow target must be in <path>:<flow_fn> format\n"),
        (["run", "nothing.py:daily"], 5, "FileNotFoundError: Flow file not found: "),
        (["build", "nothing.py:daily"], 5, "FileNotFoundError: Flow file not found: "),
        (["run", "flows.py:dayly"], 5, "AttributeError: Flow 'dayly' not found in "),
        (["run", "flows.py:dayly"], 5, "did you mean 'daily'?"),
        (["run", "flows.py:daily"], 2, "Flow 'daily' needs parameter 'day' (str)"),
        (["run", "flows.py:daily", "--param", "day"], 2, "ValueError: Invalid param 'day', expected key=value\n"),
        (["build", "flows.py:daily", "--param", "bad"], 2, "ValueError: Invalid param 'bad', expected key=value\n"),
        (["run", "flows.py:daily", "--param", "dya=1"], 2, "has no parameter 'dya'; did you mean 'day'?"),
        (["run", "flows.py:daily", "--param", "day=1", "--param", "limit=x"], 2, "expects int, got str 'x'"),
        (["run", "flows.py:daily", "--param", "day=1", "--max-workers", "0"], 2, "max_workers must be a whole number"),
        (["run", "flows.py:daily", "--max-workers", "many"], 2, "invalid int value: 'many'"),
        (["runs", "show", "nothing"], 5, "Run not found: nothing\n"),
        (["logs", "nothing"], 5, "Log not found: "),
        (["logs", "../../etc/passwd"], 5, "Log not found: "),
        (["flows", "list"], 2, "Missing Dagy API URL. Set DAGY_API_URL or run 'dagy config'.\n"),
        (["flows", "list", "--profile", "nobody"], 2, "nobody"),
        (["deploy", "nothing.zip", "--deployment", "d"], 5, "FileNotFoundError: Artifact not found: "),
        (["login"], 1, "server"),
        (["run", "my-deployment", "--remote"], 1, "needs a Dagy server"),
        (["fly"], 2, "invalid choice: 'fly'"),
        (["runs"], 2, "required: <command>"),
    ],
)
def test_a_wrong_command_line_is_refused(laptop: Laptop, arguments: list[str], code: int, message: str) -> None:
    assert_refused(laptop.dagy(*arguments), code, message)
    assert laptop.runs() == []


def test_an_api_that_is_not_there_is_named(laptop: Laptop) -> None:
    laptop.environ["DAGY_API_URL"] = "http://127.0.0.1:9"
    assert_refused(
        laptop.dagy("flows", "list"),
        4,
        "APIError 0: Unable to reach Dagy API at http://127.0.0.1:9. "
        "Check DAGY_API_URL/profile and network connectivity.\n",
    )


def test_a_file_that_raises_shows_only_the_users_frames(laptop: Laptop) -> None:
    laptop.write("import json\n\ndef broken():\n    return json.loads('{')\n\nbroken()\n")
    done = laptop.dagy("run", "flows.py:daily")
    assert_refused(done, 1, "ImportError: Unable to load module from ", traceback=True)
    assert "in broken" in done.stderr
    assert "importlib" not in done.stderr


def test_a_file_with_a_syntax_error_shows_the_line(laptop: Laptop) -> None:
    laptop.write("def broken(:\n    pass\n")
    done = laptop.dagy("run", "flows.py:daily")
    assert done.returncode == 1
    assert "def broken(:" in done.stderr


def test_a_body_that_raises_shows_only_the_users_frames(laptop: Laptop) -> None:
    laptop.write("from dagy import flow\n\n@flow\ndef daily():\n    return {}['nothing']\n")
    done = laptop.dagy("run", "flows.py:daily")
    assert_refused(done, 1, "Flow 'daily' raised while it was built: KeyError: 'nothing'\n", traceback=True)
    assert "return {}['nothing']" in done.stderr
    assert laptop.runs() == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def daily():\n    pass\n", "decorate it with @flow"),
        (
            "from dagy import flow, task\n@task(name='t')\ndef a(): ...\n@task(name='t')\ndef b(): ...\n"
            "@flow\ndef daily():\n    a()\n    b()\n",
            "Two tasks of flow 'daily' are named 't' (flows:a and flows:b)",
        ),
        (
            "from dagy import flow, task\n@task\ndef a(): ...\n@flow\ndef daily():\n    if a():\n        a()\n",
            "<output of a-1> has no value while the flow is built, so it can not be used as a condition",
        ),
        (
            "from dagy import flow, task\n@task\ndef a(x): ...\n@flow\ndef daily():\n    a(object())\n",
            "Task 'a' is given a object in argument 'x'",
        ),
        (
            "from dagy import flow, task\n@task\ndef a(x): ...\n@flow\ndef daily():\n    a()\n",
            "Task 'a' is called with wrong arguments in flow 'daily': missing a required argument: 'x'",
        ),
        (
            "from dagy import flow, task\n@task(retries=-1)\ndef a(): ...\n@flow\ndef daily():\n    a()\n",
            "retries of task 'a' must be a whole number from 0, got -1",
        ),
        (
            "from dagy import flow, task\n@task(retry=1)\ndef a(): ...\n@flow\ndef daily():\n    a()\n",
            "@task has no setting 'retry'; did you mean 'on_retry' or 'retries'?",
        ),
    ],
)
def test_a_flow_that_can_not_be_built_says_why(laptop: Laptop, source: str, message: str) -> None:
    laptop.write(source)
    done = laptop.dagy("run", "flows.py:daily")
    assert done.returncode != 0
    assert message in done.stderr
    assert laptop.runs() == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("object()", "The output, of type object, is not JSON-serialisable"),
        ("'x' * 6_000_000", "The output has 6,000,002 bytes and the limit is 5,242,880"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_task_that_fails_ends_the_run_with_its_error(laptop: Laptop, returned: str, message: str) -> None:
    laptop.write(f"from dagy import flow, task\n@task\ndef a():\n    return {returned}\n@flow\ndef daily():\n    a()\n")
    done = laptop.dagy("run", "flows.py:daily")
    assert done.returncode == 1
    assert f"TaskFailedError: Task a failed: {message}" in done.stderr
    (run,) = laptop.runs()
    assert " FAILED " in run


def test_a_run_that_fails_in_the_end_exits_with_one(laptop: Laptop) -> None:
    laptop.write("from dagy import flow, task\n@task\ndef a():\n    raise ValueError\n@flow\ndef daily():\n    a()\n")
    done = laptop.dagy("run", "flows.py:daily", "--no-fail-fast")
    assert done.returncode == 1
    assert done.stdout.startswith("Run completed: daily-")
    assert done.stdout.endswith(" status=FAILED\n")


def test_a_local_directory_that_is_a_file_is_named(laptop: Laptop) -> None:
    laptop.home.write_text("")
    done = laptop.dagy("run", "flows.py:daily", "--param", "day=1")
    assert done.returncode == 1
    assert f"The local directory {laptop.home} can not be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["runs", "list"], ["run", "flows.py:daily", "--param", "day=1"]])
def test_a_setting_that_is_no_number_is_named(laptop: Laptop, command: list[str]) -> None:
    laptop.environ["DAGY_LOCAL_KEEP_RUNS"] = "many"
    assert_refused(laptop.dagy(*command), 2, "DAGY_LOCAL_KEEP_RUNS must be a whole number from 1, got 'many'\n")


def test_a_broken_config_is_kept_and_said(laptop: Laptop) -> None:
    laptop.home.mkdir()
    (laptop.home / "config.yaml").write_text("profiles: [\n")
    done = laptop.dagy("flows", "list")
    assert "config.yaml" in done.stderr
    (backup,) = laptop.home.glob("config.bak-*.yaml")
    assert backup.read_text() == "profiles: [\n"


def test_a_broken_database_is_kept_and_said(laptop: Laptop) -> None:
    assert laptop.dagy("run", "flows.py:daily", "--param", "day=1").returncode == 0
    (laptop.home / "dagy.duckdb").write_text("broken")
    done = laptop.dagy("runs", "list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "dagy.duckdb" in done.stderr
    (backup,) = laptop.home.glob("dagy.duckdb.bak-*")
    assert backup.read_text() == "broken"


def test_files_of_the_local_directory_are_the_owners(laptop: Laptop) -> None:
    assert laptop.dagy("run", "flows.py:daily", "--param", "day=secret").returncode == 0
    assert stat.S_IMODE(laptop.home.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize("name", ["a b", "a/b", "..", "🚀", "x" * 300, "-q", "$(rm)", "a:b"])
def test_odd_names_run_build_and_are_shown(laptop: Laptop, name: str) -> None:
    laptop.write(
        f"from dagy import flow, task\n@task(name={name!r})\ndef a():\n    print('hello')\n    return 1\n"
        f"@flow(name={name!r})\ndef daily():\n    return a()\n"
    )
    done = laptop.dagy("run", "flows.py:daily")
    assert done.returncode == 0, done.stderr
    (run,) = laptop.runs()
    run_id = run.split(" ")[0]
    assert f"{name}-1" in laptop.dagy("runs", "show", run_id).stdout
    assert "hello" in laptop.dagy("logs", run_id, f"--task={name}-1").stdout
    built = laptop.dagy("build", "flows.py:daily")
    assert built.returncode == 0, built.stderr
    path = Path(built.stdout.removeprefix("Artifact: ").strip())
    assert path.is_relative_to(laptop.home / "builds")
    assert path.exists()


def test_a_closed_pipe_is_no_error(laptop: Laptop) -> None:
    for _ in range(3):
        laptop.dagy("run", "flows.py:daily", "--param", "day=1")
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m dagy runs list | head -n 1",
        shell=True,
        cwd=laptop.folder,
        env=laptop.environ,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
