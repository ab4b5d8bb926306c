"""How names become folders, object keys and run ids."""

from __future__ import annotations

import re

#: The longest folder name that every file system takes is 255 bytes; 100 leaves room for what is put around a name.
MAX_NAME_BYTES = 100

_KEPT = re.compile(r"[A-Za-z0-9._-]*\Z")
_SLUG_GAP = re.compile(r"[^A-Za-z0-9_-]+")
_SLUG_CHARACTERS = 60


def path_name(name: str) -> str:
    """Return a name that is safe as one folder, object key segment or log stream.

    `[A-Za-z0-9._-]` is kept and the rest percent-encoded as UTF-8; beyond 100 bytes the result is cut and ends in the
    first 8 hex digits of the name's SHA-256, so that different names stay different. `.` and `..` are encoded whole.
    """
    if len(name) <= MAX_NAME_BYTES and _KEPT.match(name) and name not in (".", "..", ""):
        return name
    safe = "".join(
        chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass")
    )
    if safe in (".", "..", ""):
        safe = safe.replace(".", "%2E") or "%00"
    if len(safe) <= MAX_NAME_BYTES:
        return safe
    from hashlib import sha256  # noqa: PLC0415 - long names are rare and hashlib loads OpenSSL

    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[: MAX_NAME_BYTES - 9]}-{digest}"


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def slug(name: str) -> str:
    """Return a readable, shell-safe part of an id; different names may share one."""
    return _SLUG_GAP.sub("_", name).strip("_-")[:_SLUG_CHARACTERS] or "flow"
