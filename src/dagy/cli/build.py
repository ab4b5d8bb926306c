"""`dagy build`: packs a flow into an artifact."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dagy.cli.params import add_params, parse_params
from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy build` takes."""
    parser.add_argument("flow", metavar="<path>:<flow_fn>", help="the flow's file and function")
    parser.add_argument(
        "--output-dir", metavar="<dir>", help="write <dir>/artifact.zip, instead of a new folder in ~/.dagy/builds"
    )
    add_params(parser)


def run(args: argparse.Namespace) -> int:
    """Build the artifact and print where it is.

    Raises:
        DagyError: the target, its file, a parameter or the project is wrong, the static checks found an error, or
            nothing can be written.
    """
    from dagy.building import flow_parameters_from_text  # noqa: PLC0415 - `dagy build --help` does without
    from dagy.cli.output import warn  # noqa: PLC0415 - see above
    from dagy.loader import load_flow  # noqa: PLC0415 - see above
    from dagy.packaging import build_artifact  # noqa: PLC0415 - see above

    texts = parse_params(args.param)
    flow = load_flow(args.flow)
    built = build_artifact(
        flow,
        output_dir=args.output_dir,
        parameters=flow_parameters_from_text(flow, texts),
        home=args.home,
        environ=args.environ,
    )
    print(f"Artifact: {built.path}")
    sys.stdout.flush()
    for warning in () if args.quiet else built.warnings:
        warn(warning.shown(os.getcwd()))
    return ExitCode.SUCCESS
