"""What the local engine costs: whole runs with everything recorded, beside a bare loop that writes the same files.

    python benchmarks/local_engine.py [--repetitions 5] [--scale 1.0]

Every repetition works in a fresh folder, what is compared is interleaved, and nothing is deleted in between.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dagy import flow, run_local, task


@task
def source() -> int:
    return 1


@task
def noop(x: int) -> int:
    return x


@task
def sink(xs: list[int]) -> int:
    return len(xs)


@task
def doze(seconds: float) -> None:
    time.sleep(seconds)


@flow
def wide(count: int) -> object:
    first = source()
    return sink([noop(first) for _ in range(count)])


@flow
def chain(count: int) -> object:
    last = source()
    for _ in range(count - 1):
        last = noop(last)
    return last


@flow
def sleeps(count: int, seconds: float) -> None:
    for _ in range(count):
        doze(seconds)


def bare_loop(folder: Path, count: int) -> None:
    """Write the folders and files that a run of `count` task runs leaves, of the same sizes, and nothing else."""
    journal = os.open(folder / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    runs, artifacts = f"{folder}/task_runs", f"{folder}/artifacts"
    os.mkdir(runs)
    os.mkdir(artifacts)
    line = (json.dumps({"event": "task_ended", "text": "x" * 380}) + "\n").encode()
    metadata = json.dumps({"task_run": "x" * 480}).encode()
    log = b"2026-01-01T00:00:00.000000Z INFO    attempt 1 started\n" * 2
    for number in range(count):
        os.write(journal, line)
        os.mkdir(f"{runs}/noop-{number}")
        _write(f"{runs}/noop-{number}/task.log", log)
        _write(f"{runs}/noop-{number}/metadata.json", metadata)
        os.mkdir(f"{artifacts}/noop-{number}")
        _write(f"{artifacts}/noop-{number}/output.json", b"1")
    os.close(journal)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measured(repetitions: int, works: dict[str, Callable[[Path], object]]) -> dict[str, list[float]]:
    """Return the seconds of each work, interleaved, each time in a fresh folder."""
    base = Path(tempfile.mkdtemp(prefix="dagy-bench-"))
    times: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions):
        for name, work in works.items():
            folder = base / f"{name}-{repetition}"
            folder.mkdir()
            times[name].append(seconds(lambda work=work, folder=folder: work(folder)))  # type: ignore[misc]
    return times


def say(name: str, values: list[float], unit: str) -> None:
    print(f"{name:<44} {statistics.median(values):9.3f} {unit:<12} ({min(values):.3f} - {max(values):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count")
    args = parser.parse_args()
    thousand, half = max(1, int(1000 * args.scale)), max(1, int(500 * args.scale))

    works: dict[str, Callable[[Path], object]] = {"bare loop": lambda folder: bare_loop(folder, thousand)}
    for workers in (1, 4):
        works[f"wide, {workers} workers"] = lambda folder, workers=workers: run_local(  # type: ignore[misc]
            wide, {"count": thousand}, home=folder, max_workers=workers
        )
    works["chain"] = lambda folder: run_local(chain, {"count": half}, home=folder)
    works["bare loop, half"] = lambda folder: bare_loop(folder, half)
    times = measured(args.repetitions, works)
    bare = [each * 1000 / thousand for each in times["bare loop"]]
    say("bare loop, the same files, per task", bare, "ms")
    for workers in (1, 4):
        per_task = [each * 1000 / thousand for each in times[f"wide, {workers} workers"]]
        say(f"{thousand} wide, {workers} workers, per task", per_task, "ms")
        limits = [1.5 * floor + 0.1 for floor in bare]
        say("   of 1.5 x bare loop + 0.1 ms", [a / b for a, b in zip(per_task, limits, strict=True)], "x")
    say(f"{half} in a chain, per task", [each * 1000 / half for each in times["chain"]], "ms")

    ten = measured(
        max(1, args.repetitions // 2),
        {
            "one": lambda folder: run_local(wide, {"count": thousand}, home=folder, max_workers=4),
            "ten": lambda folder: run_local(wide, {"count": 10 * thousand}, home=folder, max_workers=4),
        },
    )
    say(f"{10 * thousand} wide, per task", [each * 1000 / (10 * thousand) for each in ten["ten"]], "ms")
    say("   of the thousand", [b / a for a, b in zip(ten["one"], ten["ten"], strict=True)], "x")

    count, ideal = max(16, int(200 * args.scale)), 0.0
    ideal = -(-count // 16) * 0.05
    lasted: list[float] = []

    def sleep_all(folder: Path) -> None:
        result = run_local(sleeps, {"count": count, "seconds": 0.05}, home=folder, max_workers=16)
        lasted.append(result.duration_seconds)

    slept = measured(args.repetitions, {"sleeps": sleep_all})["sleeps"]
    say(f"{count} sleeps of 50 ms on 16 workers", [each / ideal for each in lasted], "x ideal")
    say("   the whole call, until all is recorded", [each / ideal for each in slept], "x ideal")

    build = measured(1, {"build": lambda _: chain.build(count=100 * thousand)})["build"]
    say(f"building {100 * thousand} task runs", build, "s")
    pid = os.fork()
    if not pid:
        with tempfile.TemporaryDirectory(prefix="dagy-bench-") as folder:
            run_local(wide, {"count": 100 * thousand}, home=folder, max_workers=1)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"memory of a run of {100 * thousand} task runs: {peak:.0f} MB peak", flush=True)
            os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
