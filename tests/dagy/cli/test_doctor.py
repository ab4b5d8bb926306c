from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from dagy.cli import health_checks
from dagy.cli.health_checks import Finding, Place
from dagy.cli.main import main
from dagy.client.credentials import Credentials, save_credentials
from dagy.client.profiles import Profile, Profiles, save_profiles
from dagy.errors import ConfigError, ExitCode
from dagy.local.home import Home
from dagy.testing import InstantClock

NAMES = [
    "python", "dagy", "libraries", "settings", "directory", "space", "lock", "database", "config", "login", "api",
    "aws", "clock", "output",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def place(home: Path, **environ: str) -> Place:
    return Place(Home(home), environ)


def run_doctor(home: Path, *words: str, **environ: str) -> int:
    return main(["doctor", *words], {"DAGY_LOCAL_DIR": str(home), **environ})


def status_of(finding: Finding | None) -> str:
    assert finding is not None
    return finding.status


# The command


def test_a_good_installation_has_an_ok_per_check(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(home) == ExitCode.SUCCESS

    printed = capsys.readouterr()
    lines = [line.split(maxsplit=2) for line in printed.out.splitlines()]
    assert [line[1] for line in lines] == NAMES
    assert {line[0] for line in lines} == {"ok"}
    assert len({line.index(text) for line, (_, _, text) in zip(printed.out.splitlines(), lines, strict=True)}) == 1
    assert printed.err == "Everything is fine\n"


def test_a_problem_gives_exit_code_1_and_is_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(home, DAGY_LOCAL_KEEP_RUNS="many") == ExitCode.FAILURE

    printed = capsys.readouterr()
    line = next(line for line in printed.out.splitlines() if " settings " in line)
    assert line == "problem  settings   DAGY_LOCAL_KEEP_RUNS must be a whole number from 1, got 'many'"
    assert printed.err == "1 problem\n"


def test_quiet_prints_the_checks_only(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_doctor(home, "--quiet")

    assert capsys.readouterr().err == ""


def test_json_has_the_way_out_of_each_finding(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_doctor(home, "--format", "json", DAGY_API_URL="ftp://example.com")

    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(findings) == NAMES
    assert findings["api"] == {
        "name": "api",
        "status": "problem",
        "detail": "The URL must begin with http:// or https://, for example https://api.dagy.io",
        "way_out": "correct DAGY_API_URL or run dagy config",
    }


@pytest.mark.parametrize(("words", "is_colored"), [([], True), (["--no-color"], False)])
def test_words_are_coloured_on_a_terminal_only(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], is_colored: bool
) -> None:
    controller, terminal = os.openpty()
    with open(terminal, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        run_doctor(home, *words)
    assert (b"\x1b[32mok     \x1b[0m  python" in os.read(controller, 10_000)) is is_colored
    os.close(controller)


def test_nothing_is_made_where_there_is_no_directory_yet(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet"

    assert run_doctor(missing, "--quiet") == ExitCode.SUCCESS
    assert not (tmp_path / "not").exists()


def test_nothing_is_left_in_the_directory(home: Path) -> None:
    run_doctor(home, "--quiet")

    assert list(home.iterdir()) == []


def test_an_error_that_nobody_foresaw_is_a_finding(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.yaml").mkdir()

    assert run_doctor(home) == ExitCode.FAILURE
    assert "problem  config " in capsys.readouterr().out


# This machine


def test_an_old_python_is_a_problem() -> None:
    assert health_checks.check_python((3, 9, 18)) == Finding(
        "python", "problem", "3.9.18 is too old", "install Python 3.10 or newer"
    )


def test_a_missing_library_is_a_problem() -> None:
    finding = health_checks.check_libraries(["httpx>=0.27", "no-such-library<2"])

    assert finding == Finding(
        "libraries", "problem", "not installed: no-such-library", "run pip install --upgrade dagy"
    )


def test_a_library_for_other_machines_may_be_missing() -> None:
    finding = health_checks.check_libraries(["httpx>=0.27", 'no-such-library>=2; python_version < "3.0"'])

    assert finding == Finding("libraries", "ok", f"httpx {httpx.__version__}")


def test_a_dagy_that_is_not_installed_is_a_warning() -> None:
    assert health_checks.check_libraries(None).status == "warning"


@pytest.mark.parametrize(
    ("free_bytes", "status"), [(10**12, "ok"), (10**9, "ok"), (10**9 - 1, "warning"), (10**7, "problem")]
)
def test_little_space_is_told(free_bytes: int, status: str) -> None:
    assert health_checks.space_finding(free_bytes).status == status


def test_an_unknown_time_zone_is_a_problem() -> None:
    assert status_of(health_checks.check_time_zones("Atlantis/Capital")) == "problem"
    assert status_of(health_checks.check_time_zones("America/New_York")) == "ok"


@pytest.mark.parametrize(
    ("encoding", "status"), [("utf-8", "ok"), ("UTF8", "ok"), ("ascii", "warning"), (None, "warning")]
)
def test_an_encoding_that_lacks_characters_is_a_warning(encoding: str | None, status: str) -> None:
    assert health_checks.check_encoding(encoding).status == status


def test_aws_variables_are_named_without_their_secrets(home: Path) -> None:
    finding = health_checks.check_aws(place(home, AWS_REGION="eu-west-1", AWS_ACCESS_KEY_ID="AKIA-of-somebody"))

    assert finding.detail.startswith("region eu-west-1 and login by AWS_ACCESS_KEY_ID in the environment")


def test_settings_are_named_without_their_values(home: Path) -> None:
    finding = health_checks.check_settings(place(home, DAGY_TOKEN="dagy_sk_secret", PATH="/bin"))

    assert finding == Finding("settings", "ok", "set: DAGY_TOKEN")


# The local directory


def test_a_file_in_the_place_of_the_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert status_of(health_checks.check_directory(place(tmp_path / "file"))) == "problem"
    assert status_of(health_checks.check_directory(place(tmp_path / "file" / "home"))) == "problem"


def test_a_kept_database_lock_is_a_warning(home: Path) -> None:
    with open(home / "dagy.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert status_of(health_checks.check_lock(place(home), patience_seconds=0)) == "warning"

    assert status_of(health_checks.check_lock(place(home), patience_seconds=0)) == "ok"


def test_runs_are_counted(home: Path) -> None:
    from dagy import flow, task
    from dagy.local.runner import run_local

    @task
    def work() -> int:
        return 1

    @flow
    def small() -> int:
        return work()

    run_local(small, {}, home=Home(home), clock=InstantClock())

    assert health_checks.check_database(place(home)) == Finding("database", "ok", f"{home / 'dagy.duckdb'} holds 1 run")


def test_a_broken_database_is_a_problem(home: Path) -> None:
    (home / "dagy.duckdb").write_bytes(b"this is no database" * 1_000)

    finding = health_checks.check_database(place(home))

    assert status_of(finding) == "problem"
    assert finding is not None
    assert "could not be read" in finding.detail


# The server


def test_config_that_others_can_read_is_a_warning(home: Path) -> None:
    save_profiles(home, Profiles({"dev": Profile("dev")}))
    assert health_checks.check_config(place(home)).detail == f"{home / 'config.yaml'}, profile in use: dev"

    (home / "config.yaml").chmod(0o644)
    finding = health_checks.check_config(place(home))

    assert (finding.status, finding.way_out) == ("warning", f"run chmod 600 {home / 'config.yaml'}")


def test_config_that_can_not_be_parsed_is_a_problem(home: Path) -> None:
    (home / "config.yaml").write_text("profiles: [")

    assert health_checks.check_config(place(home)).status == "problem"


def test_a_profile_that_does_not_exist_is_told(home: Path) -> None:
    save_profiles(home, Profiles({"dev": Profile("dev")}))

    with pytest.raises(ConfigError, match="There is no profile 'live', which --profile names"):
        health_checks.check_config(Place(Home(home), {}, "live"))


def test_a_login_that_others_can_read_is_a_problem(home: Path) -> None:
    save_credentials(home, Credentials("dagy_at_x"))
    assert health_checks.check_login(place(home)) == Finding("login", "ok", str(home / "credentials"))

    (home / "credentials").chmod(0o640)

    assert health_checks.check_login(place(home)).status == "problem"


def test_a_login_for_another_api_is_a_warning(home: Path) -> None:
    save_credentials(home, Credentials("dagy_at_x", "api.one.example"))

    finding = health_checks.check_login(place(home, DAGY_API_URL="https://api.two.example"))

    assert finding == Finding(
        "login",
        "warning",
        "the saved login is for api.one.example, and the API in use is api.two.example",
        "run dagy login",
    )


def test_a_broken_login_is_a_problem_and_its_token_is_not_told(home: Path) -> None:
    (home / "credentials").write_text("{dagy_at_secret")

    finding = health_checks.check_login(place(home))

    assert finding.status == "problem"
    assert "secret" not in finding.detail


def test_an_api_that_answers_is_ok_and_gets_no_token(home: Path) -> None:
    save_credentials(home, Credentials("dagy_at_x"))
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"status": "ok"})

    finding = health_checks.check_api(
        place(home, DAGY_API_URL="https://dagy.example/api/"), transport=httpx.MockTransport(answer)
    )

    assert finding.status == "ok"
    assert [str(request.url) for request in asked] == ["https://dagy.example/api/health"]
    assert "authorization" not in asked[0].headers


def test_an_api_that_is_something_else_is_a_problem(home: Path) -> None:
    finding = health_checks.check_api(
        place(home, DAGY_API_URL="https://dagy.example"),
        transport=httpx.MockTransport(lambda request: httpx.Response(404)),
    )

    assert (finding.status, finding.detail) == ("problem", "https://dagy.example/health answers 404")


def test_an_api_that_can_not_be_reached_is_a_problem(home: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    finding = health_checks.check_api(
        place(home, DAGY_API_URL="https://dagy.example"), transport=httpx.MockTransport(refuse)
    )

    assert finding == Finding(
        "api",
        "problem",
        "https://dagy.example does not answer (ConnectError: connection refused)",
        "check DAGY_API_URL or the profile, and the network",
    )
