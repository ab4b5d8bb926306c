"""`dagy check`: says what is wrong with a flow before it runs. No task is executed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dagy.cli.output import add_format, print_data
from dagy.cli.params import add_params, parse_params
from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy check` takes."""
    parser.description = "Find what is wrong with a flow before it runs; no task is executed."
    parser.add_argument("flow", metavar="<path>:<flow_fn>", help="the flow, such as flows/daily.py:daily")
    add_params(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the findings about the flow; the exit code is 1 if one of them is an error.

    Raises:
        InvalidTarget, FlowFileNotFound, FlowImportError, FlowNotFound: the flow can not be loaded.
        ParameterError, ParameterTypeError, FlowDefinitionError: its graph can not be built.
    """
    from dataclasses import asdict  # noqa: PLC0415 - `dagy check --help` does without

    from dagy.building import build_flow, flow_parameters_from_text  # noqa: PLC0415 - see above
    from dagy.loader import load_flow  # noqa: PLC0415 - see above
    from dagy.static_checks import check_flow  # noqa: PLC0415 - see above

    texts = parse_params(args.param)
    flow = load_flow(args.flow)
    # The example stands in for what is missing, as when a deployment is made.
    findings = check_flow(build_flow(flow, (), {**flow.example, **flow_parameters_from_text(flow, texts)}))
    cwd = os.getcwd()
    rows = [{**asdict(each), "file": each.file_from(cwd)} for each in findings]
    print_data(rows, args, plain=lambda: "\n".join(each.shown(cwd) for each in findings))
    if not findings and not args.quiet:
        print("No findings", file=sys.stderr)
    return ExitCode.FAILURE if any(each.severity == "error" for each in findings) else ExitCode.SUCCESS
