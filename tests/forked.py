"""Processes of their own that have all imported already: forks of the one that runs the tests.

What is started anew imports for seconds before it does what a test is about. One test of each kind starts anew, some of them with the full matrix alone.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

DEADLINE_S = 120.0
"""What is waited for and never said ends the process, and the test with it, not the day."""


class Forked:
    """A process that does `work` in `folder` and ends with the exit code that this returns.

    Its stdout is read while it runs, its stderr once it has ended.
    """

    def __init__(self, work: Callable[[], int], folder: Path) -> None:
        read, write = os.pipe()
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.code: int | None = None
        """Negative where a signal ended it; None while it runs."""
        self._pid = os.fork()
        if self._pid == 0:
            os.close(read)
            _become(work, folder, write, self._err.fileno())
        os.close(write)
        self.stdout = os.fdopen(read, encoding="utf-8")
        self._deadline = threading.Timer(DEADLINE_S, self.send_signal, [signal.SIGKILL])
        self._deadline.daemon = True
        self._deadline.start()

    def send_signal(self, number: int) -> None:
        """Send a signal; one that has ended takes no notice."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def poll(self) -> int | None:
        """Its exit code if it has ended."""
        if self.code is None:
            self._reap(os.WNOHANG)
        return self.code

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; its exit code, what it printed and had not been read, and its stderr."""
        out = self.stdout.read()
        if self.code is None:
            self._reap(0)
        assert self.code is not None
        self.stdout.close()
        self._err.seek(0)
        err = self._err.read().decode()
        self._err.close()
        return self.code, out, err

    def _reap(self, options: int) -> None:
        pid, status = os.waitpid(self._pid, options)
        if pid:
            self._deadline.cancel()
            self.code = os.waitstatus_to_exitcode(status)


def _become(work: Callable[[], int], folder: Path, out: int, err: int) -> NoReturn:
    """The rest of the new process."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        logging.getLogger().handlers.clear()  # Hydra's write to the stdout of an earlier test
        os.chdir(folder)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what waits in this process for its end is the tests' own
