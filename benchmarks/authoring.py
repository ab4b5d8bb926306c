"""What maps and async tasks cost: a map of 10,000 items beside as many static calls, and 5,000 sleeps at once.

python benchmarks/authoring.py [--repetitions 3]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from dagy import flow, run_local, task


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task
def noop(x: int) -> int:
    return x


@task
async def doze(seconds: float) -> None:
    await asyncio.sleep(seconds)


@flow
def static(count: int) -> Any:
    for number in range(count):
        noop(number)


@flow
def mapped(count: int) -> Any:
    noop.map(numbers(count))


@flow
def dozing(count: int, seconds: float) -> None:
    for _ in range(count):
        doze(seconds)


def seconds_of(base: Path, name: str, flow: Any, parameters: dict[str, Any]) -> tuple[float, float]:
    begin = time.perf_counter()
    result = run_local(flow, parameters, home=base / name)
    return time.perf_counter() - begin, result.duration_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="dagy-bench-"))
    ratios, per_item, dozed = [], [], []
    for repetition in range(args.repetitions):
        plain, _ = seconds_of(base, f"static-{repetition}", static, {"count": 10_000})
        items, _ = seconds_of(base, f"map-{repetition}", mapped, {"count": 10_000})
        ratios.append(items / plain)
        per_item.append(items / 10_000 * 1000)
        _, duration = seconds_of(base, f"doze-{repetition}", dozing, {"count": 5_000, "seconds": 1.0})
        dozed.append(duration)
    items_ms, ratio = statistics.median(per_item), statistics.median(ratios)
    print(f"map of 10,000 items, per item: {items_ms:.3f} ms, {ratio:.2f} x static")
    print(f"5,000 async sleeps of 1 s: {statistics.median(dozed):.2f} s ({min(dozed):.2f} - {max(dozed):.2f})")


if __name__ == "__main__":
    main()
