"""`dagy graph`: draws the graph that a flow builds. No task is executed."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

from dagy.cli.color import BOLD, CYAN, DIM, colored, is_colored
from dagy.cli.params import add_params, parse_params
from dagy.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from dagy.spec import FlowSpec

FORMATS = ("tree", "mermaid", "dot", "svg", "json")

_FORMAT_OF_ENDING = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".json": "json",
}

#: Mermaid: the default of `maxEdges`, https://mermaid.js.org/config/schema-docs/config.html
_MERMAID_MOST_EDGES = 500

_STYLES = {"name": BOLD, "branch": DIM, "task": DIM, "mark": CYAN, "reference": DIM}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy graph` takes."""
    parser.description = "Draw the graph that a flow builds; no task is executed."
    parser.add_argument("flow", metavar="<path>:<flow_fn>", help="the flow, such as flows/daily.py:daily")
    add_params(parser)
    parser.add_argument("--format", choices=FORMATS, help="how to draw (tree, or what the ending of --output says)")
    parser.add_argument("--output", metavar="<file>", help="write there instead of to stdout")


def run(args: argparse.Namespace) -> int:
    """Draw the flow and return the exit code.

    Raises:
        InvalidTarget, FlowFileNotFound, FlowImportError, FlowNotFound: the flow can not be loaded.
        ParameterError, ParameterTypeError, FlowDefinitionError: its graph can not be built.
        ConfigError: the output file can not be written.
    """
    spec = _built(args.flow, parse_params(args.param))
    chosen = args.format or _format_of(args.output)
    if chosen == "mermaid" and len(spec.edges) > _MERMAID_MOST_EDGES and not args.quiet:
        print(
            f"Mermaid draws at most {_MERMAID_MOST_EDGES} edges unless its maxEdges is raised, and this graph has "
            f"{len(spec.edges):,}; --format svg draws them all",
            file=sys.stderr,
        )
    lines = _tree(spec, args) if chosen == "tree" else _drawer(chosen)(spec)
    if args.output is None:
        _print(lines)
    else:
        _write(args.output, list(lines))
    return ExitCode.SUCCESS


def _built(target: str, texts: dict[str, str]) -> FlowSpec:
    """Return the graph for these parameters; `@flow(example=...)` fills in what is missing, as for a deployment."""
    from dagy.building import flow_parameters_from_text  # noqa: PLC0415 - `dagy graph --help` does without
    from dagy.loader import load_flow  # noqa: PLC0415 - see above

    flow = load_flow(target)
    return flow.build(**{**flow.example, **flow_parameters_from_text(flow, texts)})


def _format_of(output: str | None) -> str:
    return _FORMAT_OF_ENDING.get(PurePath(output).suffix.lower(), "tree") if output else "tree"


def _tree(spec: FlowSpec, args: argparse.Namespace) -> Iterable[str]:
    """Return the tree in what stdout can show; a file can hold everything but colour."""
    from dagy.drawing.tree import ASCII, UNICODE, tree  # noqa: PLC0415 - see _built

    if args.output is not None:
        return tree(spec)
    glyphs = UNICODE if _can_show("├└│─→") else ASCII
    return tree(spec, glyphs=glyphs, paint=_paint) if is_colored(sys.stdout, args) else tree(spec, glyphs=glyphs)


def _drawer(chosen: str) -> Callable[[FlowSpec], Iterable[str]]:
    if chosen == "json":
        return lambda spec: "".join(spec.to_json_lines()).rstrip("\n").split("\n")
    if chosen == "svg":
        from dagy.drawing.svg import svg  # noqa: PLC0415 - only a picture needs the layout

        return svg
    from dagy.drawing.diagram import dot, mermaid  # noqa: PLC0415 - the tree does without

    return mermaid if chosen == "mermaid" else dot


def _paint(kind: str, text: str) -> str:
    return colored(text, _STYLES[kind])


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _print(lines: Iterable[str]) -> None:
    """Print lines; characters that the encoding of stdout does not have become escapes instead of an error."""
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def _write(output: str, lines: Iterable[str]) -> None:
    try:
        with open(output, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as exc:
        raise ConfigError(f"{output} can not be written ({exc.strerror}); name another --output") from exc
