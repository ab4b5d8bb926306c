"""`dagy logout`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagy.errors import ExitCode

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy logout` takes."""
    parser.add_argument("--profile", metavar="NAME", help="reserved: one login is kept for all profiles")


def run(args: argparse.Namespace) -> int:
    """Forget the saved login; without one there is nothing to do and the answer is the same.

    Args:
        args: carries `home`, the Dagy directory.

    Raises:
        ConfigError: the file exists and can not be removed.
    """
    from dagy.client.credentials import delete_credentials  # noqa: PLC0415 - other commands do without

    delete_credentials(args.home)
    print("Logged out")
    return ExitCode.SUCCESS
