"""`dagy deploy`, as it is typed, in a process of its own because clients of AWS read the process's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dagy.errors import ExitCode
from dagy.loader import load_flow
from dagy.packaging import build_artifact

Typed = Callable[..., "subprocess.CompletedProcess[str]"]

KEY = "dagy/flows/daily/1.2.0/artifact.zip"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an AWS on this machine, with a bucket `artifacts` and the one of the account."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    for bucket in ("artifacts", "dagy-artifacts-123456789012-us-east-1"):
        s3.create_bucket(Bucket=bucket)
    yield url
    server.stop()


@pytest.fixture
def dagy(endpoint: str, tmp_path: Path) -> Typed:
    """Type a command beside an `artifact.zip` of `daily:1.2.0`."""
    (tmp_path / "daily_of_cli.py").write_text(
        "from dagy import flow\n@flow(name='daily', version='1.2.0')\ndef daily(): ...\n"
    )
    build_artifact(load_flow("daily_of_cli.py:daily", cwd=tmp_path), output_dir=tmp_path, cwd=tmp_path, environ={})
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGY_"))}
    configured = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "DAGY_LOCAL_DIR": str(tmp_path / "home"),
    }

    def typed(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dagy", "deploy", "artifact.zip", *arguments],
            cwd=tmp_path,
            env={**plain, **configured, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return typed


def test_prints_where_the_artifact_is_and_that_nothing_was_registered(dagy):
    done = dagy("--deployment", "d", "--bucket", "artifacts", "--flow-name", "daily", "--flow-version", "1.2.0")
    assert (done.returncode, done.stdout) == (ExitCode.SUCCESS, f"Deployed to s3://artifacts/{KEY}\n")
    assert done.stderr.startswith("Nothing was registered, because no API URL is configured: set DAGY_API_URL")


def test_finds_the_bucket_of_the_account(dagy):
    done = dagy("--deployment", "d")
    assert done.stdout == f"Deployed to s3://dagy-artifacts-123456789012-us-east-1/{KEY}\n", done.stderr


def test_takes_every_documented_option(dagy):
    done = dagy(
        *("--deployment", "d", "--namespace", "data/ingestion", "--prefix", "p", "--timezone", "Europe/Berlin"),
        *("--schedule", "0 6 * * *", "--status", "INACTIVE", "--default-executor", "ecs", "--force"),
        *("--execution-mode", "task-isolated", "--dep-packages", "A1B2C3D4", "ML_DEPS_PKG"),
        DAGY_ARTIFACT_BUCKET="artifacts",
    )
    assert done.stdout == f"Deployed to s3://artifacts/p{KEY.removeprefix('dagy')}\n", done.stderr
    schedule = done.stderr.splitlines()[1]
    assert schedule.startswith("Schedule '0 6 * * *' in time zone Europe/Berlin, next fire times: ")
    assert schedule.count(" 06:00+0") == 3


def test_names_the_default_time_zone(dagy):
    done = dagy("--deployment", "d", "--bucket", "artifacts", "--schedule", "0 6 * * *")
    assert "in time zone America/New_York" in done.stderr


def test_says_nothing_but_the_result_when_it_is_to_be_quiet(dagy):
    done = dagy("--deployment", "d", "--bucket", "artifacts", "--schedule", "0 6 * * *", "--quiet")
    assert (done.stdout, done.stderr) == (f"Deployed to s3://artifacts/{KEY}\n", "")


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "message"),
    [
        (["--flow-name", "x"], {}, 1, "ValueError: Artifact flow spec mismatch. Expected x:1.2.0, got daily:1.2.0"),
        (["--schedule", "x"], {}, 2, "ValueError: Schedule 'x' is not a cron expression of five fields"),
        (["--timezone", "x"], {}, 2, "ValueError: There is no time zone 'x'; "),
        (["--bucket", "nowhere"], {}, 5, "There is no bucket 'nowhere'; "),
        (["--profile", "x"], {}, 2, "There is no profile 'x'"),
        ([], {"DAGY_API_URL": "http://127.0.0.1:1"}, 1, "Registering a deployment with the API at http://127.0.0.1:1"),
        (["--bucket", "b"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 4, "The bucket 'b' can not be reached ("),
    ],
)
def test_says_what_is_wrong_in_one_line(dagy, arguments, environ, code, message):
    done = dagy("--deployment", "d", *arguments, **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_needs_the_name_of_a_deployment(dagy):
    done = dagy()
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "--deployment" in done.stderr
