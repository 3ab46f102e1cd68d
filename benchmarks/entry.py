"""How a benchmark is started from the command line."""

import sys
from collections.abc import Callable

from spinbench.cli.main import with_one_line_errors


def run_main(main: Callable[[], int | None]) -> None:
    """Run it and exit with its code; a user's mistake or Ctrl-C is told in one line, with code 2, as by `spinbench`."""
    sys.exit(with_one_line_errors(lambda: main() or 0))
