"""Profiles: the APIs a person works with, kept in `config.yaml`, and which setting wins over which."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dagy.client.private_file import read_private, set_aside, utc_now, write_private
from dagy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

FILE_NAME = "config.yaml"
DEFAULT_APP_URL = "https://dagy.io"
DEFAULT_TABLE_FORMAT = "heavy_grid"

_NAME = re.compile(r"[A-Za-z0-9-]+")
_SETTINGS = ("api_url", "app_url", "table_format", "last_updated")
_NONE_KNOWN: Mapping[str, Any] = {}


class Profile(NamedTuple):
    """One API and how to show what it says.

    Attributes:
        name: what `--profile` and `DAGY_PROFILE` say.
        api_url: base URL of the API.
        app_url: base URL of the web app, or None.
        table_format: a format of tabulate, or None.
        last_updated: ISO 8601 in UTC, or None when written by hand.
        extra: keys that this version does not know; they survive a rewrite.
    """

    name: str
    api_url: str | None = None
    app_url: str | None = None
    table_format: str | None = None
    last_updated: str | None = None
    extra: Mapping[str, Any] = _NONE_KNOWN


class Profiles(NamedTuple):
    """What `config.yaml` holds. It is a value: each change returns a new one, `save_profiles` writes it.

    Attributes:
        by_name: the profiles in the order of the file.
        default_profile: the name to use when nobody names one, or None.
        version: of the file's format.
        extra: keys that this version does not know; they survive a rewrite.
    """

    by_name: Mapping[str, Profile] = {}
    default_profile: str | None = None
    version: Any = 1
    extra: Mapping[str, Any] = _NONE_KNOWN

    def with_profile(self, profile: Profile, *, now: Callable[[], datetime]) -> Profiles:
        """Return these profiles with one added or replaced, its `last_updated` set by the clock."""
        stamped = profile._replace(last_updated=now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        return self._replace(by_name={**self.by_name, profile.name: stamped})

    def with_default(self, name: str | None) -> Profiles:
        """Return these profiles with another default, None for none."""
        return self._replace(default_profile=name)

    def without(self, name: str) -> Profiles:
        """Return these profiles without one; a default that it was is no more."""
        left = {other: profile for other, profile in self.by_name.items() if other != name}
        default = None if self.default_profile == name else self.default_profile
        return self._replace(by_name=left, default_profile=default)


def load_profiles(home: Path, *, warn: Callable[[str], None], now: Callable[[], datetime] = utc_now) -> Profiles:
    """Return the profiles of `config.yaml`; none when there is no such file.

    A file that can not be parsed is moved to `config.bak-<timestamp>.yaml` and counts as none.

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
        return Profiles()
    try:
        return _from_document(_parse(content))
    except ValueError as exc:
        way_out = "run 'dagy config' to start a new one"
        warn(set_aside(path, reason=str(exc), way_out=way_out, now=now))
        return Profiles()


def save_profiles(home: Path, profiles: Profiles) -> None:
    """Write `config.yaml` with mode 0600, in place of the old one; comments in it are lost.

    Raises:
        ConfigError: the folder can not be written.
    """
    import yaml  # noqa: PLC0415 - most commands never write profiles

    text = yaml.safe_dump(_to_document(profiles), sort_keys=False, default_flow_style=False)
    write_private(home / FILE_NAME, text)


def _parse(content: bytes) -> object:
    """Return the YAML document with every key, and the value of every setting, as the text that was written.

    YAML itself would read the profile names `on` and `007` as true and 7.
    """
    import yaml  # noqa: PLC0415 - 15 ms that only a person with profiles has to pay

    texts = {*_SETTINGS, "default_profile"}
    as_text, null = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            self.flatten_mapping(node)  # merge keys (`<<`) first, so that what they bring is text too
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    key.tag = as_text
                    if key.value in texts and isinstance(value, yaml.ScalarNode) and value.tag != null:
                        value.tag = as_text
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(content.decode("utf-8-sig"), Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as exc:
        where = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        raise ValueError(f"it is not YAML, {where}{exc.problem}") from exc
    except Exception as exc:  # PyYAML lets KeyError, IndexError and others through for values it can not construct
        raise ValueError(f"it is not YAML, {type(exc).__name__}") from exc


def _from_document(document: object) -> Profiles:
    if document is None:
        return Profiles()
    fields = dict(_mapping(document, "the file"))
    profiles = _mapping(fields.pop("profiles", None) or {}, "profiles")
    return Profiles(
        {name: _profile(name, settings) for name, settings in profiles.items()},
        default_profile=_text(fields.pop("default_profile", None), "default_profile"),
        version=fields.pop("version", 1),
        extra=fields,
    )


def _profile(name: str, settings: object) -> Profile:
    extra = dict(_mapping(settings or {}, f"the profile {name}"))
    known = {key: _text(extra.pop(key, None), f"{key} of the profile {name}") for key in _SETTINGS}
    return Profile(name, **known, extra=extra)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a mapping of names to values")
    return value


def _text(value: object, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{what} is not text")
    return value or None


def _to_document(profiles: Profiles) -> dict[str, Any]:
    document: dict[str, Any] = {"version": profiles.version}
    if profiles.default_profile is not None:
        document["default_profile"] = profiles.default_profile
    document["profiles"] = {name: _settings(profile) for name, profile in profiles.by_name.items()}
    return {**document, **profiles.extra}


def _settings(profile: Profile) -> dict[str, Any]:
    known = {key: getattr(profile, key) for key in _SETTINGS}
    return {**{key: value for key, value in known.items() if value is not None}, **profile.extra}


def resolve_profile(profiles: Profiles, environ: Mapping[str, str], *, name: str | None = None) -> Profile | None:
    """Return the profile to use: the named one > `DAGY_PROFILE` > `default_profile` > the first by name > None.

    Args:
        profiles: what `load_profiles` gave.
        environ: the environment.
        name: the value of `--profile`; None or "" when it was not given.

    Raises:
        ConfigError: the profile that was named, there or by one of the settings, does not exist.
    """
    wishes = (
        ("--profile", name),
        ("DAGY_PROFILE", environ.get("DAGY_PROFILE")),
        (f"default_profile in {FILE_NAME}", profiles.default_profile),
    )
    for source, wish in wishes:
        if wish:
            return _existing(profiles, wish, source)
    return profiles.by_name[min(profiles.by_name)] if profiles.by_name else None


def _existing(profiles: Profiles, name: str, source: str) -> Profile:
    profile = profiles.by_name.get(name)
    if profile is not None:
        return profile
    existing = ", ".join(sorted(profiles.by_name))
    way_out = f"the existing ones are: {existing}" if existing else "there are none yet, create one with 'dagy config'"
    raise ConfigError(f"There is no profile '{name}', which {source} names; {way_out}")


def resolve_api_url(environ: Mapping[str, str], profile: Profile | None) -> str | None:
    """Return the URL of the API: `DAGY_API_URL` > `api_url` of the profile > None, which means this machine only."""
    return environ.get("DAGY_API_URL") or (profile.api_url if profile else None)


def resolve_app_url(environ: Mapping[str, str], profile: Profile | None) -> str:
    """Return the URL of the web app: `DAGY_APP_URL` > `app_url` of the profile > beside the API > `https://dagy.io`.

    An API at `<url>/api` has its web app at `<url>`, as `dagy server` serves them.
    """
    configured = environ.get("DAGY_APP_URL") or (profile.app_url if profile else None)
    if configured:
        return configured
    api_url = (resolve_api_url(environ, profile) or "").rstrip("/")
    return api_url.removesuffix("/api") if api_url.endswith("/api") else DEFAULT_APP_URL


def resolve_table_format(profile: Profile | None) -> str:
    """Return the tabulate format for tables: `table_format` of the profile > `heavy_grid`."""
    return (profile.table_format if profile else None) or DEFAULT_TABLE_FORMAT


def name_problem(name: str) -> str | None:
    """Return why this can not be the name of a profile, in one sentence, or None when it can."""
    if _NAME.fullmatch(name):
        return None
    return "A profile name consists of letters, digits and hyphens, for example dev-1"


def url_problem(url: str) -> str | None:
    """Return why this can not be the base URL of an API, in one sentence, or None when it can."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - only the wizard and requests need it

    example = "for example https://api.dagy.io"
    if not url.isprintable() or " " in url:
        return f"The URL contains a blank or an invisible character; give one without, {example}"
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked when read
    except ValueError as exc:
        return f"The URL is not valid ({exc}); correct it, {example}"
    if parts.scheme not in ("http", "https"):
        return f"The URL must begin with http:// or https://, {example}"
    if not parts.hostname:
        return f"The URL has no hostname; give one, {example}"
    if "@" in parts.netloc:
        return f"The URL contains a user name; 'dagy login' takes care of that, so leave it out, {example}"
    if parts.query or parts.fragment:
        return f"The URL contains a ? or #, and paths are appended to it; leave that part out, {example}"
    return None


def is_localhost(url: str) -> bool:
    """Tell whether the URL names the machine it is used on, which `dagy config` has confirmed."""
    from ipaddress import ip_address  # noqa: PLC0415 - only the wizard needs it
    from urllib.parse import urlsplit  # noqa: PLC0415 - only the wizard needs it

    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
