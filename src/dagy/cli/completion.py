"""`dagy completion`: prints a script that lets a shell complete commands, options, flows and run ids.

shtab turns the parser into the script, so a command that is added is completed without further work. argcomplete was
considered, too: it asks Python at every press of the Tab key, and needs a hook in the start of every command. Here only
run ids ask Dagy, and the flows of a file are found by awk.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dagy.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")

_HOW_TO = """\
Where to put it, so that each new shell has it:

  bash   eval "$(dagy completion bash)"       as a line in ~/.bashrc
  zsh    eval "$(dagy completion zsh)"        as a line in ~/.zshrc, after compinit
  fish   dagy completion fish > ~/.config/fish/completions/dagy.fish
"""

#: Prints the functions decorated with @flow, without executing the file.
_AWK = r"""awk '/^@(dagy\.)?flow([ (]|$)/ {found = 1} found && /^def / {sub(/^def +/, ""); sub(/[ (].*/, ""); print; found = 0}'"""  # noqa: E501 - one word for the shell

_RUNS = "dagy runs list --limit 50 2>/dev/null"

_BASH_TARGETS = f"""
_dagy_targets() {{
  local file
  if [[ $1 == *.py:* ]]; then
    file=${{1%:*}}
    compgen -W "$({_AWK} "${{file/#\\~/$HOME}}" 2>/dev/null)" -P "$file:" -- "${{1##*:}}"
  else
    compgen -d -S / -- "$1"
    compgen -f -X '!*.py' -S : -- "$1"
  fi
}}"""

_ZSH_TARGETS = f"""
_dagy_targets() {{
  local -a flows
  if compset -P '*.py:'; then
    flows=(${{(f)"$({_AWK} ${{~${{(Q)${{IPREFIX%:}}}}}} 2>/dev/null)"}})
    compadd -a flows
  else
    _alternative 'flow-files:file with flows:_path_files -g "*.py" -S ":"' 'folders:folder:_path_files -/'
  fi
}}"""

_FISH_TARGETS = f"""
function _dagy_targets
    set -l word (commandline -ct)
    set -l parts (string match -r '^(.*\\.py):' -- $word)
    if test (count $parts) -eq 2
        for flow in ({_AWK} (string replace -r '^~' $HOME -- $parts[2]) 2>/dev/null)
            echo $parts[2]:$flow
        end
    else
        for path in (__fish_complete_path $word | string replace -r '\\t.*' '')
            string match -q '*/' -- $path; and echo $path
            string match -q '*.py' -- $path; and echo $path:
        end
    end
end"""

_BASH_RUN_IDS = f"""
_dagy_run_ids() {{
  compgen -W "$({_RUNS} | cut -d ' ' -f 1)" -- "$1"
}}"""

_ZSH_RUN_IDS = f"""
_dagy_run_ids() {{
  local -a runs
  runs=(${{(f)"$({_RUNS})"}})
  runs=("${{(@)runs/ /:}}")
  _describe -V run runs
}}"""

_FISH_RUN_IDS = f"""
function _dagy_run_ids
    {_RUNS} | string replace ' ' \\t
end"""

#: Readline takes the colon of a flow and the = of --option=value for the end of a word, argparse does not. Around
#: shtab's function this puts the words together again, and takes from the answers what Readline keeps by itself.
_BASH_WORDS = """
_dagy() {
  local -a words=("${COMP_WORDS[0]}")
  local index last word breaks='^[:=]+$' glue=
  for (( index = 1; index <= COMP_CWORD; index++ )); do
    word=${COMP_WORDS[index]}
    last=$(( ${#words[@]} - 1 ))
    if [[ $word == = && ${words[last]} == --* ]]; then
      words+=("")
      glue=1
    elif [[ $glue || $word =~ $breaks ]]; then
      words[last]+=$word
      [[ $word =~ $breaks ]] && glue=1 || glue=
    else
      words+=("$word")
    fi
  done
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$(( ${#words[@]} - 1 ))
  _shtab_dagy
  word=${words[COMP_CWORD]}
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
  fi
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]]; then
    compopt -o nospace 2>/dev/null
  fi
  return 0
}

complete -o bashdefault -F _dagy dagy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `dagy completion` takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HOW_TO
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def run(args: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    from dagy.cli.main import build_parser  # noqa: PLC0415 - main imports this module

    print(completion_script(build_parser(), args.shell))
    if sys.stdout.isatty() and not args.quiet:
        print(f"\n{_HOW_TO}", end="", file=sys.stderr)
    return ExitCode.SUCCESS


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes a command line of this parser.

    Args:
        parser: with all sub-commands; marks for shtab are left on its arguments.
        shell: one of `SHELLS`.
    """
    import shtab  # noqa: PLC0415 - only this command needs it

    ways = _ways()
    for action in _arguments(parser):
        if action.metavar in ways:
            action.complete = ways[action.metavar]  # type: ignore[attr-defined]  # how shtab is told
    script = shtab.complete(parser, shell)
    return f"{script}\n{_BASH_WORDS}" if shell == "bash" else script


def _ways() -> dict[Any, Any]:
    """Return how an argument is completed by its metavar, which says what it takes."""
    import shtab  # noqa: PLC0415 - see completion_script

    target = {
        "bash": "_dagy_targets",
        "zsh": "_dagy_targets",
        "fish": "(_dagy_targets)",
        "preamble": {"bash": _BASH_TARGETS, "zsh": _ZSH_TARGETS, "fish": _FISH_TARGETS},
    }
    run_id = {
        "bash": "_dagy_run_ids",
        "zsh": "_dagy_run_ids",
        "fish": "(_dagy_run_ids)",
        "preamble": {"bash": _BASH_RUN_IDS, "zsh": _ZSH_RUN_IDS, "fish": _FISH_RUN_IDS},
    }
    return {
        "<path>:<flow_fn>": target,
        "<flow>": target,
        "<run_id>": run_id,
        # What shtab gives zsh ends in parentheses, which zsh takes for conditions on the file.
        "<artifact.zip>": {**shtab.glob("*.zip"), "zsh": "_files -g '*.zip'"},
        "<file>": shtab.FILE,
        "<dir>": shtab.DIRECTORY,
        "<directory>": shtab.DIRECTORY,
    }


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every argument of a parser and of those below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _arguments(sub)
