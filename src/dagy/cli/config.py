"""`dagy config`: the wizard that creates, edits and deletes profiles."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from dagy.client.private_file import utc_now
from dagy.client.profiles import (
    DEFAULT_TABLE_FORMAT,
    FILE_NAME,
    Profile,
    Profiles,
    is_localhost,
    load_profiles,
    name_problem,
    save_profiles,
    url_problem,
)
from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Any, TextIO

    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

USE_DEFAULT_FORMAT = f"Use default ({DEFAULT_TABLE_FORMAT})"

_SELECT, _CREATE, _EXIT = "Select an existing profile", "Create a new profile", "Exit"
_EDIT, _SET_DEFAULT, _DELETE = "Edit", "Set as default", "Delete"

#: From this many choices on, typing narrows a list down.
_LONG_LIST = 10

_WITHOUT_TERMINAL = """\
`dagy config` asks its questions on a terminal, and there is none: edit {path} instead, which looks like this:

version: 1
default_profile: dev
profiles:
  dev:
    api_url: http://127.0.0.1:8000/api
    table_format: {table_format}
"""


class Prompts(Protocol):
    """How the wizard asks. Each method may raise `KeyboardInterrupt` or `EOFError`, which end the wizard."""

    def select(self, message: str, choices: Sequence[str], *, default: str | None = None) -> str:
        """Return the one of `choices` that the person picked, `default` being the first offer."""

    def text(self, message: str, *, default: str = "", problem: Callable[[str], str | None]) -> str:
        """Return what the person typed, once `problem` finds nothing wrong with it."""

    def confirm(self, message: str, *, default: bool) -> bool:
        """Return whether the person agreed."""


class QuestionaryPrompts:
    """Asks on the terminal, or on the given prompt_toolkit input and output."""

    def __init__(self, *, source: Input | None = None, screen: Output | None = None) -> None:
        self._terminal: dict[str, Any] = {"input": source, "output": screen}

    def select(self, message: str, choices: Sequence[str], *, default: str | None = None) -> str:
        """Return the picked one of `choices`; a long list narrows down while one types."""
        import questionary  # noqa: PLC0415 - 150 ms that only the wizard has to pay

        search = len(choices) >= _LONG_LIST
        question = questionary.select(
            message, choices, default, use_search_filter=search, use_jk_keys=not search, **self._terminal
        )
        return str(question.unsafe_ask())

    def text(self, message: str, *, default: str = "", problem: Callable[[str], str | None]) -> str:
        """Return the typed text; `problem` is asked at every key, and Enter works when it is silent."""
        import questionary  # noqa: PLC0415 - see select

        question = questionary.text(message, default, lambda typed: problem(typed) or True, **self._terminal)
        return str(question.unsafe_ask())

    def confirm(self, message: str, *, default: bool) -> bool:
        """Return the answer to a yes-or-no question; Enter alone means `default`."""
        import questionary  # noqa: PLC0415 - see select

        return bool(questionary.confirm(message, default, **self._terminal).unsafe_ask())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy config` takes: nothing."""
    parser.description = "Create, edit and delete profiles, step by step."


def run(args: argparse.Namespace) -> int:
    """Run the wizard on the terminal and return the exit code.

    Args:
        args: carries `home`, the Dagy directory.

    Raises:
        ConfigError: the configuration can not be read or written.
    """
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        text = _WITHOUT_TERMINAL.format(path=args.home / FILE_NAME, table_format=DEFAULT_TABLE_FORMAT)
        print(text, end="", file=sys.stderr)
        return ExitCode.USAGE
    return configure(args.home, QuestionaryPrompts(), now=utc_now, out=sys.stdout)


def configure(home: Path, prompts: Prompts, *, now: Callable[[], datetime], out: TextIO) -> int:
    """Ask what to do, do that one thing, and return the exit code.

    Nothing is written before the last answer, so leaving at any question leaves the profiles as they were.

    Args:
        home: the Dagy directory.
        prompts: who is asked.
        now: the clock for `last_updated`.
        out: where the wizard says what it did.

    Raises:
        ConfigError: the configuration can not be read or written.
    """
    try:
        return _Wizard(home, prompts, now, out).start()
    except (KeyboardInterrupt, EOFError):
        print("Cancelled, nothing was changed.", file=out)
        return ExitCode.INTERRUPTED


class _Wizard:
    def __init__(self, home: Path, prompts: Prompts, now: Callable[[], datetime], out: TextIO) -> None:
        self._home = home
        self._prompts = prompts
        self._now = now
        self._out = out

    def start(self) -> ExitCode:
        profiles = self._load()
        if not profiles.by_name:
            self._say("No profiles found. Creating the first profile.")
            return self._create(profiles)
        action = self._prompts.select("What would you like to do?", [_SELECT, _CREATE, _EXIT])
        if action == _CREATE:
            return self._create(profiles)
        return self._change_existing(profiles) if action == _SELECT else ExitCode.SUCCESS

    def _create(self, profiles: Profiles) -> ExitCode:
        name = self._text("Enter profile name:", lambda text: name_problem(text) or _taken(text, profiles))
        profile = self._ask_settings(Profile(name))
        is_default = not profiles.by_name or self._prompts.confirm(f"Make '{name}' the default profile?", default=False)

        def created(latest: Profiles) -> Profiles:
            latest = latest.with_profile(profile, now=self._now)
            return latest.with_default(name) if is_default else latest

        return self._save(created)

    def _change_existing(self, profiles: Profiles) -> ExitCode:
        labels = {_label(name, profiles): name for name in sorted(profiles.by_name)}
        name = labels[self._prompts.select("Select a profile:", list(labels))]
        action = self._prompts.select(f"What would you like to do with '{name}'?", [_EDIT, _SET_DEFAULT, _DELETE])
        if action == _EDIT:
            return self._edit(profiles.by_name[name])
        if action == _SET_DEFAULT:
            return self._save(lambda latest: latest.with_default(name))
        return self._delete(name, profiles)

    def _edit(self, profile: Profile) -> ExitCode:
        edited = self._ask_settings(profile)
        return self._save(lambda latest: latest.with_profile(edited, now=self._now))

    def _delete(self, name: str, profiles: Profiles) -> ExitCode:
        if not self._prompts.confirm(f"Delete the profile '{name}'?", default=False):
            self._say("Nothing was changed.")
            return ExitCode.SUCCESS
        if profiles.default_profile != name:
            return self._save(lambda latest: latest.without(name))
        successor = self._ask_successor(sorted(profiles.without(name).by_name))
        code = self._save(lambda latest: latest.without(name).with_default(successor))
        if successor is not None:
            self._say(f"The default profile is now '{successor}'.")
        return code

    def _ask_successor(self, names: Sequence[str]) -> str | None:
        """Return the default profile after the present one is gone; asks only if there is a choice."""
        if len(names) > 1:
            return self._prompts.select("Select the new default profile:", names)
        return names[0] if names else None

    def _ask_settings(self, profile: Profile) -> Profile:
        api_url = self._ask_url(profile.api_url or "")
        return profile._replace(api_url=api_url, table_format=self._ask_format(profile.table_format))

    def _ask_url(self, present: str) -> str:
        while True:
            url = self._text("Enter Dagy API URL:", url_problem, default=present)
            if not is_localhost(url) or self._prompts.confirm(f"{url} is this machine. Use it?", default=True):
                return url

    def _ask_format(self, present: str | None) -> str | None:
        from tabulate import tabulate_formats  # noqa: PLC0415 - only the wizard lists them

        default = present if present in tabulate_formats else USE_DEFAULT_FORMAT
        choice = self._prompts.select("Select table format:", [USE_DEFAULT_FORMAT, *tabulate_formats], default=default)
        return None if choice == USE_DEFAULT_FORMAT else choice

    def _text(self, message: str, problem: Callable[[str], str | None], *, default: str = "") -> str:
        typed = self._prompts.text(message, default=default, problem=lambda text: problem(text.strip()))
        return typed.strip()

    def _load(self) -> Profiles:
        return load_profiles(self._home, warn=self._say, now=self._now)

    def _save(self, change: Callable[[Profiles], Profiles]) -> ExitCode:
        # Read again: while a person answered, another `dagy config` may have saved something else.
        save_profiles(self._home, change(self._load()))
        self._say("Configuration saved.")
        return ExitCode.SUCCESS

    def _say(self, sentence: str) -> None:
        print(sentence, file=self._out)


def _label(name: str, profiles: Profiles) -> str:
    return f"{name} (default)" if name == profiles.default_profile else name


def _taken(name: str, profiles: Profiles) -> str | None:
    return f"The profile '{name}' exists already; choose another name" if name in profiles.by_name else None
