"""What starting costs: whole processes, interleaved, beside bare Python.

    python benchmarks/start_up.py [--repetitions 11]

Run it with compiled bytecode (`make bench` does): without, every start compiles again and nothing here holds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOW = """
from dagy import flow, task

@task
def extract() -> int:
    return 1

@task
def transform(value: int) -> int:
    return value + 1

@task
def load(value: int) -> int:
    return value

@flow
def etl():
    return load(transform(extract()))
"""

BARE_DUCKDB = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE t AS SELECT 1'); c.close()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=11)
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="dagy-bench-"))
    (base / "etl.py").write_text(FLOW)
    dagy = [sys.executable, "-m", "dagy"]
    times: dict[str, list[float]] = {}
    for repetition in range(args.repetitions):
        home = base / f"home-{repetition}"
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import dagy": [sys.executable, "-c", "import dagy"],
            "from dagy import flow, task": [sys.executable, "-c", "from dagy import flow, task"],
            "dagy --help": [*dagy, "--help"],
            "bare Python and DuckDB": [sys.executable, "-c", BARE_DUCKDB, str(base / f"bare-{repetition}.duckdb")],
            "dagy run, 3 tasks": [*dagy, "run", f"{base}/etl.py:etl"],
        }
        for name, command in commands.items():
            begin = time.perf_counter()
            environ = {**os.environ, "DAGY_LOCAL_DIR": str(home), "DAGY_API_URL": ""}
            subprocess.run(command, env=environ, check=True, capture_output=True)
            times.setdefault(name, []).append(time.perf_counter() - begin)
    for name, values in times.items():
        base_name = "bare Python and DuckDB" if name.startswith("dagy run") else "python -c pass"
        ratio = statistics.median(a / b for a, b in zip(values, times[base_name], strict=True))
        middle, low, high = (1000 * each for each in (statistics.median(values), min(values), max(values)))
        print(f"{name:<30} {middle:7.1f} ms ({low:.1f} - {high:.1f})  {ratio:5.2f} x {base_name}")


if __name__ == "__main__":
    main()
