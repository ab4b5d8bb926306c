"""`dagy login`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagy.errors import NotAvailableYet

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy login` takes."""
    parser.add_argument("--profile", metavar="NAME", help="the profile whose API to log in to")


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - every command has this form
    """Log in to the API of a profile.

    Raises:
        NotAvailableYet: always; there is no server to log in to.
    """
    raise NotAvailableYet(
        "Logging in needs a Dagy server, and this release runs flows on this machine without one: "
        "try 'dagy run <path>:<flow_fn>'."
    )
