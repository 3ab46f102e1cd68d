"""Tab completion of `spinbench COMMAND ...`: the commands themselves here, their words by Hydra."""

import os
from collections.abc import Sequence
from importlib import import_module

LINE_VARIABLE = "COMP_LINE"
"""Where the shells' hooks, written by Hydra, put the command line."""


def complete(commands: Sequence[str], arguments: list[str]) -> int:
    """Print what may follow on the line that the shell is at (`-sc query=SHELL`, called by the shell's hook)."""
    words = os.environ.get(LINE_VARIABLE, "").split(" ")
    typed = [word for word in words[1:] if word]
    if not typed or (len(typed) == 1 and words[-1]):
        print("\n".join(command for command in commands if command.startswith(typed[0] if typed else "")))
        return 0
    if typed[0] in ("replay", "distill"):
        # Hydra takes the first word for the app's name, so the command's name takes its place
        position = words.index(typed[0])
        os.environ[LINE_VARIABLE] = " ".join(words[position:])
        return import_module(f"spinbench.cli.{typed[0]}").main(["-sc", *arguments])
    return 0
