from __future__ import annotations

import json
import stat
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.client.credentials import (
    Credentials,
    api_host,
    delete_credentials,
    load_credentials,
    save_credentials,
    token_for,
)
from dagy.errors import ConfigError

TOKEN = "dagy_at_0123456789"


def noon() -> datetime:
    return datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def load(home: Path) -> Credentials | None:
    return load_credentials(home, warn=fail, now=noon)


def test_no_file_means_no_login(tmp_path: Path) -> None:
    assert load(tmp_path) is None


@pytest.mark.parametrize("credentials", [Credentials(TOKEN, "api.dagy.io"), Credentials(TOKEN)])
def test_what_was_saved_is_loaded_again(tmp_path: Path, credentials: Credentials) -> None:
    save_credentials(tmp_path / "new", credentials)

    assert load(tmp_path / "new") == credentials


def test_the_file_is_json_for_its_owner_only(tmp_path: Path) -> None:
    save_credentials(tmp_path, Credentials(TOKEN, "127.0.0.1:8000"))

    path = tmp_path / "credentials"
    assert json.loads(path.read_text()) == {"access_token": TOKEN, "api_host": "127.0.0.1:8000"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_documented_file_is_accepted_for_any_host(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(json.dumps({"access_token": TOKEN}))

    assert token_for(load(tmp_path), "https://anywhere.test") == TOKEN


def test_the_representation_hides_the_token() -> None:
    assert TOKEN not in repr(Credentials(TOKEN, "api.dagy.io"))


BROKEN = {
    "empty": ("", "it is not JSON"),
    "cut": ('{"access_token": "' + TOKEN, "it is not JSON"),
    "not utf-8": (b"\xff", "it is not JSON"),
    "the bare token": (f'"{TOKEN}"', "it is not a JSON object"),
    "no token": ('{"token": "x"}', "it holds no usable access_token"),
    "empty token": ('{"access_token": ""}', "it holds no usable access_token"),
    "line end in the token": ('{"access_token": "x\\r\\nHost: y"}', "it holds no usable access_token"),
    "number as host": ('{"access_token": "x", "api_host": 1}', "its api_host is not text"),
    "very deep": ("[" * 100_000, "it is not JSON"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_kept_as_a_backup_and_counts_as_none(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    content = content.encode() if isinstance(content, str) else content
    path = tmp_path / "credentials"
    path.write_bytes(content)
    path.chmod(0o644)
    warnings: list[str] = []

    assert load_credentials(tmp_path, warn=warnings.append, now=noon) is None

    backup = tmp_path / "credentials.bak-20260304T120000Z"
    assert warnings == [f"{path} can not be used ({reason}) and was moved to {backup}; log in again with 'dagy login'"]
    assert backup.read_bytes() == content
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert load(tmp_path) is None


@given(content=st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_whatever_the_file_holds_loading_works_and_nothing_is_lost(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "credentials").write_bytes(content)

        load_credentials(Path(folder), warn=lambda sentence: None, now=noon)

        assert [path.read_bytes() for path in Path(folder).iterdir()] == [content]


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()

    with pytest.raises(ConfigError, match="credentials can not be read"):
        load(tmp_path)


def test_deleting_tells_whether_there_was_a_login(tmp_path: Path) -> None:
    save_credentials(tmp_path, Credentials(TOKEN))

    assert delete_credentials(tmp_path)
    assert not delete_credentials(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_deleted_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()

    with pytest.raises(ConfigError, match=r"credentials can not be removed .*; remove it by hand"):
        delete_credentials(tmp_path)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.dagy.io", "api.dagy.io"),
        ("https://API.dagy.io:443/v1", "api.dagy.io"),
        ("http://api.dagy.io", "api.dagy.io:80"),
        ("http://127.0.0.1:8000/api", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://api.dagy.io@evil.test", "evil.test"),
        ("http://x.test:99999", ""),
        ("nonsense", ""),
    ],
)
def test_the_host_of_an_api(url: str, host: str) -> None:
    assert api_host(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test",
        "http://api.dagy.io",
        "https://api.dagy.io:8443",
        "https://api.dagy.io.evil.test",
        "https://api.dagy.io@evil.test",
        "nonsense",
    ],
)
def test_a_token_stays_with_the_host_that_issued_it(url: str) -> None:
    issued = Credentials(TOKEN, api_host("https://api.dagy.io"))

    assert token_for(issued, url) is None
    assert token_for(issued, "https://api.dagy.io/v1") == TOKEN


def test_without_a_login_there_is_no_token() -> None:
    assert token_for(None, "https://api.dagy.io") is None
