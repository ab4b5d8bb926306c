"""`dagy`: finds the command, runs it, and turns errors into one line and an exit code.

`COMMANDS` names the module of each command; only the one that was asked for is imported.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import dagy
from dagy.errors import APIError, DagyError, ExitCode, LocalExecutionError, shown

#: (name, what `dagy --help` says, module). A module has `add_arguments(parser)` and `run(args) -> int`.
COMMANDS = (
    ("run", "run a flow, here or on a server", "dagy.cli.run"),
    ("runs", "list and show runs", "dagy.cli.runs"),
    ("logs", "print the log of a run or of one of its tasks", "dagy.cli.logs"),
    ("graph", "draw a flow", "dagy.cli.graph"),
    ("check", "find what is wrong with a flow before it runs", "dagy.cli.check"),
    ("replay", "call one task of a run again on its recorded inputs", "dagy.cli.replay"),
    ("cache", "explain and clear cached outputs", "dagy.cli.cache"),
    ("build", "pack a flow into an artifact", "dagy.cli.build"),
    ("deploy", "upload an artifact and register a deployment", "dagy.cli.deploy"),
    ("flows", "list the flows of a server", "dagy.cli.flows"),
    ("login", "sign in to a server", "dagy.cli.login"),
    ("logout", "sign out", "dagy.cli.logout"),
    ("config", "create and edit profiles", "dagy.cli.config"),
    ("init", "start a new project", "dagy.cli.init"),
    ("doctor", "check this installation", "dagy.cli.doctor"),
    ("completion", "print a completion script for a shell", "dagy.cli.completion"),
)


class _Parser(argparse.ArgumentParser):
    """Says a usage error in the way of all other errors: what is wrong, then where to read more."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, in which only `command` knows its arguments; None gives the full one."""
    parser = _Parser(prog="dagy", description="DAGs of work in plain Python.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"dagy {dagy.__version__}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(title="commands", metavar="<command>", dest="command", parser_class=_Parser)
    for name, summary, module in COMMANDS:
        known = command is None or command == name
        sub = commands.add_parser(
            name, help=summary, description=_sentence(summary), allow_abbrev=False, add_help=known
        )
        if known:
            import_module(module).add_arguments(sub)
            _add_common_below(sub)
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _add_common(parser: argparse.ArgumentParser, *, default: object) -> None:
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-v", "--verbose", action="store_true", default=default, help="tell more on stderr")
    talk.add_argument("-q", "--quiet", action="store_true", default=default, help="tell only errors on stderr")
    parser.add_argument("--no-color", action="store_true", default=default, help="no colour, as with NO_COLOR")


def _add_common_below(parser: argparse.ArgumentParser) -> None:
    """Let the common options also follow the command; absent there, they leave what stood before it alone."""
    nested = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if nested:
        for sub in nested[0].choices.values():
            _add_common_below(sub)
    else:
        _add_common(parser, default=argparse.SUPPRESS)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    environ = os.environ if environ is None else environ
    verbose = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal can not show must not end a command
    try:
        args = build_parser(_command_in(arguments)).parse_args(arguments)
        if args.command is None:
            build_parser("").print_help()
            return ExitCode.SUCCESS
        args.environ = environ
        args.home = _home(environ)
        verbose = args.verbose
        module = next(module for name, _, module in COMMANDS if name == args.command)
        code: int = import_module(module).run(args)
        sys.stdout.flush()
        return code
    except (DagyError, LocalExecutionError) as exc:
        return _fail(exc, verbose=verbose)
    except KeyboardInterrupt as exc:
        print(str(exc) or "Interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough, `dagy runs list | head -1`; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUCCESS


def _command_in(arguments: Sequence[str]) -> str:
    names = {name for name, _, _ in COMMANDS}
    return next((each for each in arguments if each in names), "")


def _home(environ: Mapping[str, str]) -> object:
    from pathlib import Path  # noqa: PLC0415 - `dagy --help` does without

    return Path(environ.get("DAGY_LOCAL_DIR") or "~/.dagy").expanduser().absolute()


def _fail(error: DagyError | LocalExecutionError, *, verbose: bool) -> int:
    user_traceback = getattr(error, "user_traceback", "")
    if user_traceback:
        print(user_traceback.rstrip("\n"), file=sys.stderr)
    print(shown(error), file=sys.stderr)
    if verbose and isinstance(error, APIError) and error.request_id:
        print(f"Request id: {error.request_id}", file=sys.stderr)
    return error.exit_code
