"""The record of past runs: it loses nothing, never waits long, and never shows a run as running that is not."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagy import flow, task
from dagy.cli.main import main
from dagy.errors import LocalStoreError, TaskFailedError
from dagy.events import RunEnded, TaskEnded, TaskStarted
from dagy.local.database import duckdb_module
from dagy.local.home import Home
from dagy.local.journal import Journal, change_line, read_run, run_ended_line, run_started_line
from dagy.local.records import RunRecord
from dagy.local.runner import run_local
from dagy.local.store import LocalStore
from dagy.spec import TaskRunSpec
from dagy.status import RunStatus, TaskRunStatus


@task
def one(number: int) -> int:
    return number


@flow
def small(count: int = 3) -> Any:
    return [one(number) for number in range(count)]


FLOW_FILE = """
import time
from dagy import flow, task

@task
def short(number: int) -> int:
    print("short", number)
    time.sleep(0.002)
    return number

@task
def last(numbers: list) -> int:
    return len(numbers)

@flow(name="work")
def work(count: int = 40):
    return last([short(number) for number in range(count)])
"""


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(FLOW_FILE)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def dagy(home: Home, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "dagy", *arguments]


def environ(home: Home) -> dict[str, str]:
    return {**os.environ, "DAGY_LOCAL_DIR": str(home.path), "DAGY_API_URL": ""}


def listed(home: Home) -> list[RunRecord]:
    return LocalStore(home, warn=pytest.fail).runs()


def shown(home: Home, run_id: str) -> RunRecord:
    record = LocalStore(home, warn=pytest.fail).run(run_id)
    assert record is not None
    return record


def test_runs_are_listed_newest_first(home: Home) -> None:
    ids = [run_local(small, {}, home=home.path).run_id for _ in range(3)]
    assert [record.run_id for record in listed(home)] == ids[::-1]


def test_an_unknown_run_is_none(home: Home) -> None:
    assert LocalStore(home, warn=pytest.fail).run("nothing") is None
    assert LocalStore(home, warn=pytest.fail).run("../runs") is None


def test_both_drivers_of_duckdb_read_the_store(home: Home) -> None:
    run_id = run_local(small, {}, home=home.path).run_id
    import duckdb

    with duckdb.connect(str(home.database)) as connection:
        assert connection.execute("SELECT run_id, status FROM runs").fetchall() == [(run_id, "SUCCEEDED")]
        assert connection.execute("SELECT count(*) FROM task_runs").fetchall() == [(3,)]
    assert duckdb_module().connect


def test_only_the_newest_runs_are_kept_with_their_artifacts(home: Home) -> None:
    home = Home(home.path, keep_runs=2)
    ids = [run_local(small, {}, home=home).run_id for _ in range(5)]
    assert [record.run_id for record in listed(home)] == ids[:2:-1]
    assert sorted(each.name for each in home.runs.iterdir()) == sorted(ids[3:])
    assert sorted(each.name for each in home.artifacts.iterdir()) == sorted(ids[3:])


def test_retention_never_touches_a_running_run(home: Home, flow_file: Path) -> None:
    home = Home(home.path, keep_runs=1)

    @task
    def others() -> list:
        ids = [run_local(small, {}, home=home).run_id for _ in range(3)]
        return [record.run_id for record in listed(home) if record.status == "RUNNING"] + ids

    @flow
    def outer() -> Any:
        return others()

    result = run_local(outer, {}, home=home)
    running, *_ = result.output()
    assert running == result.run_id
    assert [record.run_id for record in listed(home)] == [result.run_id]


def test_a_killed_run_is_shown_as_failed_with_the_reason(home: Home, flow_file: Path) -> None:
    process = subprocess.Popen(
        dagy(home, "run", f"{flow_file}:work", "--param", "count=5000"),
        env=environ(home),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "short-20 SUCCEEDED" in line or "short-20 |" in line:
            break
    (live,) = listed(home)
    assert live.status == "RUNNING"
    process.kill()
    process.wait()
    process.stderr.close()
    (dead,) = listed(home)
    assert dead.status == "FAILED"
    assert dead.error_message == f"The process that executed it (pid {process.pid}) ended without finishing it"
    record = shown(home, dead.run_id)
    assert len(record.task_runs) == 5001
    assert {str(each.status) for each in record.task_runs} <= {"SUCCEEDED", "FAILED", "CANCELLED"}
    assert sum(each.status == "SUCCEEDED" for each in record.task_runs) >= 19
    for each in record.task_runs[:30]:
        folder = home.task_run_folder(dead.run_id, each.task_run_id)
        assert json.loads((folder / "metadata.json").read_text())["status"] == each.status
        if each.status == "SUCCEEDED":
            assert each.output is not None
            assert (home.path / each.output["key"]).exists()


@pytest.mark.slow
def test_kills_at_random_moments_leave_a_sound_store(home: Home, flow_file: Path, scale: float) -> None:
    rng = random.Random(20261122)
    for _ in range(max(5, int(200 * scale))):
        process = subprocess.Popen(
            dagy(home, "-q", "run", f"{flow_file}:work", "--param", "count=60"),
            env=environ(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=rng.uniform(0.05, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        records = listed(home)
        assert all(record.status in ("SUCCEEDED", "FAILED") for record in records)
        for record in records[:1]:
            full = shown(home, record.run_id)
            assert len(full.task_runs) == 61
            assert all(each.status.is_terminal for each in full.task_runs)
            if record.status == "SUCCEEDED":
                assert all(each.status == "SUCCEEDED" for each in full.task_runs)
    assert not list(home.runs.glob("*/journal.jsonl"))


@pytest.mark.slow
def test_eight_runs_at_once_beside_a_listing_loop_are_all_recorded(home: Home, flow_file: Path) -> None:
    started = [
        subprocess.Popen(
            dagy(home, "run", f"{flow_file}:work"),
            env=environ(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    while any(process.poll() is None for process in started):
        listing = subprocess.run(
            dagy(home, "runs", "list"), env=environ(home), capture_output=True, text=True, check=True
        )
        assert listing.stderr == ""
    for process in started:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "status=SUCCEEDED" in out
        assert "Error" not in err
    assert [str(record.status) for record in listed(home)] == ["SUCCEEDED"] * 8


@pytest.fixture
def held_lock(home: Home) -> Iterator[None]:
    """Somebody else has the database open."""
    home.path.mkdir(parents=True)
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


@pytest.mark.usefixtures("held_lock")
def test_a_busy_database_delays_nothing_and_loses_nothing(home: Home) -> None:
    run_id = run_local(small, {}, home=home.path).run_id
    assert (home.run_folder(run_id) / "journal.jsonl").exists()
    assert [(record.run_id, str(record.status)) for record in listed(home)] == [(run_id, "SUCCEEDED")]
    assert len(shown(home, run_id).task_runs) == 3


def test_a_run_that_was_left_in_its_journal_is_carried_over_later(home: Home) -> None:
    home.path.mkdir(parents=True)
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    run_id = run_local(small, {}, home=home.path).run_id
    os.close(descriptor)
    assert [record.run_id for record in listed(home)] == [run_id]
    assert not (home.run_folder(run_id) / "journal.jsonl").exists()
    assert (home.run_folder(run_id) / "run.log").read_text().count("SUCCEEDED\n") == 1


def test_a_database_that_another_program_has_open_delays_nothing(home: Home) -> None:
    first = run_local(small, {}, home=home.path).run_id
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(home.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    second = run_local(small, {}, home=home.path).run_id
    assert {record.run_id for record in listed(home)} == {first, second}
    holder.communicate()
    assert {record.run_id for record in listed(home)} == {first, second}


@pytest.mark.parametrize("content", [b"not a database", b"\x00" * 100_000, b""])
def test_a_broken_database_is_kept_and_made_again_from_the_files(home: Home, content: bytes) -> None:
    ids = [run_local(small, {}, home=home.path).run_id for _ in range(2)]
    before = shown(home, ids[0])
    home.database.write_bytes(content)
    told: list[str] = []
    store = LocalStore(home, warn=told.append)
    assert [record.run_id for record in store.runs()] == ids[::-1]
    assert shown(home, ids[0]) == before
    if content:
        (backup,) = home.path.glob("dagy.duckdb.bak-*")
        assert backup.read_bytes() == content
        assert len(told) == 1
        assert str(home.database) in told[0]
        assert backup.name in told[0]


def test_a_journal_cut_in_the_middle_of_a_line_is_read_up_to_there(home: Home, flow_file: Path) -> None:
    process = subprocess.Popen(
        dagy(home, "run", f"{flow_file}:work", "--param", "count=5000"),
        env=environ(home),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "short-5" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    (journal,) = home.runs.glob("*/journal.jsonl")
    with open(journal, "ab") as file:
        file.write(b'{"event": "task_ended", "i": 3, "id')
    (record,) = listed(home)
    assert record.status == "FAILED"
    assert all(each.status.is_terminal for each in shown(home, record.run_id).task_runs)


def test_a_forked_child_does_not_keep_a_dead_run_alive(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "forks.py"
    path.write_text(
        "import os, time\n"
        "from dagy import flow, task\n"
        "@task\n"
        "def forks() -> None:\n"
        "    if not os.fork():\n"
        "        os.write(2, b'forked\\n')\n"
        "        time.sleep(20)\n"
        "        os._exit(0)\n"
        "    time.sleep(20)\n"
        "@flow\n"
        "def forking() -> None:\n"
        "    forks()\n"
    )
    process = subprocess.Popen(
        dagy(home, "run", f"{path}:forking"),
        env=environ(home),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "forked" in line:
            break
    try:
        process.kill()
        process.wait()
        (record,) = listed(home)
        assert record.status == "FAILED"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()


def test_a_full_disk_ends_the_run_with_one_sentence(home: Home, flow_file: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from dagy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "-q", "run", f"{flow_file}:work", "--param", "count=150"],
        env=environ(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"The local directory {home.path} can not be used (File too large" in done.stderr
    (record,) = listed(home)
    assert record.status == "FAILED"


def test_times_survive_the_store_to_the_microsecond(home: Home) -> None:
    run_id = run_local(small, {}, home=home.path).run_id
    stored = shown(home, run_id)
    document = json.loads((home.run_folder(run_id) / "metadata.json").read_text())
    assert document["started_at"] == stored.to_dict()["started_at"]
    assert stored.started_ns is not None
    assert abs(stored.started_ns / 1e9 - time.time()) < 600


def test_a_listing_while_a_thread_runs_flows_never_fails(home: Home) -> None:
    over = threading.Event()

    def list_all() -> None:
        while not over.is_set():
            listed(home)

    thread = threading.Thread(target=list_all)
    thread.start()
    try:
        for _ in range(5):
            assert run_local(small, {}, home=home.path).status == "SUCCEEDED"
    finally:
        over.set()
        thread.join()
    assert len(listed(home)) == 5


# What a kill, a full disk or odd text leaves behind


def left_by_a_kill(home: Home, tail: str, *, ended: int = 3, pid: int = 1) -> str:
    """Put a run of three task runs there whose process was killed while it wrote `tail`; return its id."""
    run_id = f"killed-{random.getrandbits(24):06x}"
    folder = home.run_folder(run_id)
    folder.mkdir(parents=True)
    nodes = [{"id": f"one-{number + 1}", "task": "one"} for number in range(3)]
    (folder / "flow_spec.json").write_text(json.dumps({"task_runs": nodes}))
    record = RunRecord(run_id, "small", "1", pid=pid, created_ns=1_000_000_000)
    journal = Journal.create(folder, record)
    journal.append(run_started_line(2_000_000_000))
    for number in range(ended):
        at = 3_000_000_000 + number * 1_000_000
        journal.append(change_line(TaskStarted(number, TaskRunSpec(f"one-{number + 1}", "one"), 1, at)))
        journal.append(change_line(succeeded(number, at + 1000)))
    journal.append(tail)
    journal.close()
    return run_id


def succeeded(number: int, at_ns: int) -> TaskEnded:
    return TaskEnded(
        index=number,
        node=TaskRunSpec(f"one-{number + 1}", "one"),
        status=TaskRunStatus.SUCCEEDED,
        attempt=1,
        started_ns=at_ns - 1000,
        at_ns=at_ns,
    )


def test_what_follows_a_part_of_a_line_is_not_lost_with_it(home: Home) -> None:
    run_id = left_by_a_kill(home, '{"event": "task_ended", "i": 1, "id"', ended=1)
    record = shown(home, run_id)
    assert record.status == "FAILED"
    assert [str(each.status) for each in record.task_runs] == ["SUCCEEDED", "CANCELLED", "CANCELLED"]


def test_a_part_of_the_end_of_a_run_does_not_leave_it_running_for_ever(home: Home) -> None:
    run_id = left_by_a_kill(home, '{"event": "run_en')
    assert [(each.run_id, str(each.status)) for each in listed(home)] == [(run_id, "FAILED")]
    assert shown(home, run_id).status == "FAILED"


def test_a_journal_of_nothing_but_a_part_of_a_line_is_taken_away(home: Home) -> None:
    folder = home.run_folder("early")
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text('{"event": "run_crea')
    assert listed(home) == []
    assert not folder.exists()


def test_a_run_that_has_not_ended_is_not_carried_over(home: Home) -> None:
    folder = home.run_folder("under-way")
    folder.mkdir(parents=True)
    journal = Journal.create(folder, RunRecord("under-way", "small", "1", pid=os.getpid(), created_ns=1_000_000_000))
    journal.append(run_started_line(2_000_000_000))
    assert not LocalStore(home, warn=pytest.fail).carry_over(journal)
    assert journal.path.exists()
    journal.close()


def test_an_append_that_fails_leaves_whole_lines(home: Home) -> None:
    folder = home.run_folder("full")
    folder.mkdir(parents=True)
    journal = Journal.create(folder, RunRecord("full", "small", "1", pid=os.getpid(), created_ns=1_000_000_000))
    before = journal.path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(run_started_line(2_000_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.stat().st_size == before
    journal.append(run_started_line(2_000_000_000))
    journal.close()
    assert read_run(folder).status == "RUNNING"  # type: ignore[union-attr]


def test_text_that_is_not_unicode_does_not_poison_the_store(home: Home) -> None:
    @task
    def breaks(text: str) -> None:
        raise ValueError(f"bad {text} \0 \U0001f600")

    @flow
    def odd(text: str = "\udcff") -> Any:
        return breaks(text)

    with pytest.raises(TaskFailedError):
        run_local(odd, {}, home=home.path)
    (record,) = listed(home)
    (task_run,) = shown(home, record.run_id).task_runs
    assert task_run.error_message == "ValueError: bad \\udcff \0 \U0001f600"
    assert shown(home, record.run_id).parameters == {"text": "\\udcff"}
    assert not list(home.runs.glob("*/journal.jsonl"))
    assert LocalStore(home, warn=pytest.fail).run("\udcff") is None


def test_one_bad_journal_does_not_stop_the_others(home: Home) -> None:
    good = [left_by_a_kill(home, "") for _ in range(2)]
    bad = home.run_folder(left_by_a_kill(home, '{"event": "run_ended", "at": 5}\n'))
    told: list[str] = []
    assert {record.run_id for record in LocalStore(home, warn=told.append).runs()} >= set(good)
    assert [path.parent for path in home.runs.glob("*/journal.jsonl")] == [bad]
    assert len(told) == 1
    assert str(bad) in told[0]


def test_a_value_that_the_database_refuses_is_told_with_the_file(home: Home) -> None:
    good = left_by_a_kill(home, "")
    bad = left_by_a_kill(home, "", pid=2**40)  # the column takes 32 bits
    told: list[str] = []
    assert good in {record.run_id for record in LocalStore(home, warn=told.append).runs()}
    assert any(bad in sentence for sentence in told)
    journal = Journal.of_dead_owner(home.run_folder(bad))
    assert journal is not None
    with pytest.raises(LocalStoreError, match=r"dagy\.duckdb"):
        LocalStore(home, warn=pytest.fail).carry_over(journal)
    journal.close()


@pytest.mark.parametrize("content", ["", '{"position": 0, "task'])
def test_a_part_of_the_metadata_counts_as_missing(home: Home, content: str) -> None:
    run_id = left_by_a_kill(home, run_ended_line(RunEnded(RunStatus.SUCCEEDED, 9_000_000_000, None)))
    folder = home.task_run_folder(run_id, "one-1")
    folder.mkdir(parents=True)
    for path in (folder / "metadata.json", home.run_folder(run_id) / "metadata.json"):
        path.write_text(content)
    listed(home)
    assert json.loads((folder / "metadata.json").read_text())["status"] == "SUCCEEDED"
    assert json.loads((home.run_folder(run_id) / "metadata.json").read_text())["status"] == "SUCCEEDED"


def test_a_local_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    store = LocalStore(Home(path), warn=pytest.fail)
    for use in (store.runs, lambda: store.run("x"), lambda: store.discard(store_folder(path))):
        with pytest.raises(LocalStoreError, match="can not be used"):
            use()


def store_folder(path: Path) -> Path:
    return Home(path).cache


@pytest.mark.parametrize("command", [["runs", "list"], ["runs", "show", "x"], ["cache", "clear"], ["logs", "x"]])
def test_commands_on_a_local_directory_that_is_a_file_end_with_a_sentence(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    monkeypatch.setenv("DAGY_LOCAL_DIR", str(path))
    assert main(command) == 1
    assert f"The local directory {path} can not be used" in capsys.readouterr().err


def test_a_database_of_another_release_is_kept_and_made_again(home: Home) -> None:
    run_id = run_local(small, {}, home=home.path).run_id
    import duckdb

    with duckdb.connect(str(home.database)) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN parent")
    told: list[str] = []
    assert [record.run_id for record in LocalStore(home, warn=told.append).runs()] == [run_id]
    assert "it has the tables of another release" in told[0]
    assert list(home.path.glob("dagy.duckdb.bak-*"))
