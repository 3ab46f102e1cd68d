"""Workers as processes of this machine."""

import os
import subprocess
from pathlib import Path

from spinbench.errors import UserError
from spinbench.sweep.launcher.supervise import Job, Worker, WorkerEnd, supervise, trouble_of


class _Process:
    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
        except OSError as error:
            raise UserError(f"{log}: a worker cannot be started: {error.strerror or error}") from error

    def end(self) -> WorkerEnd | None:
        code = self._process.poll()
        if code is None:
            return None
        return WorkerEnd(code < 0, trouble_of(self._log) if code > 0 else None)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def run_processes(job: Job, workers: int) -> None:
    """Do the job with `workers` processes, each of which keeps what it has read. Raises UserError as `supervise`."""
    environment = {**os.environ, **job.environment}

    def start(slot: int) -> Worker:
        command = job.command(job.first_of(slot, workers), True)
        return _Process(command, environment, job.folder.logs / f"{job.session.name}-{slot}.log")

    supervise(job, workers, start)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
