"""What Dagy needs on this machine, checked one thing at a time: what was found, and what to do about it."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

import dagy
from dagy.client import credentials, profiles
from dagy.errors import DagyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import httpx

    from dagy.local.home import Home

OK, WARNING, PROBLEM = "ok", "warning", "problem"

OLDEST_PYTHON = (3, 10)

#: Below this much free space runs may soon fail; below the second they do.
LITTLE_SPACE_BYTES = 1_000_000_000
NO_SPACE_BYTES = 50_000_000

HEALTH_TIMEOUT_SECONDS = 3.0

#: What is imported under another name than it is installed.
_MODULES = {"pyyaml": "yaml"}

_AWS_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_AWS_LOGIN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Finding(NamedTuple):
    """What a check says.

    Attributes:
        name: of what was checked.
        status: `ok`, `warning` (works, but look at it) or `problem` (something will fail).
        detail: what was found.
        way_out: what to do, "" when all is well.
    """

    name: str
    status: str
    detail: str
    way_out: str = ""


class Place(NamedTuple):
    """What is checked: the local directory, the environment and the profile that was named."""

    home: Home
    environ: Mapping[str, str]
    profile: str | None = None


def examine(place: Place) -> list[Finding]:
    """Return what each check says, in the order in which one would look; what does not apply is left out."""
    checks: tuple[tuple[str, Callable[[Place], Finding | None]], ...] = (
        ("python", lambda _: check_python(sys.version_info[:3])),
        ("dagy", lambda _: check_dagy()),
        ("libraries", lambda _: check_libraries(_requirements())),
        ("settings", check_settings),
        ("directory", check_directory),
        ("space", check_space),
        ("lock", check_lock),
        ("database", check_database),
        ("config", check_config),
        ("login", check_login),
        ("api", check_api),
        ("aws", check_aws),
        ("clock", lambda _: check_time_zones("America/New_York")),
        ("output", lambda _: check_encoding(sys.stdout.encoding)),
    )
    findings = (_finding(name, check, place) for name, check in checks)
    return [finding for finding in findings if finding is not None]


def _finding(name: str, check: Callable[[Place], Finding | None], place: Place) -> Finding | None:
    try:
        return check(place)
    except DagyError as exc:
        return Finding(name, PROBLEM, str(exc))
    except Exception as exc:  # a doctor does not fall ill: what a check did not foresee is what it has found
        return Finding(name, PROBLEM, f"{type(exc).__name__}: {exc}")


def check_python(version: tuple[int, ...]) -> Finding:
    """Check the version of Python."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("python", PROBLEM, f"{text} is too old", f"install Python {oldest} or newer")
    return Finding("python", OK, f"{text} ({sys.executable})")


def check_dagy() -> Finding:
    """Tell which Dagy this is."""
    return Finding("dagy", OK, f"{dagy.__version__} ({os.path.dirname(str(dagy.__file__))})")


def check_libraries(requirements: Sequence[str] | None) -> Finding:
    """Check that the libraries are installed; they are looked up and not imported, which would take seconds.

    Args:
        requirements: as in the metadata of a distribution, such as `httpx>=0.27`. One with a condition may be missing.
            None when Dagy has no such metadata.
    """
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 20 ms that only this command pays
    from importlib.util import find_spec  # noqa: PLC0415 - see above

    if requirements is None:
        return Finding("libraries", WARNING, "dagy runs from a folder and is not installed", "run pip install dagy")
    found, missing = [], []
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            if find_spec(_MODULES.get(name.lower(), name.replace("-", "_"))) is None:
                raise PackageNotFoundError(name)
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if ";" not in requirement:
                missing.append(name)
    if missing:
        return Finding("libraries", PROBLEM, f"not installed: {', '.join(missing)}", "run pip install --upgrade dagy")
    return Finding("libraries", OK, ", ".join(found))


def _requirements() -> list[str] | None:
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - see check_libraries

    try:
        return [line for line in requires("dagy") or () if "extra ==" not in line]
    except PackageNotFoundError:
        return None


def check_settings(place: Place) -> Finding:
    """Check the environment variables of Dagy; only their names are told, because values may be secret.

    Raises:
        ConfigError: one has no legal value.
    """
    from dagy.local.home import Home  # noqa: PLC0415 - `dagy doctor --help` does without

    Home.from_environ(place.environ)
    names = sorted(name for name in place.environ if name.startswith("DAGY_"))
    return Finding("settings", OK, f"set: {', '.join(names)}" if names else "no DAGY_ variable is set")


def check_directory(place: Place) -> Finding:
    """Check that the local directory can be written, or made."""
    import tempfile  # noqa: PLC0415 - 20 ms that only this command pays

    path = place.home.path
    way_out = "make it a directory that you may write to, or set DAGY_LOCAL_DIR to another one"
    if not os.path.lexists(path):
        parent = next(each for each in path.parents if each.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding("directory", OK, f"{path} does not exist yet, the first run makes it")
        return Finding("directory", PROBLEM, f"{path} can not be made in {parent}", way_out)
    try:
        with tempfile.TemporaryFile(dir=path, prefix=".doctor-"):
            return Finding("directory", OK, f"{path} can be written")
    except OSError as exc:
        return Finding("directory", PROBLEM, f"{path} can not be written ({exc.strerror})", way_out)


def check_space(place: Place) -> Finding:
    """Check how much room the local directory has."""
    from shutil import disk_usage  # noqa: PLC0415 - see check_directory

    path = next(each for each in (place.home.path, *place.home.path.parents) if each.exists())
    return space_finding(disk_usage(path).free)


def space_finding(free_bytes: int) -> Finding:
    """Return what to say about this much free space."""
    detail = f"{free_bytes / 1e9:,.1f} GB free"
    if free_bytes >= LITTLE_SPACE_BYTES:
        return Finding("space", OK, detail)
    status = PROBLEM if free_bytes < NO_SPACE_BYTES else WARNING
    return Finding("space", status, detail, "make room, or set DAGY_LOCAL_DIR to a directory on another disk")


def check_lock(place: Place, *, patience_seconds: float = 1.0) -> Finding | None:
    """Check that files in the local directory can be locked, and that nobody keeps the database's lock.

    Args:
        patience_seconds: how long another process may have the database open.
    """
    import fcntl  # noqa: PLC0415 - see check_directory
    import tempfile  # noqa: PLC0415 - see check_directory

    if not place.home.path.is_dir():
        return None
    with tempfile.NamedTemporaryFile(dir=place.home.path, prefix=".doctor-") as one, open(one.name, "r+b") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            works = not _try_lock(other.fileno())
        except OSError:
            works = False
    if not works:
        way_out = "set DAGY_LOCAL_DIR to a directory on a local disk"
        return Finding("lock", PROBLEM, "files in the local directory can not be locked", way_out)
    if _is_kept(place.home.lock, patience_seconds):
        detail = "another process has the run database open, so listings come from files and are slower"
        return Finding("lock", WARNING, detail, f"find out who with fuser {place.home.lock}")
    return Finding("lock", OK, "files can be locked, and nobody keeps the run database")


def _try_lock(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415 - see check_directory

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_kept(path: Path, patience_seconds: float) -> bool:
    import time  # noqa: PLC0415 - see check_directory

    if not path.exists():
        return False
    until = time.monotonic() + patience_seconds
    with open(path, "r+b") as file:
        while not _try_lock(file.fileno()):
            if time.monotonic() >= until:
                return True
            time.sleep(0.05)
    return False


def check_database(place: Place) -> Finding | None:
    """Check that the run database opens; a broken one is set aside and made anew, as by every command.

    Raises:
        LocalStoreError: it can not be opened.
    """
    if not place.home.database.exists():
        return Finding("database", OK, "no runs yet") if place.home.path.is_dir() else None
    from dagy.local.store import LocalStore  # noqa: PLC0415 - loads DuckDB

    told: list[str] = []
    count = len(LocalStore(place.home, warn=told.append).runs())
    if told:
        return Finding("database", PROBLEM, told[0])
    return Finding("database", OK, f"{place.home.database} holds {count} run{'' if count == 1 else 's'}")


def check_config(place: Place) -> Finding:
    """Check that `config.yaml` can be read and is private; a broken one is moved away, as by every command.

    Raises:
        ConfigError: it can not be read, or the profile that was named does not exist.
    """
    path = place.home.path / profiles.FILE_NAME
    if not path.exists():
        return Finding("config", OK, f"no {profiles.FILE_NAME}, which is fine without a server")
    is_private = _is_private(path)
    told: list[str] = []
    loaded = profiles.load_profiles(place.home.path, warn=told.append)
    if told:
        return Finding("config", PROBLEM, told[0])
    profile = profiles.resolve_profile(loaded, place.environ, name=place.profile)
    if not is_private:
        return Finding("config", WARNING, f"{path} can be read by others", f"run chmod 600 {path}")
    return Finding("config", OK, f"{path}, profile in use: {profile.name if profile else 'none'}")


def check_login(place: Place) -> Finding:
    """Check the saved login: it can be read, is private, and belongs to the API in use.

    Raises:
        ConfigError: it can not be read.
    """
    path = place.home.path / credentials.FILE_NAME
    if not path.exists():
        return Finding("login", OK, "not logged in, which is fine without a server")
    is_private = _is_private(path)
    told: list[str] = []
    login = credentials.load_credentials(place.home.path, warn=told.append)
    if told:
        return Finding("login", PROBLEM, told[0])
    if not is_private:
        return Finding("login", PROBLEM, f"{path} can be read by others", f"run chmod 600 {path}")
    api_url = _api_url(place)
    if login is not None and api_url is not None and credentials.token_for(login, api_url) is None:
        detail = f"the saved login is for {login.api_host}, and the API in use is {credentials.api_host(api_url)}"
        return Finding("login", WARNING, detail, "run dagy login")
    return Finding("login", OK, str(path))


def _is_private(path: Path) -> bool:
    return not path.stat().st_mode & 0o077


def check_api(place: Place, *, transport: httpx.BaseTransport | None = None) -> Finding:
    """Check that the configured API answers `GET /health`; without one there is nothing to check.

    Args:
        transport: what carries the request instead of the network, for tests.

    Raises:
        ConfigError: the profile that was named does not exist.
    """
    url = _api_url(place)
    if url is None:
        return Finding("api", OK, "no API URL is configured, so flows run on this machine")
    complaint = profiles.url_problem(url)
    if complaint is not None:
        return Finding("api", PROBLEM, complaint, "correct DAGY_API_URL or run dagy config")
    import httpx  # noqa: PLC0415 - 100 ms that only the user of a server pays

    health = f"{url.rstrip('/')}/health"
    way_out = "check DAGY_API_URL or the profile, and the network"
    try:
        with httpx.Client(transport=transport, timeout=HEALTH_TIMEOUT_SECONDS, follow_redirects=False) as client:
            response = client.get(health)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        return Finding("api", PROBLEM, f"{url} does not answer ({type(exc).__name__}: {exc})", way_out)
    if not response.is_success:
        return Finding("api", PROBLEM, f"{health} answers {response.status_code}", way_out)
    return Finding("api", OK, f"{url} answers")


def _api_url(place: Place) -> str | None:
    loaded = profiles.load_profiles(place.home.path, warn=lambda _: None)
    return profiles.resolve_api_url(place.environ, profiles.resolve_profile(loaded, place.environ, name=place.profile))


def check_aws(place: Place) -> Finding:
    """Tell what could be used for S3; nothing is asked of AWS, and only names of variables are told."""
    region = next((place.environ[name] for name in _AWS_REGION if place.environ.get(name)), None)
    login = next((name for name in _AWS_LOGIN if place.environ.get(name)), None)
    found = [f"region {region}" if region else "no region", f"login by {login}" if login else "no login"]
    return Finding("aws", OK, f"{' and '.join(found)} in the environment, which only uploads to S3 need")


def check_time_zones(name: str) -> Finding:
    """Check that the data of a time zone is there, and tell the time."""
    from datetime import datetime, timezone  # noqa: PLC0415 - see check_directory
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - see check_directory

    now = datetime.now(timezone.utc)
    try:
        there = now.astimezone(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Finding("clock", PROBLEM, f"the time zone {name} is not known", "run pip install tzdata")
    return Finding("clock", OK, f"{now:%Y-%m-%d %H:%M:%S} UTC, {there:%H:%M} in {name}")


def check_encoding(encoding: str | None) -> Finding:
    """Check that output can hold every character."""
    if (encoding or "").lower().replace("-", "").replace("_", "") == "utf8":
        return Finding("output", OK, "UTF-8")
    return Finding("output", WARNING, f"{encoding}, which lacks characters that names may have", "set PYTHONUTF8=1")
