"""`dagy replay`: calls one task again on the inputs that a run recorded, with today's code."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dagy.attempts import Call, message_of
from dagy.building import build_flow
from dagy.cli.output import warn
from dagy.errors import ExitCode, NotFound, ParameterError
from dagy.loader import load_flow
from dagy.local.home import Home
from dagy.local.reuse import EarlierRun
from dagy.tracebacks import user_traceback


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="<run_id>")
    parser.add_argument("--task", metavar="<task_id>", required=True, help="the task run, such as extract-1")
    parser.add_argument("--pdb", action="store_true", help="stop in the debugger where it raises")


def run(args: argparse.Namespace) -> int:
    home = Home.from_environ(args.environ)
    earlier = EarlierRun.load(home, args.run_id, warn=warn)
    if args.task not in earlier.task_runs:
        raise NotFound(
            f"Run {args.run_id} has no task run {args.task}; it has: {', '.join(list(earlier.task_runs)[:10])}"
        )
    _refuse_map(earlier, args.task)
    before = earlier.task_runs[args.task]
    built = build_flow(load_flow(earlier.record.target), (), earlier.parameters())
    if before.task_name not in built.tasks:
        raise NotFound(f"The flow calls no task {before.task_name!r} any more")
    call = Call(built.tasks[before.task_name])
    inputs = call.checked(earlier.inputs(args.task))
    try:
        value = _called(call, inputs)
    except Exception as exc:
        print(user_traceback(exc), file=sys.stderr)
        if args.pdb:
            import pdb  # noqa: PLC0415 - what was asked for

            pdb.post_mortem(exc.__traceback__)
        return _compare(args.task, message_of(exc), before.error_message)
    print(repr(value))
    return _compare(args.task, None, before.error_message)


def _refuse_map(earlier: EarlierRun, task_run_id: str) -> None:
    node = earlier.nodes.get(task_run_id)
    if node is None or node.map is None:
        return
    items = [each for each in earlier.task_runs if each.startswith(f"{task_run_id}[")]
    if not items:
        raise ParameterError(f"{task_run_id} is a map that had no items, so there is nothing to replay")
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    raise ParameterError(f"{task_run_id} is a map; replay one of its items: {', '.join(items[:10])}{more}")


def _called(call: Call, inputs: dict[str, Any]) -> Any:
    if call.task.isolation != "async":
        return call(inputs)
    import asyncio  # noqa: PLC0415 - 45 ms that only an async task pays

    return asyncio.run(call(inputs))


def _compare(task_run_id: str, now: str | None, before: str | None) -> int:
    if now is None:
        told = "succeeds now, it failed then" if before else "succeeds, as it did then"
    elif before is None:
        told = f"fails now, it succeeded then: {now}"
    elif now == before:
        told = f"fails as it did then: {now}"
    else:
        told = f"fails in another way: {now}; then it was: {before}"
    print(f"{task_run_id} {told}", file=sys.stderr)
    return ExitCode.SUCCESS if now is None else ExitCode.FAILURE
