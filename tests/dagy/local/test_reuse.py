"""Resume, cache and replay: what is used again, what is computed again, and why."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagy import LocalArtifact, flow, run_local, task
from dagy.errors import FlowDefinitionError, NotFound, ParameterError, TaskFailedError
from dagy.local.home import Home
from dagy.local.records import RunRecord
from dagy.local.reuse import explain
from dagy.local.store import LocalStore
from dagy.testing import InstantClock


def recorded(home: Path, run_id: str) -> RunRecord:
    record = LocalStore(Home(home), warn=pytest.fail).run(run_id)
    assert record is not None
    return record


def statuses(home: Path, run_id: str) -> dict[str, str]:
    return {each.task_run_id: str(each.status) for each in recorded(home, run_id).task_runs}


class Counted:
    """A flow whose tasks count their calls, with parts that a test can change between runs."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = True
        self.factor = 2

    def flow(self, *, other_code: bool = False) -> Any:
        @task
        def extract(count: int) -> list:
            self.calls.append("extract")
            return list(range(count))

        def transform_1(row: int) -> int:
            self.calls.append(f"transform {row}")
            return row * 2

        def transform_2(row: int) -> int:
            self.calls.append(f"transform {row}")
            return row * 3

        transform = task(name="transform")(transform_2 if other_code else transform_1)

        @task
        def load(rows: list) -> int:
            self.calls.append("load")
            if self.broken:
                raise ConnectionError("database away")
            return sum(rows)

        @flow(name="etl")
        def etl(count: int = 3) -> Any:
            return load(transform.map(extract(count)))

        return etl


def fail_once(counted: Counted, home: Path) -> str:
    with pytest.raises(TaskFailedError) as caught:
        run_local(counted.flow(), {}, home=home)
    counted.broken = False
    counted.calls.clear()
    return caught.value.run_id


def test_resume_takes_what_succeeded_and_runs_the_rest(tmp_path: Path) -> None:
    counted = Counted()
    first = fail_once(counted, tmp_path)
    result = run_local(counted.flow(), {}, home=tmp_path, resume=first)
    assert counted.calls == ["load"]
    assert result.output() == 6
    assert statuses(tmp_path, result.run_id) == {
        "extract-1": "CACHED",
        "transform-1": "SUCCEEDED",
        "load-1": "SUCCEEDED",
        "transform-1[0]": "CACHED",
        "transform-1[1]": "CACHED",
        "transform-1[2]": "CACHED",
    }
    stored = recorded(tmp_path, result.run_id)
    assert stored.retry_of == first
    assert stored.task_runs[0].output is not None
    assert stored.task_runs[0].output["origin"] == f"{first}/extract-1"
    log = (tmp_path / "runs" / result.run_id / "run.log").read_text()
    assert f"extract-1 is taken from run {first}" in log
    assert "load-1 runs again: it was FAILED then" in log


def test_resume_runs_what_has_other_code(tmp_path: Path) -> None:
    counted = Counted()
    first = fail_once(counted, tmp_path)
    result = run_local(counted.flow(other_code=True), {}, home=tmp_path, resume=first)
    assert sorted(counted.calls) == ["load", "transform 0", "transform 1", "transform 2"]
    assert result.output() == 9
    log = (tmp_path / "runs" / result.run_id / "run.log").read_text()
    assert "transform-1[0] runs again: the code of the task changed" in log


def test_resume_runs_what_has_other_inputs(tmp_path: Path) -> None:
    counted = Counted()
    first = fail_once(counted, tmp_path)
    result = run_local(counted.flow(), {"count": 4}, home=tmp_path, resume=first)
    assert counted.calls[0] == "extract"
    assert result.output() == 12
    assert "extract-1 runs again: input 'count' changed" in (tmp_path / "runs" / result.run_id / "run.log").read_text()


def test_a_resumed_run_can_be_resumed_and_survives_the_first(tmp_path: Path) -> None:
    counted = Counted()
    home = Home(tmp_path, keep_runs=1)
    first = fail_once(counted, tmp_path)
    counted.broken = True
    with pytest.raises(TaskFailedError) as caught:
        run_local(counted.flow(), {}, home=home, resume=first)
    assert not home.run_folder(first).exists()
    counted.broken = False
    counted.calls.clear()
    result = run_local(counted.flow(), {}, home=home, resume=caught.value.run_id)
    assert (result.output(), counted.calls) == (6, ["load"])


def test_files_are_taken_too(tmp_path: Path) -> None:
    broken = [True]

    @task
    def write() -> LocalArtifact:
        return LocalArtifact.from_text("x" * 5000, name="big.txt")

    @task
    def read(file: LocalArtifact) -> int:
        if broken:
            raise ValueError("no")
        return len(file.read_text())

    @flow
    def files() -> Any:
        return read(write())

    with pytest.raises(TaskFailedError) as caught:
        run_local(files, {}, home=tmp_path)
    broken.clear()
    assert run_local(files, {}, home=tmp_path, resume=caught.value.run_id).output() == 5000


def test_a_run_that_can_not_be_resumed_is_refused(tmp_path: Path) -> None:
    counted = Counted()
    first = fail_once(counted, tmp_path)

    @flow
    def other() -> None: ...

    with pytest.raises(NotFound, match="Run not found: nothing"):
        run_local(counted.flow(), {}, home=tmp_path, resume="nothing")
    with pytest.raises(ParameterError, match=f"Run {first} is one of flow 'etl', not of 'other'"):
        run_local(other, {}, home=tmp_path, resume=first)

    @task
    def resumes_itself() -> None:
        (live,) = [each for each in LocalStore(Home(tmp_path), warn=pytest.fail).runs() if each.status == "RUNNING"]
        run_local(counted.flow(), {}, home=tmp_path, resume=live.run_id)

    @flow
    def outer() -> None:
        resumes_itself()

    with pytest.raises(TaskFailedError, match="is still RUNNING; wait for its end"):
        run_local(outer, {}, home=tmp_path)


# Cache


def cached_flow(calls: list[Any], **settings: Any) -> Any:
    def square(x: int) -> int:
        calls.append(x)
        return x * x

    cached = task(name="square", **settings)(square)

    @flow
    def squares(values: list) -> Any:
        return cached.map(values)

    return squares


def test_an_output_is_used_again_for_the_same_inputs(tmp_path: Path) -> None:
    calls: list[Any] = []
    squares = cached_flow(calls, cache="inputs")
    first = run_local(squares, {"values": [1, 2]}, home=tmp_path)
    second = run_local(squares, {"values": [2, 3]}, home=tmp_path)
    assert (first.output(), second.output(), calls) == ([1, 4], [4, 9], [1, 2, 3])
    assert statuses(tmp_path, second.run_id)["square-1[0]"] == "CACHED"
    record = recorded(tmp_path, second.run_id)
    item = next(each for each in record.task_runs if each.task_run_id == "square-1[0]")
    assert item.output is not None
    assert item.output["origin"] == f"{first.run_id}/square-1[1]"


def test_nothing_is_cached_unless_asked_for(tmp_path: Path) -> None:
    calls: list[Any] = []
    squares = cached_flow(calls)
    for _ in range(2):
        run_local(squares, {"values": [1]}, home=tmp_path)
    assert calls == [1, 1]
    assert not (tmp_path / "cache").exists()


def test_a_cache_by_code_does_not_look_at_the_inputs(tmp_path: Path) -> None:
    calls: list[Any] = []
    squares = cached_flow(calls, cache="code")
    assert run_local(squares, {"values": [1]}, home=tmp_path).output() == [1]
    assert run_local(squares, {"values": [7]}, home=tmp_path).output() == [1]


def test_a_cache_by_an_own_key(tmp_path: Path) -> None:
    calls: list[Any] = []
    squares = cached_flow(calls, cache=lambda arguments: str(arguments["x"] % 10))
    assert run_local(squares, {"values": [3]}, home=tmp_path).output() == [9]
    assert run_local(squares, {"values": [13]}, home=tmp_path).output() == [9]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda arguments: arguments["nothing"], "can not be computed: KeyError: 'nothing'"),
        (lambda arguments: 5, "can not be computed: its function returned int, no string"),
    ],
)
def test_a_key_that_can_not_be_computed_fails_the_task(tmp_path: Path, key: Any, message: str) -> None:
    with pytest.raises(TaskFailedError, match=message):
        run_local(cached_flow([], cache=key), {"values": [3]}, home=tmp_path)


def test_a_cached_output_expires(tmp_path: Path) -> None:
    calls: list[Any] = []
    squares = cached_flow(calls, cache="inputs", cache_expires_after=3600)
    start = 1_800_000_000_000_000_000
    for hours in (0, 0.9, 1.1):
        clock = InstantClock(start + int(hours * 3600e9))
        run_local(squares, {"values": [1]}, home=tmp_path, clock=clock)
    assert calls == [1, 1]


def test_large_outputs_are_cached_and_outlive_their_run(tmp_path: Path) -> None:
    @task(cache="inputs")
    def big() -> str:
        return "x" * 5000

    @flow
    def large() -> Any:
        return big()

    home = Home(tmp_path, keep_runs=1)
    run_local(large, {}, home=home)
    run_local(large, {}, home=home)
    result = run_local(large, {}, home=home)
    assert statuses(tmp_path, result.run_id) == {"big-1": "CACHED"}
    assert len(result.output()) == 5000


def test_explain_names_the_part_of_the_key_that_differs(tmp_path: Path) -> None:
    squares = cached_flow([], cache="inputs")
    runs = [run_local(squares, {"values": [value]}, home=tmp_path).run_id for value in (1, 1, 2)]
    told = [explain(Home(tmp_path), recorded(tmp_path, run_id), "square-1[0]") for run_id in runs]
    assert "no earlier run looked for this task" in told[0]
    assert f"was taken from the cache: {runs[0]}/square-1[0] made it" in told[1]
    assert told[2].endswith("differs in input 'x'")
    with pytest.raises(NotFound, match="did not look into the cache"):
        explain(Home(tmp_path), recorded(tmp_path, runs[0]), "square-1")


@pytest.mark.parametrize("settings", [{"cache": "input"}, {"cache": "inputs", "cache_expires_after": 0}])
def test_wrong_cache_settings_are_named(settings: Any) -> None:
    with pytest.raises(FlowDefinitionError, match="cache"):
        task(**settings)(lambda: None)


# The command line

FLOW_FILE = """
from pathlib import Path
from dagy import flow, task

HERE = Path(__file__).parent

@task
def count(number: int) -> int:
    with open(HERE / "calls.txt", "a") as file:
        file.write(f"{number}\\n")
    return number

@task
def finish(numbers: list) -> int:
    if (HERE / "broken").exists():
        raise ValueError("broken")
    return sum(numbers)

@flow
def work(size: int = 30):
    return finish([count(number) for number in range(size)])

@task
async def later(number: int) -> int:
    if (HERE / "broken").exists():
        raise ValueError("broken")
    return number + 1

@flow
def spread(size: int = 2):
    return later.map(list(range(size)))
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "work.py").write_text(FLOW_FILE)
        self.environ = {**os.environ, "DAGY_LOCAL_DIR": str(folder / "home"), "DAGY_API_URL": ""}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dagy", *arguments]

    def dagy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60
        )

    def calls(self) -> list[str]:
        path = self.folder / "calls.txt"
        return path.read_text().split() if path.exists() else []

    def last_run(self) -> str:
        return self.dagy("runs", "list").stdout.split(" ")[0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_failed_run_is_resumed_by_its_id_alone(project: Project) -> None:
    (project.folder / "broken").write_text("")
    assert project.dagy("run", "work.py:work", "--param", "size=4").returncode == 1
    (project.folder / "broken").unlink()
    done = project.dagy("run", "--resume", project.last_run())
    assert done.returncode == 0, done.stderr
    assert "count-1 is taken from run" in done.stderr
    assert len(project.calls()) == 4


def test_replay_says_whether_a_failure_reproduces(project: Project) -> None:
    (project.folder / "broken").write_text("")
    project.dagy("run", "work.py:work", "--param", "size=4")
    run_id = project.last_run()
    again = project.dagy("replay", run_id, "--task", "finish-1")
    assert again.returncode == 1
    assert "finish-1 fails as it did then: ValueError: broken" in again.stderr
    assert "Traceback" in again.stderr
    (project.folder / "broken").unlink()
    fixed = project.dagy("replay", run_id, "--task", "finish-1")
    assert (fixed.returncode, fixed.stdout) == (0, "6\n")
    assert "finish-1 succeeds now, it failed then" in fixed.stderr
    unknown = project.dagy("replay", run_id, "--task", "nothing-1")
    assert unknown.returncode == 5
    assert "has no task run nothing-1; it has: count-1" in unknown.stderr


def test_replay_of_an_async_task_waits_for_its_result(project: Project) -> None:
    assert project.dagy("run", "work.py:spread").returncode == 0
    run_id = project.last_run()
    again = project.dagy("replay", run_id, "--task", "later-1[1]")
    assert (again.returncode, again.stdout) == (0, "2\n"), again.stderr
    assert again.stderr == "later-1[1] succeeds, as it did then\n"
    (project.folder / "broken").write_text("")
    failed = project.dagy("replay", run_id, "--task", "later-1[1]")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "later-1[1] fails now, it succeeded then: ValueError: broken" in failed.stderr


def test_replay_of_a_map_names_its_items(project: Project) -> None:
    project.dagy("run", "work.py:spread")
    refused = project.dagy("replay", project.last_run(), "--task", "later-1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "later-1 is a map; replay one of its items: later-1[0], later-1[1]" in refused.stderr
    project.dagy("run", "work.py:spread", "--param", "size=0")
    empty = project.dagy("replay", project.last_run(), "--task", "later-1")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "later-1 is a map that had no items, so there is nothing to replay" in empty.stderr


def test_run_needs_a_flow_or_a_run(project: Project) -> None:
    done = project.dagy("run")
    assert done.returncode == 2
    assert "or a run to resume with --resume <run_id>" in done.stderr
    unknown = project.dagy("run", "--resume", "nothing")
    assert (unknown.returncode, unknown.stderr) == (5, "Run not found: nothing\n")


def test_the_cache_is_explained_and_cleared(project: Project) -> None:
    project.dagy("run", "work.py:work")
    done = project.dagy("cache", "explain", project.last_run(), "--task", "count-1")
    assert done.returncode == 5
    assert "did not look into the cache" in done.stderr
    assert project.dagy("cache", "clear").stdout == "Cleared\n"


@pytest.mark.slow
def test_after_a_kill_a_resume_runs_no_succeeded_task_twice(project: Project, scale: float) -> None:
    rng = random.Random(7)
    for _ in range(max(3, int(50 * scale))):
        (project.folder / "calls.txt").unlink(missing_ok=True)
        process = subprocess.Popen(
            project.command("-q", "run", "work.py:work"),
            cwd=project.folder,
            env=project.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=rng.uniform(0.15, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listed = project.dagy("runs", "list").stdout
        if not listed:
            continue
        run_id = listed.split(" ")[0]
        succeeded = {
            each.task_run_id
            for each in recorded(project.folder / "home", run_id).task_runs
            if each.status.is_success and each.task_name == "count"
        }
        before = len(project.calls())
        done = project.dagy("run", "--resume", run_id)
        assert done.returncode == 0, done.stderr
        # Every count that had not been recorded as a success runs once more, and none of the others.
        assert len(project.calls()) - before == 30 - len(succeeded)
