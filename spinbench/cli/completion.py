"""Tab completion of `spinbench COMMAND ...`: the commands themselves here, words of those with a config by Hydra."""

import os
from collections.abc import Sequence
from importlib import import_module

from spinbench.cli.locations import shipped_folder

SWEEP_ACTIONS = ("status", "table")
LINE_VARIABLE = "COMP_LINE"
"""Where the shells' hooks, written by Hydra, put the command line."""


def complete(commands: Sequence[str], arguments: list[str]) -> int:
    """Print what may follow on the line that the shell is at (`-sc query=SHELL`, called by the shell's hook)."""
    words = os.environ.get(LINE_VARIABLE, "").split(" ")
    typed = [word for word in words[1:] if word]
    if not typed or (len(typed) == 1 and words[-1]):
        print("\n".join(command for command in commands if command.startswith(typed[0] if typed else "")))
        return 0
    if typed[0] == "sweep" and len(typed) + (not words[-1]) <= 2:
        print("\n".join(action for action in SWEEP_ACTIONS if action.startswith(words[-1])))
    elif (shipped_folder("conf") / f"{typed[0]}.yaml").is_file():
        # Hydra takes the first word for the app's name, so the command's name takes its place
        position = words.index(typed[0])
        line, own_choices = _without_config_dir(words[position:])
        os.environ[LINE_VARIABLE] = " ".join(line)
        return import_module(f"spinbench.cli.apps.{typed[0]}").main(["-sc", *arguments, *own_choices])
    return 0


def _without_config_dir(words: list[str]) -> tuple[list[str], list[str]]:
    """The line without `--config-dir FOLDER`, and that option: its folder's choices are completed, too."""
    for place, word in enumerate(words):
        if word == "--config-dir" and place + 2 < len(words):
            return words[:place] + words[place + 2 :], words[place : place + 2]
    return words, []
