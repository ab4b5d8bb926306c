from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dagy.client.profiles import (
    Profile,
    Profiles,
    is_localhost,
    load_profiles,
    name_problem,
    resolve_api_url,
    resolve_app_url,
    resolve_profile,
    resolve_table_format,
    save_profiles,
    url_problem,
)
from dagy.errors import ConfigError, ExitCode, shown

DOCUMENTED = """\
version: 1
default_profile: dev
profiles:
  dev:
    api_url: https://api.dev.dagy.io
    app_url: https://dev.dagy.io
    table_format: heavy_grid
    last_updated: "2026-03-01T12:00:00Z"
  prod:
    api_url: https://api.dagy.io
    table_format: plain
    last_updated: "2026-02-28T09:30:00Z"
"""


def noon() -> datetime:
    return datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=timezone.utc)


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def load(home: Path) -> Profiles:
    return load_profiles(home, warn=fail, now=noon)


def load_broken(home: Path) -> tuple[Profiles, str]:
    warnings: list[str] = []
    profiles = load_profiles(home, warn=warnings.append, now=noon)
    (warning,) = warnings
    return profiles, warning


def write(home: Path, text: str) -> Path:
    path = home / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def of(*names: str, default: str | None = None) -> Profiles:
    return Profiles({name: Profile(name, f"https://{name}.test") for name in names}, default)


# Reading


def test_no_file_means_no_profiles(tmp_path: Path) -> None:
    assert load(tmp_path / "not-there") == Profiles()


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, DOCUMENTED)

    assert load(tmp_path) == Profiles(
        {
            "dev": Profile(
                "dev", "https://api.dev.dagy.io", "https://dev.dagy.io", "heavy_grid", "2026-03-01T12:00:00Z"
            ),
            "prod": Profile("prod", "https://api.dagy.io", None, "plain", "2026-02-28T09:30:00Z"),
        },
        "dev",
    )


@pytest.mark.parametrize("text", ["", "# only a comment\n", "version: 1\n", "profiles:\n", "\ufeffversion: 1\n"])
def test_a_file_without_profiles_is_not_broken(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)

    assert load(tmp_path).by_name == {}


@pytest.mark.parametrize("name", ["on", "no", "007", "1e3", "null", "2026-03-01"])
def test_names_that_yaml_takes_for_other_values_stay_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"default_profile: {name}x\nprofiles:\n  {name}:\n    api_url: https://a.test\n")

    profiles = load(tmp_path)

    assert profiles.by_name == {name: Profile(name, "https://a.test")}
    assert profiles.default_profile == f"{name}x"


def test_merge_keys_work(tmp_path: Path) -> None:
    write(
        tmp_path,
        "profiles:\n  a: &a\n    table_format: plain\n    api_url: 1\n  b:\n    <<: *a\n    api_url: https://b.test\n",
    )

    assert load(tmp_path).by_name["b"] == Profile("b", "https://b.test", table_format="plain")


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()

    with pytest.raises(ConfigError, match=r"config\.yaml can not be read .*; make it readable") as caught:
        load(tmp_path)

    assert caught.value.exit_code is ExitCode.USAGE


def test_without_a_file_yaml_is_not_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, dagy.client.profiles as p\n"
        "p.resolve_profile(p.load_profiles(pathlib.Path(sys.argv[1]), warn=print), {})\n"
        "print({'yaml', 'httpx', 'tempfile', 'dataclasses', 'inspect', 'datetime', 'logging'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"


# Broken files

BROKEN = {
    "not yaml": ("a: [1", "it is not YAML, line 1"),
    "tabs": ("profiles:\n\tdev: x", "line 2"),
    "not utf-8": (b"\xff\xfe\x00", "it is not YAML, UnicodeDecodeError"),
    "a list": ("- dev\n", "the file is not a mapping"),
    "profiles is a list": ("profiles: [dev]\n", "profiles is not a mapping"),
    "profile is a text": ("profiles: {dev: https://a.test}\n", "the profile dev is not a mapping"),
    "url is a list": ("profiles: {dev: {api_url: [1]}}\n", "api_url of the profile dev is not text"),
    "default is a mapping": ("default_profile: {}\n", "default_profile is not text"),
    "python object": ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
    "bad tag": ("a: !!bool x\n", "it is not YAML"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_kept_as_a_backup_and_counts_as_none(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "config.yaml").write_bytes(content)

    profiles, warning = load_broken(tmp_path)

    backup = tmp_path / "config.bak-20260304T120000Z.yaml"
    assert profiles == Profiles()
    assert reason in warning
    assert str(tmp_path / "config.yaml") in warning
    assert str(backup) in warning
    assert "\n" not in warning
    assert backup.read_bytes() == content
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert load(tmp_path) == Profiles(), "the second reading has nothing left to warn about"


def test_an_older_backup_is_not_overwritten(tmp_path: Path) -> None:
    for text in ("[1", "[2"):
        write(tmp_path, text)
        load_broken(tmp_path)

    assert (tmp_path / "config.bak-20260304T120000Z.yaml").read_text() == "[1"
    assert (tmp_path / "config.bak-20260304T120000Z-2.yaml").read_text() == "[2"


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_file_holds_reading_works_and_nothing_is_lost(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "config.yaml").write_bytes(content)

        load_profiles(home, warn=lambda sentence: None, now=noon)

        assert [path.read_bytes() for path in home.iterdir()] == [content]


# Writing


def test_what_is_written_has_the_documented_keys_in_their_order(tmp_path: Path) -> None:
    profile = Profile("dev", "https://api.dev.dagy.io", "https://dev.dagy.io", "heavy_grid")
    save_profiles(tmp_path / "new" / "folder", Profiles().with_profile(profile, now=noon).with_default("dev"))

    assert (tmp_path / "new" / "folder" / "config.yaml").read_text() == (
        "version: 1\n"
        "default_profile: dev\n"
        "profiles:\n"
        "  dev:\n"
        "    api_url: https://api.dev.dagy.io\n"
        "    app_url: https://dev.dagy.io\n"
        "    table_format: heavy_grid\n"
        "    last_updated: '2026-03-04T12:00:00Z'\n"
    )


def test_the_file_is_for_its_owner_only_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path, DOCUMENTED)
    path.chmod(0o644)

    save_profiles(tmp_path, of("dev"))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target = write(tmp_path / "dotfiles", DOCUMENTED)
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").symlink_to(target)

    save_profiles(home, of("dev"))

    assert (home / "config.yaml").is_symlink()
    assert list(yaml.safe_load(target.read_text())["profiles"]) == ["dev"]


def test_a_folder_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")

    with pytest.raises(ConfigError, match=r"config\.yaml can not be written"):
        save_profiles(tmp_path / "home", of("dev"))


def test_unknown_keys_survive_a_rewrite(tmp_path: Path) -> None:
    write(
        tmp_path,
        "version: 2\nteam: data\nprofiles:\n  dev:\n    verify: true\n    api_url: https://a.test\n    retries: 3\n",
    )

    save_profiles(tmp_path, load(tmp_path).with_profile(load(tmp_path).by_name["dev"], now=noon))

    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {
        "version": 2,
        "profiles": {
            "dev": {
                "api_url": "https://a.test",
                "last_updated": "2026-03-04T12:00:00Z",
                "verify": True,
                "retries": 3,
            }
        },
        "team": "data",
    }


NAMES = st.from_regex(r"[A-Za-z0-9-]{1,12}", fullmatch=True)
TEXTS = st.none() | st.text(min_size=1, max_size=30)
PROFILES = st.builds(
    lambda settings, default: Profiles({name: Profile(name, *values) for name, values in settings.items()}, default),
    st.dictionaries(NAMES, st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), max_size=4),
    st.none() | NAMES,
)


@given(profiles=PROFILES)
def test_what_was_written_is_read_back(profiles: Profiles) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_profiles(Path(folder), profiles)

        assert load(Path(folder)) == profiles


def test_removing_the_default_leaves_no_default() -> None:
    assert of("a", "b", default="a").without("a") == of("b")
    assert of("a", "b", default="a").without("b") == of("a", default="a")


# Which setting wins


@pytest.mark.parametrize(
    ("name", "environ", "default", "expected"),
    [
        ("c", {"DAGY_PROFILE": "b"}, "a", "c"),
        (None, {"DAGY_PROFILE": "b"}, "a", "b"),
        (None, {"DAGY_PROFILE": ""}, "c", "c"),
        ("", {}, None, "a"),
    ],
)
def test_profile_precedence(name: str | None, environ: dict[str, str], default: str | None, expected: str) -> None:
    profile = resolve_profile(of("c", "b", "a", default=default), environ, name=name)

    assert profile is not None
    assert profile.name == expected


def test_without_profiles_there_is_none_to_use() -> None:
    assert resolve_profile(Profiles(), {}) is None


@pytest.mark.parametrize(
    ("name", "environ", "default", "source"),
    [
        ("x", {}, None, "--profile"),
        (None, {"DAGY_PROFILE": "x"}, "a", "DAGY_PROFILE"),
        (None, {}, "x", "default_profile in config.yaml"),
    ],
)
def test_a_profile_that_does_not_exist_is_an_error_that_names_the_existing_ones(
    name: str | None, environ: dict[str, str], default: str | None, source: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_profile(of("b", "a", default=default), environ, name=name)

    assert shown(caught.value) == f"There is no profile 'x', which {source} names; the existing ones are: a, b"


def test_naming_a_profile_when_there_are_none_points_to_the_wizard() -> None:
    with pytest.raises(ConfigError, match="there are none yet, create one with 'dagy config'"):
        resolve_profile(Profiles(), {}, name="dev")


def test_api_url_precedence() -> None:
    profile = Profile("dev", "https://profile.test")

    assert resolve_api_url({"DAGY_API_URL": "https://env.test"}, profile) == "https://env.test"
    assert resolve_api_url({"DAGY_API_URL": ""}, profile) == "https://profile.test"
    assert resolve_api_url({}, Profile("bare")) is None
    assert resolve_api_url({}, None) is None


@pytest.mark.parametrize(
    ("environ", "profile", "expected"),
    [
        ({"DAGY_APP_URL": "https://env.test"}, Profile("p", app_url="https://app.test"), "https://env.test"),
        ({}, Profile("p", "http://127.0.0.1:8000/api", "https://app.test"), "https://app.test"),
        ({}, Profile("p", "http://127.0.0.1:8000/api"), "http://127.0.0.1:8000"),
        ({}, Profile("p", "http://127.0.0.1:8000/api/"), "http://127.0.0.1:8000"),
        ({"DAGY_API_URL": "http://here.test/api"}, Profile("p", "https://there.test/api"), "http://here.test"),
        ({}, Profile("p", "https://api.dagy.io"), "https://dagy.io"),
        ({}, Profile("p", "https://x.test/myapi"), "https://dagy.io"),
        ({}, None, "https://dagy.io"),
    ],
)
def test_app_url_precedence(environ: dict[str, str], profile: Profile | None, expected: str) -> None:
    assert resolve_app_url(environ, profile) == expected


def test_table_format_precedence() -> None:
    assert resolve_table_format(Profile("p", table_format="plain")) == "plain"
    assert resolve_table_format(Profile("p")) == "heavy_grid"
    assert resolve_table_format(None) == "heavy_grid"


# Checks


@pytest.mark.parametrize("name", ["dev", "prod-1", "A", "0", "-"])
def test_legal_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["", "my_profile", "a b", "dev\n", "dév", "a/b"])
def test_illegal_names(name: str) -> None:
    assert name_problem(name) == "A profile name consists of letters, digits and hyphens, for example dev-1"


@pytest.mark.parametrize(
    "url", ["https://api.dagy.io", "http://localhost:8000/api", "HTTPS://X.test", "http://[::1]:8000"]
)
def test_legal_urls(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must begin with http:// or https://"),
        ("api.dagy.io", "must begin with"),
        ("localhost:8000", "must begin with"),
        ("ftp://x.test", "must begin with"),
        ("https://", "has no hostname"),
        ("https://:80", "has no hostname"),
        ("http://[::1", "is not valid"),
        ("http://x.test:99999", "is not valid"),
        ("http://x .test", "a blank"),
        ("http://x.test\n", "a blank"),
        ("https://me:secret@x.test", "a user name"),
        ("https://x.test/api?x=1", "leave that part out"),
    ],
)
def test_illegal_urls(url: str, said: str) -> None:
    problem = url_problem(url)

    assert problem is not None
    assert said in problem
    assert "secret" not in problem


@given(st.text(max_size=40) | st.text(max_size=40).map("http://".__add__))
def test_any_text_can_be_checked(text: str) -> None:
    url_problem(text)
    name_problem(text)
    is_localhost(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://LOCALHOST.:8000/api",
        "http://dagy.localhost",
        "http://127.0.0.1:8000",
        "http://127.8.8.8",
        "http://[::1]:8000",
        "http://0.0.0.0:8000",
    ],
)
def test_urls_of_this_machine(url: str) -> None:
    assert is_localhost(url)


@pytest.mark.parametrize("url", ["https://api.dagy.io", "http://10.0.0.1", "http://localhost.example.com", "nonsense"])
def test_urls_of_other_machines(url: str) -> None:
    assert not is_localhost(url)
