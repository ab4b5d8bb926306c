"""`dagy cache explain` and `dagy cache clear`: outputs that runs use again."""

from __future__ import annotations

import argparse

from dagy.cli.output import warn
from dagy.errors import ExitCode, NotFound
from dagy.local.home import Home
from dagy.local.reuse import explain
from dagy.local.runner import empty_trash
from dagy.local.store import LocalStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="<command>", dest="verb", required=True)
    explaining = verbs.add_parser("explain", help="say why a task run was taken from the cache, or what differed")
    explaining.add_argument("run_id", metavar="<run_id>")
    explaining.add_argument("--task", metavar="<task_id>", required=True, help="the task run, such as extract-1")
    verbs.add_parser("clear", help="forget all cached outputs")


def run(args: argparse.Namespace) -> int:
    home = Home.from_environ(args.environ)
    if args.verb == "clear":
        return _clear(home)
    record = LocalStore(home, warn=warn).run(args.run_id)
    if record is None:
        raise NotFound(f"Run not found: {args.run_id}")
    try:
        explanation = explain(home, record, args.task)
    except OSError as exc:
        raise home.unusable(exc) from exc
    print(explanation)
    return ExitCode.SUCCESS


def _clear(home: Home) -> int:
    LocalStore(home, warn=warn).discard(home.cache)
    try:
        empty_trash(home)
    except OSError as exc:
        raise home.unusable(exc) from exc
    print("Cleared")
    return ExitCode.SUCCESS
