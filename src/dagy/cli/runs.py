"""`dagy runs list` and `dagy runs show`: the runs of this machine."""

from __future__ import annotations

import argparse

from dagy.cli.output import add_format, print_data, warn
from dagy.clock import iso
from dagy.errors import ExitCode, NotFound
from dagy.local.home import Home
from dagy.local.records import RunRecord
from dagy.local.store import LocalStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="<command>", dest="verb", required=True)
    listing = verbs.add_parser("list", help="list the runs of this machine, newest first")
    listing.add_argument("--limit", type=_positive, help="at most this many")
    add_format(listing)
    showing = verbs.add_parser("show", help="show a run and its task runs")
    showing.add_argument("run_id", metavar="<run_id>")
    add_format(showing)


def run(args: argparse.Namespace) -> int:
    store = LocalStore(Home.from_environ(args.environ), warn=warn)
    return _list(store, args) if args.verb == "list" else _show(store, args)


def _list(store: LocalStore, args: argparse.Namespace) -> int:
    records = store.runs()[: args.limit]
    rows = [record.to_dict(with_task_runs=False) for record in records]
    print_data(rows, args, plain=lambda: "\n".join(_summary(record) for record in records))
    return ExitCode.SUCCESS


def _show(store: LocalStore, args: argparse.Namespace) -> int:
    record = store.run(args.run_id)
    if record is None:
        raise NotFound(f"Run not found: {args.run_id}")
    document = record.to_dict()
    print_data(document["task_runs"], args, plain=lambda: _details(record), document=document)
    return ExitCode.SUCCESS


def _summary(record: RunRecord) -> str:
    return f"{record.run_id} {record.status} {_time(record.started_ns or record.created_ns)} {_flow(record)}"


def _details(record: RunRecord) -> str:
    lines = [
        f"Run: {record.run_id} status={record.status} flow={_flow(record)}",
        f"Start: {_time(record.started_ns)} End: {_time(record.ended_ns)}",
    ]
    if record.retry_of is not None:
        lines.append(f"Resumes: {record.retry_of}")
    if record.parent is not None:
        lines.append(f"Parent: {record.parent}")
    if record.error_message is not None:
        lines.append(f"Error: {record.error_message}")
    lines += [
        f"- {each.task_run_id} {each.task_name} status={each.status} attempt={each.attempt}"
        for each in record.task_runs
    ]
    return "\n".join(lines)


def _flow(record: RunRecord) -> str:
    return f"{record.flow_name}:{record.flow_version}"


def _time(at_ns: int | None) -> str:
    """Return a time to the second, as the documented output has it."""
    return "-" if at_ns is None else f"{iso(at_ns)[:19]}Z"


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)
