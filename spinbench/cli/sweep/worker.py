"""`python -m spinbench.cli.sweep.worker`: a sweep's worker in a process of its own, as launchers start it."""

import argparse
import os
import signal
import sys
from pathlib import Path

from spinbench.cli.locations import PACKAGE
from spinbench.cli.main import one_line
from spinbench.errors import UserError
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.worker import work


def main() -> int:
    """Take points until none is left; returns 0, or 1 where this process cannot work at all."""
    options = _parser().parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends its workers
    try:
        _work(options)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _work(options: argparse.Namespace) -> None:
    from spinbench.cli.replay.command import Replay
    from spinbench.cli.sweep.input_digests import code_version
    from spinbench.cli.sweep.work import PointWork

    parent = os.getppid()
    folder = SweepFolder(options.folder)
    session = folder.session(options.session)
    is_simulation = bool(session.facts["is_simulation"])
    if code_version(is_simulation) != session.code:
        raise UserError(
            f"{PACKAGE}: the code or a library here is not what the sweep was begun with; install "
            "the same everywhere, or begin the command again"
        )

    def is_orphan() -> bool:
        return os.getppid() != parent

    work(
        folder,
        session,
        PointWork(Replay(), session.facts["keep"], session.code).run,
        options.first,
        options.wait,
        is_orphan,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spinbench.cli.sweep.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="the sweep's folder")
    parser.add_argument("session", help="which command's points, by its name")
    parser.add_argument("--first", type=int, default=0, help="number of the point to begin with")
    parser.add_argument("--wait", action="store_true", help="wait for points that others are at, in case they die")
    return parser


if __name__ == "__main__":
    sys.exit(main())
