"""A worker in a process of its own, run from a job of a cluster and ended when the one who gave the job says so."""

import os
import subprocess
from collections.abc import Mapping, Sequence

LOOK_S = 0.2
"""Between two looks at whether it is to end."""


def run_worker(command: Sequence[str], environment: Mapping[str, str], stop_file: str) -> int:
    """Run a worker until it ends, or until there is a `stop_file`; its exit code, negative where it was killed.

    `environment` is beside that of this process, which also has where the worker's words go.
    """
    if os.path.exists(stop_file):
        return 0
    with subprocess.Popen(list(command), env={**os.environ, **environment}, stdin=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    return process.wait(LOOK_S)
                except subprocess.TimeoutExpired:
                    if os.path.exists(stop_file):
                        return 0
        finally:
            process.kill()  # nothing, where it has ended
