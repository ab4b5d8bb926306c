"""`--param key=value`, which `build`, `run` and `graph` take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagy.errors import ParameterError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


def add_params(parser: argparse.ArgumentParser) -> None:
    """Give a command its repeatable `--param`."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="key=value",
        help="a parameter of the flow; repeat it for more",
    )


def parse_params(items: Iterable[str]) -> dict[str, str]:
    """Return the texts by parameter name; the last one wins. A value may be empty and may contain `=`.

    Raises:
        ParameterError: an item is not of the form `key=value`.
    """
    texts: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not name or not equals:
            raise ParameterError(f"Invalid param {item!r}, expected key=value")
        texts[name] = text
    return texts
