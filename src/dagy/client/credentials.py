"""The saved login: `credentials` in the Dagy directory, JSON with `access_token` and the host that issued it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from dagy.client.private_file import read_private, set_aside, utc_now, write_private
from dagy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

FILE_NAME = "credentials"

_DEFAULT_PORT = {"https": 443, "http": 80}


class Credentials(NamedTuple):
    """An access token and where it may be sent.

    Attributes:
        access_token: the secret; `repr` hides it.
        api_host: what `api_host()` says of the API that issued it; None for any host, as in files without the key.
    """

    access_token: str
    api_host: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(access_token='***', api_host={self.api_host!r})"


def api_host(api_url: str) -> str:
    """Return the host of an API, with its port unless that is 443: what a token is bound to.

    Plain http on its usual port gives `<host>:80`, so a token issued over https is never sent there in the clear.

    Args:
        api_url: a URL with scheme and host; for anything else the result is "".
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - only a request or a login needs it

    try:
        parts = urlsplit(api_url)
        port = parts.port or _DEFAULT_PORT.get(parts.scheme)
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if port in (443, None) else f"{host}:{port}"


def token_for(credentials: Credentials | None, api_url: str) -> str | None:
    """Return the token if it may be sent to this API, else None."""
    if credentials is None:
        return None
    if credentials.api_host is not None and credentials.api_host.lower() != api_host(api_url):
        return None
    return credentials.access_token


def save_credentials(home: Path, credentials: Credentials) -> None:
    """Keep the login, readable for its owner only, in place of an older one.

    Raises:
        ConfigError: the folder can not be written.
    """
    document = {"access_token": credentials.access_token}
    if credentials.api_host is not None:
        document["api_host"] = credentials.api_host
    write_private(home / FILE_NAME, json.dumps(document) + "\n")


def load_credentials(
    home: Path, *, warn: Callable[[str], None], now: Callable[[], datetime] = utc_now
) -> Credentials | None:
    """Return the saved login, or None when there is none.

    A file that can not be used is moved to `credentials.bak-<timestamp>` and counts as none.

    Args:
        home: the Dagy directory.
        warn: gets one sentence when the file was moved.
        now: the clock that names the backup.

    Raises:
        ConfigError: the file exists and can not be read.
    """
    path = home / FILE_NAME
    content = read_private(path)
    if content is None:
        return None
    try:
        return _parse(content)
    except ValueError as exc:
        warn(set_aside(path, reason=str(exc), way_out="log in again with 'dagy login'", now=now))
        return None


def _parse(content: bytes) -> Credentials:
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        # The messages of the parsers may quote the file, and with it the token.
        raise ValueError("it is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    token, host = document.get("access_token"), document.get("api_host")
    if not isinstance(token, str) or not is_sendable(token):
        raise ValueError("it holds no usable access_token")
    if host is not None and not isinstance(host, str):
        raise ValueError("its api_host is not text")
    return Credentials(token, host)


def is_sendable(token: str) -> bool:
    """Tell whether the token can stand in an HTTP header: visible ASCII characters and at least one."""
    return bool(token) and all("!" <= character <= "~" for character in token)


def delete_credentials(home: Path) -> bool:
    """Remove the saved login and tell whether there was one.

    Raises:
        ConfigError: the file exists and can not be removed.
    """
    path = home / FILE_NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise ConfigError(f"{path} can not be removed ({exc.strerror}); remove it by hand") from exc
    return True
