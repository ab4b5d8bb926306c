"""How commands print data: plain as documented, or as table, JSON, YAML or CSV. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FORMATS = ("table", "json", "yaml", "csv")

Row = Mapping[str, Any]


def add_format(parser: argparse.ArgumentParser) -> None:
    """Give a command that prints data its `--format`."""
    parser.add_argument("--format", choices=FORMATS, help="how to print; the default is plain text for people")


def print_data(
    rows: Sequence[Row], args: argparse.Namespace, *, plain: Callable[[], str], document: Any = None
) -> None:
    """Print rows in the format that was asked for.

    Args:
        rows: what table and CSV print; all have the keys of the first.
        plain: gives the documented text, for when no format was asked for.
        document: what JSON and YAML print, if that is more than the rows.
    """
    document = list(rows) if document is None else document
    if args.format is None:
        text = plain()
    elif args.format == "json":
        text = json.dumps(document, indent=2, default=str)
    elif args.format == "yaml":
        text = _yaml(document)
    elif args.format == "csv":
        _print_csv(rows)
        return
    else:
        text = table(rows, table_format_of(args))
    if text:
        print(text)


def table(rows: Sequence[Row], table_format: str) -> str:
    """Return rows as a table in a format of tabulate; nothing for no rows."""
    import tabulate  # noqa: PLC0415 - only tables need it

    return str(tabulate.tabulate([_flat(row) for row in rows], headers="keys", tablefmt=table_format)) if rows else ""


def table_format_of(args: argparse.Namespace) -> str:
    """Return the table format of the profile in use."""
    from dagy.client.profiles import load_profiles, resolve_profile, resolve_table_format  # noqa: PLC0415 - see above

    profiles = load_profiles(args.home, warn=warn)
    return resolve_table_format(resolve_profile(profiles, args.environ, name=getattr(args, "profile", None)))


def warn(sentence: str) -> None:
    """Say something on stderr that does not stop the command."""
    print(sentence, file=sys.stderr)


def _yaml(document: Any) -> str:
    import yaml  # noqa: PLC0415 - only --format yaml needs it

    return str(
        yaml.safe_dump(json.loads(json.dumps(document, default=str)), sort_keys=False, allow_unicode=True)
    ).rstrip()


def _print_csv(rows: Sequence[Row]) -> None:
    if rows:
        import csv  # noqa: PLC0415 - only --format csv needs it

        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_flat(row) for row in rows)


def _flat(row: Row) -> dict[str, Any]:
    """Return the row with lists and objects as JSON, which is how a cell can hold them."""
    return {key: json.dumps(value) if isinstance(value, (dict, list)) else value for key, value in row.items()}
