"""Every example does what its page says, in this process, as a script and by the command in its docstring."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dagy import Flow, FlowSpec, RunStatus, TaskRunStatus, run_local
from dagy.local.errors import TaskFailedError
from dagy.local.home import Home
from dagy.local.records import RunRecord, TaskRunRecord
from dagy.local.store import LocalStore

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

#: File and flow function of every example but the tutorial, which has tests of its own.
FLOWS = {
    "flow_example.py": "example_flow",
    "graph-patterns/01_fan_out.py": "fan_out_flow",
    "graph-patterns/02_fan_in.py": "fan_in_flow",
    "graph-patterns/03_diamond.py": "diamond_flow",
    "concurrency/01_parallel_tasks.py": "parallel_tasks_flow",
    "concurrency/02_concurrency_limit.py": "concurrency_limit_flow",
    "error-handling/01_fixed_delay.py": "fixed_delay_flow",
    "error-handling/02_exponential_backoff.py": "exponential_backoff_flow",
    "error-handling/03_jitter.py": "jitter_flow",
    "error-handling/04_timeout.py": "timeout_flow",
    "error-handling/05_conditional_retry.py": "conditional_retry_flow",
    "error-handling/06_fail_fast.py": "fail_fast_flow",
    "hooks/01_task_hooks.py": "task_hooks_flow",
    "hooks/02_flow_hooks.py": "flow_hooks_flow",
    "hooks/03_audit_hooks.py": "audit_hooks_flow",
}

#: Commands in the docstrings that show a run which fails, and how they end.
SHOWS_A_FAILURE = ("--param delay=3", "--param order_id=Z-9", "fail_fast_flow", "--no-fail-fast")

GENEROUS_SECONDS = 60

#: Gives the module of an example, whose names no type checker knows.
Load = Callable[[str], Any]

_numbers = count(1)


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads an example under a module name of its own, so that its counters start anew."""
    loaded: list[str] = []

    def load_example(file: str) -> ModuleType:
        spec = spec_from_file_location(f"loaded_example_{next(_numbers)}", EXAMPLES / file)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load_example
    for name in loaded:
        del sys.modules[name]


@dataclass(frozen=True)
class Recorded:
    """A run as it is found on disk."""

    home: Home
    run: RunRecord

    def __getitem__(self, task_run_id: str) -> TaskRunRecord:
        return next(each for each in self.run.task_runs if each.task_run_id == task_run_id)

    @property
    def statuses(self) -> dict[str, TaskRunStatus]:
        return {each.task_run_id: each.status for each in self.run.task_runs}

    @property
    def task_seconds(self) -> dict[str, float]:
        """From the start of the first attempt to the end of the last."""
        return {
            each.task_run_id: (each.ended_ns - each.started_ns) / 1e9
            for each in self.run.task_runs
            if each.started_ns is not None and each.ended_ns is not None
        }

    @property
    def delays(self) -> list[float]:
        """What was waited before each retry, as the log of the run says."""
        log = (self.home.run_folder(self.run.run_id) / "run.log").read_text(encoding="utf-8")
        return [float(text) for text in re.findall(r"next in ([\d.]+)s", log)]

    def output(self, task_run_id: str) -> Any:
        path = self.home.artifact_folder(self.run.run_id) / task_run_id / "output.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def task_log(self, task_run_id: str) -> str:
        path = self.home.task_run_folder(self.run.run_id, task_run_id) / "task.log"
        return path.read_text(encoding="utf-8")


def recorded(folder: Path, run_id: str) -> Recorded:
    home = Home(folder)
    run = LocalStore(home, warn=print).run(run_id)
    assert run is not None
    return Recorded(home, run)


def succeed(flow: Flow[..., Any], folder: Path, *, max_workers: int = 1, **parameters: Any) -> Recorded:
    """Run a flow that is expected to succeed, and return what was recorded."""
    result = run_local(flow, parameters, home=folder, max_workers=max_workers)
    assert result.status is RunStatus.SUCCEEDED
    return recorded(folder, result.run_id)


def fail(
    flow: Flow[..., Any], folder: Path, *, max_workers: int = 1, **parameters: Any
) -> tuple[TaskFailedError, Recorded]:
    """Run a flow that is expected to raise, and return what it raised and what was recorded."""
    with pytest.raises(TaskFailedError) as caught:
        run_local(flow, parameters, home=folder, max_workers=max_workers)
    return caught.value, recorded(folder, caught.value.run_id)


class Gathering:
    """Takes the place of `sleep` in an example: whoever comes waits until `size` are there at the same time."""

    def __init__(self, size: int) -> None:
        self.most = 0
        self._size = size
        self._here = 0
        self._lock = threading.Lock()
        self._complete = threading.Event()

    def __call__(self, seconds: float) -> None:
        with self._lock:
            self._here += 1
            self.most = max(self.most, self._here)
            if self._here == self._size:
                self._complete.set()
        assert self._complete.wait(GENEROUS_SECONDS), f"{self._size} tasks never ran at the same time"
        with self._lock:
            self._here -= 1


def most_at_once(task_runs: list[TaskRunRecord]) -> int:
    """How many of the recorded task runs overlap. One that starts when another ends does not overlap with it."""
    edges = [(each.started_ns or 0, 1) for each in task_runs] + [(each.ended_ns or 0, -1) for each in task_runs]
    running = most = 0
    for _, change in sorted(edges):
        running += change
        most = max(most, running)
    return most


def dependencies(spec: FlowSpec) -> dict[str, tuple[str, ...]]:
    return {node.id: node.depends_on for node in spec.task_runs}


# The first flow


def test_example_flow_has_one_task_run_per_task(load: Load, tmp_path: Path) -> None:
    run = succeed(load("flow_example.py").example_flow, tmp_path)

    assert list(run.statuses) == ["extract-1", "transform-1", "load-1"]


def test_example_flow_sorts_and_counts(load: Load, tmp_path: Path) -> None:
    run = succeed(load("flow_example.py").example_flow, tmp_path)

    assert run.output("transform-1") == [10, 20, 30]
    assert run.output("load-1") == 3


def test_example_flow_returns_the_output_of_its_last_task(load: Load, tmp_path: Path) -> None:
    result = run_local(load("flow_example.py").example_flow, {}, home=tmp_path)

    assert result.output() == 3


# Graph patterns


def test_fan_out_gives_all_reducers_the_same_thirty_rows(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/01_fan_out.py").fan_out_flow, tmp_path, max_workers=3)

    amounts = [row["amount"] for row in run.output("load_dataset-1")]
    assert len(amounts) == 30
    assert run.output("compute_mean-1") == {"rows": 30, "mean": pytest.approx(sum(amounts) / 30)}
    assert run.output("compute_max-1") == {"rows": 30, "max": max(amounts)}
    assert run.output("compute_min-1") == {"rows": 30, "min": min(amounts)}


def test_fan_out_runs_its_reducers_at_the_same_time(load: Load, tmp_path: Path) -> None:
    example = load("graph-patterns/01_fan_out.py")
    example.sleep = gathering = Gathering(3)

    succeed(example.fan_out_flow, tmp_path, max_workers=3)

    assert gathering.most == 3


def test_fan_out_starts_no_reducer_before_the_loader_has_ended(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/01_fan_out.py").fan_out_flow, tmp_path, max_workers=3)

    loaded_ns = run["load_dataset-1"].ended_ns or 0
    reducers = [each for each in run.run.task_runs if each.task_name != "load_dataset"]
    assert len(reducers) == 3
    assert all((each.started_ns or 0) >= loaded_ns for each in reducers)


def test_fan_out_loads_the_dataset_of_its_parameter(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = succeed(load("graph-patterns/01_fan_out.py").fan_out_flow, tmp_path)

    assert run.run.parameters == {"dataset_name": "sales_q1"}
    assert capsys.readouterr().out == "sales_q1: 30 rows\n"


def test_fan_out_returns_nothing(load: Load, tmp_path: Path) -> None:
    result = run_local(load("graph-patterns/01_fan_out.py").fan_out_flow, {}, home=tmp_path)

    assert result.output() is None


def test_fan_in_merges_three_outputs_in_the_order_of_the_list(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/02_fan_in.py").fan_in_flow, tmp_path, max_workers=3)

    merged = run.output("merge_report-1")
    assert list(merged.items()) == [("users", 120), ("orders", 450), ("products", 35)]


def test_fan_in_waits_for_every_fetch(load: Load) -> None:
    spec = load("graph-patterns/02_fan_in.py").fan_in_flow.build()

    assert dependencies(spec) == {
        "fetch_users-1": (),
        "fetch_orders-1": (),
        "fetch_products-1": (),
        "merge_report-1": ("fetch_users-1", "fetch_orders-1", "fetch_products-1"),
    }


def test_diamond_splits_and_comes_together(load: Load) -> None:
    spec = load("graph-patterns/03_diamond.py").diamond_flow.build()

    assert dependencies(spec) == {
        "ingest-1": (),
        "clean-1": ("ingest-1",),
        "enrich-1": ("ingest-1",),
        "combine-1": ("clean-1", "enrich-1"),
    }


def test_diamond_drops_one_record_and_scores_two(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/03_diamond.py").diamond_flow, tmp_path, max_workers=2)

    assert run.output("combine-1") == {
        "records": [
            {"id": 1, "source": "raw_feed", "value": 10, "score": 15.0},
            {"id": 3, "source": "raw_feed", "value": 30, "score": 45.0},
        ],
        "dropped": 1,
        "enriched": 2,
    }


def test_diamond_keeps_none_between_tasks(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/03_diamond.py").diamond_flow, tmp_path)

    assert [record["value"] for record in run.output("ingest-1")] == [10, None, 30]
    assert run.output("clean-1")["dropped"] == 1


def test_diamond_reads_the_source_of_its_parameter(load: Load, tmp_path: Path) -> None:
    run = succeed(load("graph-patterns/03_diamond.py").diamond_flow, tmp_path, source="other_feed")

    assert {record["source"] for record in run.output("combine-1")["records"]} == {"other_feed"}


# Concurrency


def test_parallel_tasks_run_as_many_at_once_as_there_are_workers(load: Load, tmp_path: Path) -> None:
    example = load("concurrency/01_parallel_tasks.py")
    example.sleep = gathering = Gathering(4)

    run = succeed(example.parallel_tasks_flow, tmp_path, max_workers=4)

    assert gathering.most == 4
    assert most_at_once(run.run.task_runs) == 4


def test_parallel_tasks_run_one_after_the_other_with_one_worker(load: Load, tmp_path: Path) -> None:
    run = succeed(load("concurrency/01_parallel_tasks.py").parallel_tasks_flow, tmp_path, max_workers=1)

    assert most_at_once(run.run.task_runs) == 1


def test_parallel_tasks_aggregate_five_calls_of_one_task(load: Load, tmp_path: Path) -> None:
    run = succeed(load("concurrency/01_parallel_tasks.py").parallel_tasks_flow, tmp_path, max_workers=4)

    assert Counter(each.task_name for each in run.run.task_runs) == {"resize_images": 5, "aggregate": 1}
    assert run.output("resize_images-1") == {"folder": "cats", "images": 40}
    assert run.output("aggregate-1") == {"folders": 5, "images": 95}


def test_concurrency_limit_is_never_exceeded(load: Load, tmp_path: Path) -> None:
    run = succeed(load("concurrency/02_concurrency_limit.py").concurrency_limit_flow, tmp_path, max_workers=6)

    calls = [each for each in run.run.task_runs if each.task_name == "call_api"]
    assert len(calls) == 6
    assert most_at_once(calls) <= 2
    assert run.output("collect-1")["most_at_once"] <= 2


def test_concurrency_limit_is_used_to_the_full(load: Load, tmp_path: Path) -> None:
    example = load("concurrency/02_concurrency_limit.py")
    example.sleep = gathering = Gathering(2)

    run = succeed(example.concurrency_limit_flow, tmp_path, max_workers=6)

    assert gathering.most == 2
    assert run.output("collect-1") == {"answers": 6, "most_at_once": 2}


def test_concurrency_limit_collects_every_call_in_order(load: Load, tmp_path: Path) -> None:
    run = succeed(load("concurrency/02_concurrency_limit.py").concurrency_limit_flow, tmp_path, max_workers=6)

    assert [run.output(f"call_api-{number}")["page"] for number in range(1, 7)] == [0, 1, 2, 3, 4, 5]
    assert run.output("collect-1")["answers"] == 6


# Error handling


def test_fixed_delay_succeeds_at_the_second_attempt(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/01_fixed_delay.py").fixed_delay_flow, tmp_path)

    assert run["read_sensor-1"].attempt == 2
    assert run.output("report-1") == "21.5 °C"


def test_fixed_delay_waits_as_long_as_it_says(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/01_fixed_delay.py").fixed_delay_flow, tmp_path)

    assert run.delays == [0.05]
    assert run.task_seconds["read_sensor-1"] >= 0.05


def test_fixed_delay_is_the_same_before_each_retry(load: Load) -> None:
    spec = load("error-handling/01_fixed_delay.py").fixed_delay_flow.build()

    assert spec.tasks["read_sensor"].retry_delays_seconds == (0.05, 0.05, 0.05)


def test_exponential_backoff_succeeds_at_the_third_attempt(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/02_exponential_backoff.py").exponential_backoff_flow, tmp_path)

    assert run["call_service-1"].attempt == 3
    assert run.output("call_service-1") == {"answer": 42, "calls": 3}
    assert run.output("store_answer-1") == "stored 42 after 3 calls"


def test_exponential_backoff_waits_longer_before_each_retry(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/02_exponential_backoff.py").exponential_backoff_flow, tmp_path)

    assert run.delays == [0.01, 0.05]
    assert run.task_seconds["call_service-1"] >= 0.01 + 0.05


def test_exponential_backoff_logs_why_it_tries_again(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/02_exponential_backoff.py").exponential_backoff_flow, tmp_path)

    log = run.task_log("call_service-1")
    assert "ConnectionError: the service refused call 1" in log
    assert "ConnectionError: the service refused call 2" in log


def test_jitter_succeeds_at_the_third_attempt(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/03_jitter.py").jitter_flow, tmp_path)

    assert run["fetch_prices-1"].attempt == 3
    assert run.output("average-1") == 1.5


def test_jitter_only_lengthens_the_delay(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/03_jitter.py").jitter_flow, tmp_path)

    assert len(run.delays) == 2
    assert all(0.02 <= delay <= 0.03 for delay in run.delays)
    assert run.task_seconds["fetch_prices-1"] >= 2 * 0.02


def test_jitter_has_a_fourth_retry_in_reserve(load: Load) -> None:
    task = load("error-handling/03_jitter.py").jitter_flow.build().tasks["fetch_prices"]

    assert task.retry_delays_seconds == (0.02, 0.02, 0.02, 0.02)
    assert task.retry_jitter_factor == 0.5


def test_timeout_lets_a_call_in_time_succeed(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/04_timeout.py").timeout_flow, tmp_path, delay=0.1)

    assert run.run.parameters == {"delay": 0.1}
    assert run.output("slow_query-1") == "answered within 0.1 s"
    assert run.task_seconds["slow_query-1"] >= 0.1


def test_timeout_fails_a_call_that_takes_longer(load: Load, tmp_path: Path) -> None:
    example = load("error-handling/04_timeout.py")
    over = threading.Event()
    example.sleep = lambda seconds: over.wait(GENEROUS_SECONDS)
    try:
        error, run = fail(example.timeout_flow, tmp_path, delay=3)
    finally:
        over.set()

    assert str(error) == "Task slow_query failed: Task exceeded timeout of 2s"
    assert run.statuses == {"slow_query-1": TaskRunStatus.TIMED_OUT, "show-1": TaskRunStatus.SKIPPED}
    assert run.task_seconds["slow_query-1"] >= 2


def test_conditional_retry_tries_again_after_a_lost_connection(load: Load, tmp_path: Path) -> None:
    run = succeed(load("error-handling/05_conditional_retry.py").conditional_retry_flow, tmp_path)

    assert run["find_order-1"].attempt == 2
    assert run.output("charge-1") == "charged 99.50"


def test_conditional_retry_gives_up_at_once_where_it_can_not_help(load: Load, tmp_path: Path) -> None:
    example = load("error-handling/05_conditional_retry.py")

    error, run = fail(example.conditional_retry_flow, tmp_path, order_id="Z-9")

    assert "there is no order Z-9" in str(error)
    assert example.calls == 1
    assert run["find_order-1"].attempt == 1
    assert run.statuses == {"find_order-1": TaskRunStatus.FAILED, "charge-1": TaskRunStatus.SKIPPED}


def test_fail_fast_raises_the_error_of_the_task(load: Load, tmp_path: Path) -> None:
    error, run = fail(load("error-handling/06_fail_fast.py").fail_fast_flow, tmp_path, max_workers=1)

    assert error.task_name == "task_b"
    assert str(error).startswith("Task task_b failed: ")
    assert str(error).endswith("B is broken")
    assert run.run.status is RunStatus.FAILED
    assert run.run.error_message == str(error)


def test_fail_fast_cancels_what_has_not_started(load: Load, tmp_path: Path) -> None:
    _, run = fail(load("error-handling/06_fail_fast.py").fail_fast_flow, tmp_path, max_workers=1)

    assert run.statuses == {
        "task_a-1": TaskRunStatus.SUCCEEDED,
        "task_b-1": TaskRunStatus.FAILED,
        "task_c-1": TaskRunStatus.CANCELLED,
    }
    assert run["task_c-1"].attempt == 0
    assert run["task_c-1"].started_ns is None


def test_without_fail_fast_the_other_tasks_still_run(load: Load, tmp_path: Path) -> None:
    example = load("error-handling/06_fail_fast.py")
    result = run_local(example.fail_fast_flow, {}, home=tmp_path, max_workers=1, fail_fast=False)

    assert result.status is RunStatus.FAILED
    assert recorded(tmp_path, result.run_id).statuses == {
        "task_a-1": TaskRunStatus.SUCCEEDED,
        "task_b-1": TaskRunStatus.FAILED,
        "task_c-1": TaskRunStatus.SUCCEEDED,
    }


# Hooks


def test_task_hooks_are_told_of_start_retry_and_success(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = succeed(load("hooks/01_task_hooks.py").task_hooks_flow, tmp_path)

    start, retry, success = capsys.readouterr().out.splitlines()
    assert start == "import_file: RUNNING, attempt 1, {'path': 'incoming/orders.csv'}"
    assert retry.startswith("import_file: RETRYING, attempt 2, because of ")
    assert retry.endswith("incoming/orders.csv is locked")
    assert success == "import_file: COMPLETED at attempt 2"
    assert run["import_file-1"].attempt == 2


def test_task_hooks_are_told_of_a_failure_once_no_attempt_is_left(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("hooks/01_task_hooks.py")
    example.ATTEMPTS_THAT_FAIL = 3

    fail(example.task_hooks_flow, tmp_path)

    events = [line.split(":")[1].split()[0].rstrip(",") for line in capsys.readouterr().out.splitlines()]
    assert events == ["RUNNING", "RETRYING", "RETRYING", "FAILED"]


def test_task_hooks_print_to_the_log_of_the_task(load: Load, tmp_path: Path) -> None:
    result = run_local(load("hooks/01_task_hooks.py").task_hooks_flow, {}, home=tmp_path, print_capture=True)

    log = recorded(tmp_path, result.run_id).task_log("import_file-1")
    assert "import_file: RUNNING, attempt 1" in log
    assert "import_file: RETRYING, attempt 2" in log
    assert "import_file: COMPLETED at attempt 2" in log


def test_flow_hooks_fire_once_at_the_start_and_once_at_the_end(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = succeed(load("hooks/02_flow_hooks.py").flow_hooks_flow, tmp_path)

    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"flow_hooks_flow RUNNING: run {run.run.run_id} with {{'region': 'eu-west', 'limit': 5}}",
        "reading up to 5 orders of eu-west",
        f"flow_hooks_flow COMPLETED: run {run.run.run_id}",
    ]


def test_flow_hooks_are_told_of_a_failure_once(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error, run = fail(load("hooks/02_flow_hooks.py").flow_hooks_flow, tmp_path, limit=0)

    of_the_flow = [line for line in capsys.readouterr().out.splitlines() if line.startswith("flow_hooks_flow")]
    assert of_the_flow[1:] == [f"flow_hooks_flow FAILED: run {run.run.run_id}: {error}"]


def test_audit_hooks_note_what_each_of_three_tasks_does(load: Load, tmp_path: Path) -> None:
    example = load("hooks/03_audit_hooks.py")

    succeed(example.audit_hooks_flow, tmp_path)

    assert example.trail == [
        "RUNNING    collect    attempt 1 by billing",
        "COMPLETED  collect    attempt 1 by billing",
        "RUNNING    total      attempt 1 by billing",
        "COMPLETED  total      attempt 1 by billing",
        "RUNNING    send_bill  attempt 1 by billing",
        "COMPLETED  send_bill  attempt 1 by billing",
    ]


# The files as their readers use them


def test_every_example_is_tested_here() -> None:
    files = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}

    assert {file for file in files if not file.startswith("nyc_flights")} == set(FLOWS)


@pytest.mark.parametrize(("file", "flow_name"), FLOWS.items())
def test_the_flow_is_named_after_the_example(load: Load, file: str, flow_name: str) -> None:
    flow = getattr(load(file), flow_name)

    assert isinstance(flow, Flow)
    assert flow.name == flow_name


@pytest.mark.parametrize(("file", "flow_name"), FLOWS.items())
def test_the_docstring_says_how_to_run_the_file(load: Load, file: str, flow_name: str) -> None:
    lines = [line.strip() for line in (load(file).__doc__ or "").splitlines()]

    assert f"python examples/{file}" in lines
    assert any(line.startswith(f"dagy run examples/{file}:{flow_name}") for line in lines)


@pytest.mark.parametrize("file", FLOWS)
def test_the_readme_lists_the_file(file: str) -> None:
    assert f"]({file})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_the_readme_links_only_to_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))

    assert [link for link in links if not link.startswith("https:") and not (EXAMPLES / link).exists()] == []


def clean_environment(local_dir: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGY_")}
    return {**environment, "DAGY_LOCAL_DIR": str(local_dir)}


def run_process(command: list[str], local_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=clean_environment(local_dir),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=GENEROUS_SECONDS,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("file", "flow_name"), FLOWS.items())
def test_the_file_is_a_script_that_prints_run_id_and_status(tmp_path: Path, file: str, flow_name: str) -> None:
    done = run_process([f"examples/{file}"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run_id = re.search(rf"^Run ID : ({flow_name}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{6}})$", done.stdout, re.MULTILINE)
    assert run_id is not None, done.stdout
    status = "FAILED" if flow_name == "fail_fast_flow" else "SUCCEEDED"
    assert f"\nStatus : {status}\n" in done.stdout
    assert recorded(tmp_path, run_id[1]).run.status == status


def documented_commands() -> list[str]:
    """The `dagy run` lines of every docstring."""
    texts = [(EXAMPLES / file).read_text(encoding="utf-8") for file in FLOWS]
    return [line.strip() for text in texts for line in text.splitlines() if line.startswith("    dagy run examples/")]


@pytest.mark.slow
@pytest.mark.parametrize("command", documented_commands())
def test_the_command_of_the_docstring_works(tmp_path: Path, command: str) -> None:
    done = run_process(["-m", *shlex.split(command)], tmp_path)

    fails = any(mark in command for mark in SHOWS_A_FAILURE)
    assert done.returncode == (1 if fails else 0), done.stderr
    assert len(LocalStore(Home(tmp_path), warn=print).runs()) == 1
