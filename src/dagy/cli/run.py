"""`dagy run`: runs a flow here, when the target is `<path>:<flow_fn>`, or else a deployment on a server."""

from __future__ import annotations

import argparse
import logging
import sys

from dagy.building import flow_parameters_from_text
from dagy.cli.output import add_format, print_data, warn
from dagy.cli.params import add_params, parse_params
from dagy.cli.progress import progress
from dagy.client.profiles import load_profiles, resolve_api_url, resolve_profile
from dagy.errors import ExitCode, InvalidTarget, NotAvailableYet, ParameterError
from dagy.loader import load_flow, parse_target
from dagy.local.home import Home
from dagy.local.reuse import EarlierRun
from dagy.local.runner import LocalRunResult, run_local
from dagy.local.store import LocalStore
from dagy.status import RunStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "flow", metavar="<flow>", nargs="?", help="<path>:<flow_fn>, or the name of a deployment; --resume knows it"
    )
    add_params(parser)
    parser.add_argument("--max-workers", type=int, default=1, metavar="<n>", help="how many tasks run at once (1)")
    parser.add_argument("--no-fail-fast", action="store_true", help="go on with what does not depend on a failed task")
    parser.add_argument("--resume", metavar="<run_id>", help="use outputs of this run again, as far as nothing changed")
    parser.add_argument("--watch", action="store_true", help="run again on every save, as far as something changed")
    parser.add_argument("--profile", metavar="<name>", help="the profile to use")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="run a file here, whatever is configured")
    where.add_argument("--remote", action="store_true", help="run a deployment on the server")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    home = Home.from_environ(args.environ)
    earlier = None if args.resume is None else EarlierRun.load(home, args.resume, warn=warn)
    if args.flow is None:
        if earlier is None:
            raise ParameterError("Name the flow to run as <path>:<flow_fn>, or a run to resume with --resume <run_id>")
        args.flow = earlier.record.target
    if args.remote or (not args.local and not _is_file_target(args.flow) and _api_url(args) is not None):
        raise NotAvailableYet(
            "Running a deployment needs a Dagy server, which this release does not have; run the file with "
            "`dagy run <path>:<flow_fn>`"
        )
    if args.watch:
        from dagy.cli.watch import watch  # noqa: PLC0415 - loads what starts processes

        return watch(args.flow, _repeated(args), home, say=warn)
    texts = parse_params(args.param)
    flow = load_flow(args.flow)
    parameters = flow_parameters_from_text(flow, texts)
    if earlier is not None:
        parameters = {**earlier.parameters(), **parameters}
    verbose = args.verbose or home.verbose
    with progress(
        quiet=args.quiet, verbose=verbose, color=not args.no_color and not args.environ.get("NO_COLOR")
    ) as view:
        result = run_local(
            flow,
            parameters,
            max_workers=args.max_workers,
            fail_fast=not args.no_fail_fast,
            home=home,
            resume=args.resume,
            listener=view,
            print_capture=True,
            log_level=logging.DEBUG if verbose else logging.INFO,
        )
    _print_result(result, args, home)
    return ExitCode.SUCCESS if result.status is RunStatus.SUCCEEDED else ExitCode.FAILURE


def _repeated(args: argparse.Namespace) -> list[str]:
    """Return the arguments for each run of a watch."""
    repeated = [f"--param={each}" for each in args.param] + [f"--max-workers={args.max_workers}", "--local"]
    switches = {"--no-fail-fast": args.no_fail_fast, "--quiet": args.quiet, "--verbose": args.verbose}
    return repeated + [switch for switch, is_on in switches.items() if is_on]


def _is_file_target(target: str) -> bool:
    try:
        parse_target(target)
    except InvalidTarget:
        return False
    return True


def _api_url(args: argparse.Namespace) -> str | None:
    profile = resolve_profile(load_profiles(args.home, warn=warn), args.environ, name=args.profile)
    return resolve_api_url(args.environ, profile)


def _print_result(result: LocalRunResult, args: argparse.Namespace, home: Home) -> None:
    line = f"Run completed: {result.run_id} status={result.status}"
    if args.format is None:
        print(line)
        return
    record = LocalStore(home, warn=warn).run(result.run_id)
    document = {} if record is None else record.to_dict()
    rows = [{key: value for key, value in document.items() if key != "task_runs"}]
    print_data(rows, args, plain=lambda: line, document=document)
    sys.stdout.flush()
