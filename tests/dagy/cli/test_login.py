from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from dagy.cli import login, logout
from dagy.client.credentials import Credentials, load_credentials, save_credentials
from dagy.errors import ExitCode, NotAvailableYet, shown


def parse(command: object, home: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(words)
    args.home, args.environ = home, {}
    return args


def test_login_says_in_one_sentence_that_it_needs_a_server(tmp_path: Path) -> None:
    with pytest.raises(NotAvailableYet) as caught:
        login.run(parse(login, tmp_path, "--profile", "dev"))

    assert shown(caught.value) == (
        "Logging in needs a Dagy server, and this release runs flows on this machine without one: "
        "try 'dagy run <path>:<flow_fn>'."
    )


def test_logout_deletes_the_login(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_credentials(tmp_path, Credentials("dagy_at_x"))

    assert logout.run(parse(logout, tmp_path)) == ExitCode.SUCCESS
    assert capsys.readouterr() == ("Logged out\n", "")
    assert load_credentials(tmp_path, warn=print) is None


def test_logout_without_a_login_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logout.run(parse(logout, tmp_path, "--profile", "dev")) == ExitCode.SUCCESS
    assert capsys.readouterr() == ("Logged out\n", "")
