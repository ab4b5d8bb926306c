"""`dagy flows list`: the flows that are registered on a server."""

from __future__ import annotations

import argparse

from dagy.cli.output import add_format, print_data, table, table_format_of, warn
from dagy.client.profiles import load_profiles, resolve_api_url, resolve_profile
from dagy.errors import ConfigError, ExitCode

COLUMNS = ("flow_name", "flow_version", "created_at", "updated_at", "artifact_s3_uri")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="<command>", dest="verb", required=True)
    listing = verbs.add_parser("list", help="list every registered flow")
    listing.add_argument("--profile", metavar="<name>", help="the profile to use")
    listing.add_argument("--limit", type=int, default=100, metavar="<n>", help="how many to ask for at once (100)")
    add_format(listing)


def run(args: argparse.Namespace) -> int:
    from dagy.client.http import DagyClient  # noqa: PLC0415 - an HTTP client, for this command only

    profile = resolve_profile(load_profiles(args.home, warn=warn), args.environ, name=args.profile)
    api_url = resolve_api_url(args.environ, profile)
    if api_url is None:
        raise ConfigError("Missing Dagy API URL. Set DAGY_API_URL or run 'dagy config'.")
    with DagyClient(api_url, home=args.home, warn=warn) as client:
        flows = list(client.list_flows(limit=args.limit))
    rows = [{column: flow.get(column) for column in COLUMNS} for flow in flows]
    print_data(rows, args, plain=lambda: table(rows, table_format_of(args)))
    return ExitCode.SUCCESS
