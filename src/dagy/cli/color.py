"""Colour for output that is printed line by line; what lives on the screen uses rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import argparse

#: ECMA-48, section 8.3.117: the numbers of "select graphic rendition".
BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


def is_colored(stream: TextIO, args: argparse.Namespace) -> bool:
    """Tell whether to colour what goes to `stream`: a terminal that can, and nobody said no (https://no-color.org)."""
    if args.no_color or args.environ.get("NO_COLOR") or args.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def colored(text: str, code: str) -> str:
    """Return the text between the escape sequences that switch a rendition on and everything off."""
    return f"\x1b[{code}m{text}\x1b[0m"
