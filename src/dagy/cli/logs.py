"""`dagy logs`: the log of a run, or of one of its task runs."""

from __future__ import annotations

import argparse
import sys

from dagy.errors import ExitCode, NotFound
from dagy.local.home import Home
from dagy.local.mirror import RUN_LOG, TASK_LOG


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="<run_id>")
    parser.add_argument("--task", metavar="<task_id>", help="the log of this task run, such as extract-1")


def run(args: argparse.Namespace) -> int:
    home = Home.from_environ(args.environ)
    path = home.run_folder(args.run_id) / RUN_LOG
    if args.task is not None:
        path = home.task_run_folder(args.run_id, args.task) / TASK_LOG
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            sys.stdout.writelines(file)
    except FileNotFoundError:
        raise NotFound(f"Log not found: {path}") from None
    except BrokenPipeError:
        raise  # the reader of the output left, which `dagy` as a whole knows
    except OSError as exc:
        raise home.unusable(exc) from exc
    return ExitCode.SUCCESS
