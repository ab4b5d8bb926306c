"""Small files that only their owner may read: replaced whole or not at all, set aside when broken, never deleted."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from dagy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path


def utc_now() -> datetime:
    """Return the present moment, aware and in UTC: the clock where none is passed in."""
    from datetime import datetime, timezone  # noqa: PLC0415 - reading a profile needs no clock

    return datetime.now(timezone.utc)


def read_private(path: Path) -> bytes | None:
    """Return what the file holds, or None when there is no such file.

    Raises:
        ConfigError: it exists and can not be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"{path} can not be read ({exc.strerror}); make it readable for your user") from exc


def write_private(path: Path, text: str) -> None:
    """Make `text` the content of the file, with mode 0600 from its first byte on.

    Another process sees the old content or the new one, never a part. A symbolic link stays one: what it points to is
    replaced.

    Raises:
        ConfigError: the folder can not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path.resolve(), text)
    except OSError as exc:
        raise ConfigError(
            f"{path} can not be written ({exc.strerror}); make its folder writable for your user"
        ) from exc


def _replace(path: Path, text: str) -> None:
    import tempfile  # noqa: PLC0415 - 20 ms that only a command which writes has to pay

    # mkstemp creates with 0600; the same folder is needed because os.replace can not cross file systems.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def set_aside(path: Path, *, reason: str, way_out: str, now: Callable[[], datetime]) -> str:
    """Move a file that can not be used to `<stem>.bak-<timestamp><suffix>` and return the sentence that says so.

    A file that can not be moved stays where it is; the sentence then says that it is ignored.

    Args:
        path: the file.
        reason: what is wrong with it, for the sentence; must not quote a secret.
        way_out: what the reader can do next, for the sentence.
        now: the clock that names the backup.
    """
    try:
        backup = _new_backup(path, now().strftime("%Y%m%dT%H%M%SZ"))
        try:
            os.replace(path, backup)
        except BaseException:
            backup.unlink()
            raise
        with suppress(OSError):  # it may hold a token, and its old mode may have been anything
            backup.chmod(0o600)
    except OSError as exc:
        return f"{path} can not be used ({reason}) nor moved away ({exc.strerror}), so it is ignored; {way_out}"
    return f"{path} can not be used ({reason}) and was moved to {backup}; {way_out}"


def _new_backup(path: Path, timestamp: str) -> Path:
    """Reserve a name that is not taken, so that an older backup is never overwritten."""
    number = 1
    while True:
        again = f"-{number}" if number > 1 else ""
        backup = path.with_name(f"{path.stem}.bak-{timestamp}{again}{path.suffix}")
        try:
            os.close(os.open(backup, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            number += 1
        else:
            return backup
