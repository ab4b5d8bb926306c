from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from tabulate import tabulate_formats

from dagy.cli import config
from dagy.cli.config import QuestionaryPrompts, configure
from dagy.client.profiles import Profile, Profiles, load_profiles, save_profiles
from dagy.errors import ConfigError, ExitCode

DEFAULT_FORMAT = "Use default (heavy_grid)"
SELECT, CREATE, EXIT = "Select an existing profile", "Create a new profile", "Exit"


def noon() -> datetime:
    return datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


class Script:
    """Answers from a list of (message, answer): an exception as answer is raised, a refused text is noted."""

    def __init__(self, *steps: tuple[str, object]) -> None:
        self._steps = list(steps)
        self.refused: list[str] = []
        self.offered: dict[str, list[str]] = {}
        self.defaults: dict[str, object] = {}

    def select(self, message: str, choices: Sequence[str], *, default: str | None = None) -> str:
        self.offered[message] = list(choices)
        answer = self._next(message, default)
        assert answer in choices
        return str(answer)

    def text(self, message: str, *, default: str = "", problem: Callable[[str], str | None]) -> str:
        answer = str(self._next(message, default))
        complaint = problem(answer)
        if complaint is None:
            return answer
        self.refused.append(complaint)
        return self.text(message, default=default, problem=problem)

    def confirm(self, message: str, *, default: bool) -> bool:
        return bool(self._next(message, default))

    def _next(self, message: str, default: object) -> object:
        expected, answer = self._steps.pop(0)
        assert message == expected
        self.defaults[message] = default
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def finished(self) -> bool:
        return not self._steps


def play(home: Path, script: Script) -> tuple[int, str]:
    out = io.StringIO()
    code = configure(home, script, now=noon, out=out)
    assert script.finished()
    return code, out.getvalue()


def stored(home: Path) -> Profiles:
    return load_profiles(home, warn=print, now=noon)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagy directory with the profiles dev (the default), prod and test."""
    profiles = {
        "dev": Profile("dev", "https://dev.test", "https://app.test", "plain", "old", {"team": "data"}),
        "prod": Profile("prod", "https://prod.test", last_updated="old"),
        "test": Profile("test", "https://test.test", last_updated="old"),
    }
    save_profiles(tmp_path, Profiles(profiles, "dev"))
    return tmp_path


# The first profile


def test_the_first_profile_becomes_the_default(tmp_path: Path) -> None:
    script = Script(
        ("Enter profile name:", "dev"),
        ("Enter Dagy API URL:", "https://api.dagy.io"),
        ("Select table format:", "plain"),
    )

    code, said = play(tmp_path / "home", script)

    assert code == ExitCode.SUCCESS
    assert said == "No profiles found. Creating the first profile.\nConfiguration saved.\n"
    assert yaml.safe_load((tmp_path / "home" / "config.yaml").read_text()) == {
        "version": 1,
        "default_profile": "dev",
        "profiles": {
            "dev": {
                "api_url": "https://api.dagy.io",
                "table_format": "plain",
                "last_updated": "2026-03-04T12:00:00Z",
            }
        },
    }


def test_the_formats_are_the_default_and_all_of_tabulate(tmp_path: Path) -> None:
    script = Script(
        ("Enter profile name:", "dev"),
        ("Enter Dagy API URL:", "https://api.dagy.io"),
        ("Select table format:", DEFAULT_FORMAT),
    )

    play(tmp_path, script)

    assert script.offered["Select table format:"] == [DEFAULT_FORMAT, *tabulate_formats]
    assert stored(tmp_path).by_name["dev"].table_format is None


def test_what_is_not_valid_is_refused_with_the_reason(tmp_path: Path) -> None:
    script = Script(
        ("Enter profile name:", "my profile"),
        ("Enter profile name:", " dev "),
        ("Enter Dagy API URL:", "api.dagy.io"),
        ("Enter Dagy API URL:", " https://api.dagy.io "),
        ("Select table format:", DEFAULT_FORMAT),
    )

    play(tmp_path, script)

    assert script.refused == [
        "A profile name consists of letters, digits and hyphens, for example dev-1",
        "The URL must begin with http:// or https://, for example https://api.dagy.io",
    ]
    assert stored(tmp_path).by_name["dev"].api_url == "https://api.dagy.io"


def test_a_url_of_this_machine_is_confirmed_or_asked_for_again(tmp_path: Path) -> None:
    script = Script(
        ("Enter profile name:", "dev"),
        ("Enter Dagy API URL:", "http://localhost:9"),
        ("http://localhost:9 is this machine. Use it?", False),
        ("Enter Dagy API URL:", "http://127.0.0.1:8000/api"),
        ("http://127.0.0.1:8000/api is this machine. Use it?", True),
        ("Select table format:", DEFAULT_FORMAT),
    )

    play(tmp_path, script)

    assert stored(tmp_path).by_name["dev"].api_url == "http://127.0.0.1:8000/api"


def test_a_broken_file_is_kept_and_a_new_one_started(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("profiles: [")
    script = Script(
        ("Enter profile name:", "dev"),
        ("Enter Dagy API URL:", "https://api.dagy.io"),
        ("Select table format:", DEFAULT_FORMAT),
    )

    code, said = play(tmp_path, script)

    backup = tmp_path / "config.bak-20260304T120000Z.yaml"
    assert code == ExitCode.SUCCESS
    assert f"was moved to {backup}" in said
    assert backup.read_text() == "profiles: ["
    assert list(stored(tmp_path).by_name) == ["dev"]


# The menu


def test_the_menu_has_the_documented_choices(home: Path) -> None:
    script = Script(
        ("What would you like to do?", SELECT),
        ("Select a profile:", "prod"),
        ("What would you like to do with 'prod'?", "Set as default"),
    )

    play(home, script)

    assert script.offered["What would you like to do?"] == [SELECT, CREATE, EXIT]
    assert script.offered["Select a profile:"] == ["dev (default)", "prod", "test"]
    assert script.offered["What would you like to do with 'prod'?"] == ["Edit", "Set as default", "Delete"]


def test_a_profile_is_set_as_default(home: Path) -> None:
    before = stored(home)

    code, said = play(
        home,
        Script(
            ("What would you like to do?", SELECT),
            ("Select a profile:", "prod"),
            ("What would you like to do with 'prod'?", "Set as default"),
        ),
    )

    assert (code, said) == (ExitCode.SUCCESS, "Configuration saved.\n")
    assert stored(home) == before.with_default("prod")


def test_editing_offers_the_present_values_and_keeps_the_rest(home: Path) -> None:
    script = Script(
        ("What would you like to do?", SELECT),
        ("Select a profile:", "dev (default)"),
        ("What would you like to do with 'dev'?", "Edit"),
        ("Enter Dagy API URL:", "https://new.test"),
        ("Select table format:", DEFAULT_FORMAT),
    )

    play(home, script)

    assert script.defaults["Enter Dagy API URL:"] == "https://dev.test"
    assert script.defaults["Select table format:"] == "plain"
    assert stored(home).by_name["dev"] == Profile(
        "dev", "https://new.test", "https://app.test", None, "2026-03-04T12:00:00Z", {"team": "data"}
    )
    assert stored(home).by_name["prod"].last_updated == "old"


@pytest.mark.parametrize(("make_default", "default"), [(True, "new"), (False, "dev")])
def test_a_new_profile_is_the_default_if_wanted(home: Path, make_default: bool, default: str) -> None:
    script = Script(
        ("What would you like to do?", CREATE),
        ("Enter profile name:", "dev"),
        ("Enter profile name:", "new"),
        ("Enter Dagy API URL:", "https://new.test"),
        ("Select table format:", "github"),
        ("Make 'new' the default profile?", make_default),
    )

    play(home, script)

    assert script.refused == ["The profile 'dev' exists already; choose another name"]
    assert stored(home).default_profile == default
    assert stored(home).by_name["new"] == Profile("new", "https://new.test", None, "github", "2026-03-04T12:00:00Z")


def delete(label: str, name: str, *more: tuple[str, object]) -> Script:
    return Script(
        ("What would you like to do?", SELECT),
        ("Select a profile:", label),
        (f"What would you like to do with '{name}'?", "Delete"),
        (f"Delete the profile '{name}'?", True),
        *more,
    )


def test_deleting_another_profile_keeps_the_default(home: Path) -> None:
    play(home, delete("prod", "prod"))

    assert list(stored(home).by_name) == ["dev", "test"]
    assert stored(home).default_profile == "dev"


def test_deleting_the_default_asks_for_the_next_one(home: Path) -> None:
    script = delete("dev (default)", "dev", ("Select the new default profile:", "test"))

    _, said = play(home, script)

    assert script.offered["Select the new default profile:"] == ["prod", "test"]
    assert said == "Configuration saved.\nThe default profile is now 'test'.\n"
    assert stored(home).default_profile == "test"


def test_deleting_the_default_of_two_leaves_the_other(home: Path) -> None:
    save_profiles(home, stored(home).without("test"))

    _, said = play(home, delete("dev (default)", "dev"))

    assert said == "Configuration saved.\nThe default profile is now 'prod'.\n"
    assert stored(home).default_profile == "prod"


def test_deleting_the_last_profile_leads_to_the_beginning(home: Path) -> None:
    save_profiles(home, stored(home).without("test").without("prod"))

    _, said = play(home, delete("dev (default)", "dev"))

    assert said == "Configuration saved.\n"
    assert stored(home) == Profiles()


# Leaving

EDIT = [
    ("What would you like to do?", SELECT),
    ("Select a profile:", "dev (default)"),
    ("What would you like to do with 'dev'?", "Edit"),
    ("Enter Dagy API URL:", "https://new.test"),
]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt(), EOFError()])
@pytest.mark.parametrize("answered", [0, 2, 4])
def test_an_interrupt_at_any_question_writes_nothing(home: Path, answered: int, leaving: BaseException) -> None:
    before = (home / "config.yaml").stat()
    question = [*EDIT, ("Select table format:", "plain")][answered][0]

    code, said = play(home, Script(*EDIT[:answered], (question, leaving)))

    assert code == ExitCode.INTERRUPTED
    assert said == "Cancelled, nothing was changed.\n"
    after = (home / "config.yaml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_interrupted_first_profile_leaves_no_file(tmp_path: Path) -> None:
    code, _ = play(tmp_path, Script(("Enter profile name:", "dev"), ("Enter Dagy API URL:", KeyboardInterrupt())))

    assert code == ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir()) == []


def test_exit_writes_nothing(home: Path) -> None:
    before = (home / "config.yaml").stat()

    assert play(home, Script(("What would you like to do?", EXIT))) == (ExitCode.SUCCESS, "")

    after = (home / "config.yaml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_deletion_that_is_not_confirmed_writes_nothing(home: Path) -> None:
    before = stored(home)
    script = Script(
        ("What would you like to do?", SELECT),
        ("Select a profile:", "prod"),
        ("What would you like to do with 'prod'?", "Delete"),
        ("Delete the profile 'prod'?", False),
    )

    assert play(home, script) == (ExitCode.SUCCESS, "Nothing was changed.\n")
    assert script.defaults["Delete the profile 'prod'?"] is False
    assert stored(home) == before


def test_what_somebody_else_saved_meanwhile_is_kept(home: Path) -> None:
    class Meanwhile(Script):
        def select(self, message: str, choices: Sequence[str], *, default: str | None = None) -> str:
            if message == "Select table format:":
                other = Profile("other", "https://other.test")
                save_profiles(home, stored(home).with_profile(other, now=noon))
            return super().select(message, choices, default=default)

    play(home, Meanwhile(*EDIT, ("Select table format:", "plain")))

    assert list(stored(home).by_name) == ["dev", "prod", "test", "other"]
    assert stored(home).by_name["dev"].api_url == "https://new.test"


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()

    with pytest.raises(ConfigError, match="can not be read"):
        play(tmp_path, Script())


# The terminal

ENTER, DOWN, CTRL_C, CTRL_D = "\r", "\x1b[B", "\x03", "\x04"


def type_keys(home: Path, keys: str) -> tuple[int, str]:
    out = io.StringIO()
    with create_pipe_input() as keyboard:
        keyboard.send_text(keys)
        prompts = QuestionaryPrompts(source=keyboard, screen=DummyOutput())
        code = configure(home, prompts, now=noon, out=out)
    return code, out.getvalue()


def test_the_first_profile_can_be_typed(tmp_path: Path) -> None:
    keys = f"dev{ENTER}http://localhost:8000/api{ENTER}y{DOWN}{ENTER}"

    code, said = type_keys(tmp_path, keys)

    assert (code, said) == (
        ExitCode.SUCCESS,
        "No profiles found. Creating the first profile.\nConfiguration saved.\n",
    )
    assert stored(tmp_path) == Profiles(
        {"dev": Profile("dev", "http://localhost:8000/api", None, tabulate_formats[0], "2026-03-04T12:00:00Z")}, "dev"
    )


def test_the_list_of_formats_narrows_down_while_typing(tmp_path: Path) -> None:
    type_keys(tmp_path, f"dev{ENTER}https://api.dagy.io{ENTER}moin{ENTER}")

    assert stored(tmp_path).by_name["dev"].table_format == "moinmoin"


def test_a_wrong_text_stays_until_it_is_corrected(tmp_path: Path) -> None:
    type_keys(tmp_path, f"my_{ENTER}\x7f{ENTER}https://api.dagy.io{ENTER}{ENTER}")

    assert list(stored(tmp_path).by_name) == ["my"]


def test_enter_alone_keeps_the_present_values(home: Path) -> None:
    before = stored(home)

    type_keys(home, ENTER * 5)

    assert stored(home) == before.with_profile(before.by_name["dev"], now=noon)


def test_the_default_is_deleted_by_keys(home: Path) -> None:
    type_keys(home, f"{ENTER}{ENTER}{DOWN}{DOWN}{ENTER}y{DOWN}{ENTER}")

    assert list(stored(home).by_name) == ["prod", "test"]
    assert stored(home).default_profile == "test"


@pytest.mark.parametrize("keys", [CTRL_C, f"dev{ENTER}{CTRL_C}", CTRL_D, f"dev{ENTER}https://a.test{ENTER}{CTRL_C}"])
def test_interrupting_by_keys_writes_nothing(tmp_path: Path, keys: str) -> None:
    code, said = type_keys(tmp_path, keys)

    assert code == ExitCode.INTERRUPTED
    assert said.endswith("Cancelled, nothing was changed.\n")
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_it_says_how_to_edit_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    config.add_arguments(parser)
    args = parser.parse_args([])
    args.home, args.environ = tmp_path, {}

    assert config.run(args) == ExitCode.USAGE

    shown = capsys.readouterr()
    assert shown.out == ""
    sentence, sample = shown.err.split("\n\n")
    assert str(tmp_path / "config.yaml") in sentence
    (tmp_path / "config.yaml").write_text(sample)
    assert stored(tmp_path) == Profiles(
        {"dev": Profile("dev", "http://127.0.0.1:8000/api", table_format="heavy_grid")}, "dev"
    )
