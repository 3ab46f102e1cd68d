"""`spinbench COMMAND ...`: finds the command, and turns a user's mistake into one line and exit code 2."""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

from spinbench.cli.torchrun import Torchrun
from spinbench.errors import UserError

USER_ERROR = 2
"""Exit code for anything that the user can put right, Ctrl-C included."""

COMMANDS = {
    "fetch": "get the default model, once",
    "replay": "serve a trace with speculative decoding, on real models or simulated",
    "record": "keep what every drafter would do, for exact simulation",
    "profile": "time what jobs cost, for the simulator and for selectors",
    "validate": "the same requests on both engines, and how far the simulator is off",
    "recommend": "which set-up to run for a trace, what it gains and how sure that is",
    "capacity": "the largest request rate at which latency limits are kept, simulated",
    "report": "tables and figures from the folders of runs",
    "compare": "what differs between two runs or sweeps, and whether it is more than noise",
    "sweep": "how far a sweep is, and the table of its points",
    "distill": "train drafters for a target",
}

HELP = """\
usage: spinbench COMMAND ...

Speculative decoding with several drafters, run for real and measured.

{commands}

  spinbench COMMAND --help    what a command takes
  spinbench --version         the version

Tab completion: eval "$(spinbench replay -sc install=bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 for a user's mistake or Ctrl-C, 1 as the command says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return with_one_line_errors(lambda: _dispatch(arguments))


def with_one_line_errors(command: Callable[[], int]) -> int:
    """The exit code of `command`: 2, and one line on stderr, where it ended by a user's mistake or Ctrl-C."""
    try:
        return command()
    except UserError as error:
        tell(f"error: {one_line(error)}")
    except KeyboardInterrupt as interrupt:
        tell(f"interrupted: {one_line(interrupt) or 'nothing was written'}")
    return USER_ERROR


def tell(line: str) -> None:
    """Print a line to stderr; of the processes that torchrun started the first one speaks for all, or says which."""
    here = Torchrun.here()
    if here.is_first:
        print(line, file=sys.stderr)
    elif here.has_met:
        print(f"process {here.rank}: {line}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())))
        return 0
    if command == "--version":
        print(f"spinbench {version('spinbench')}")
        return 0
    if command in ("-sc", "--shell-completion"):
        from spinbench.cli.completion import complete

        return complete(tuple(COMMANDS), rest)
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown command {command!r}; {hint}commands are {', '.join(COMMANDS)}")
    # a command's imports cost seconds (torch), so only the one asked for is imported
    run: Callable[[list[str]], int] = import_module(f"spinbench.cli.apps.{command}").main
    return run(rest)
