"""`dagy doctor`: looks at everything that Dagy needs on this machine and says what is wrong and what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dagy.cli.color import GREEN, RED, YELLOW, colored, is_colored
from dagy.cli.health_checks import OK, PROBLEM, WARNING, Finding, Place, examine
from dagy.cli.output import add_format, print_data
from dagy.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dagy.local.home import Home

_COLORS = {OK: GREEN, WARNING: YELLOW, PROBLEM: RED}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy doctor` takes."""
    parser.description = "Check this installation; the exit code is 1 if there is a problem."
    parser.add_argument("--profile", metavar="<name>", help="the profile whose API is checked")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per check and return the exit code, 1 if there is a problem."""
    findings = examine(Place(_home(args), args.environ, args.profile))
    print_data(
        [finding._asdict() for finding in findings],
        args,
        plain=lambda: "\n".join(_lines(findings, color=is_colored(sys.stdout, args))),
    )
    sys.stdout.flush()
    if not args.quiet:
        print(_summary(findings), file=sys.stderr)
    return ExitCode.FAILURE if any(finding.status == PROBLEM for finding in findings) else ExitCode.SUCCESS


def _home(args: argparse.Namespace) -> Home:
    from dagy.local.home import Home  # noqa: PLC0415 - `dagy doctor --help` does without

    try:
        return Home.from_environ(args.environ)
    except ConfigError:
        return Home(args.home)  # `check_settings` tells what is wrong


def _lines(findings: Sequence[Finding], *, color: bool) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    return [_line(finding, width, color=color) for finding in findings]


def _line(finding: Finding, width: int, *, color: bool) -> str:
    status = f"{finding.status:<{len(WARNING)}}"
    status = colored(status, _COLORS[finding.status]) if color else status
    text = f"{finding.detail}; {finding.way_out}" if finding.way_out else finding.detail
    return f"{status}  {finding.name:<{width}}  {' '.join(text.split())}"


def _summary(findings: Sequence[Finding]) -> str:
    counts = [(sum(finding.status == status for finding in findings), status) for status in (PROBLEM, WARNING)]
    parts = [f"{count} {status}" if count == 1 else f"{count} {status}s" for count, status in counts if count]
    return " and ".join(parts) or "Everything is fine"
