"""Workers as jobs of a Slurm cluster, by submitit; its local executor does the same with processes of this machine."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from spinbench.errors import UserError
from spinbench.sweep.launcher import job_process
from spinbench.sweep.launcher.supervise import Job, Worker, WorkerEnd, supervise

STOP_FILE = "stop"
"""In the folder of a command's logs: tells its workers to end."""
STOP_WAIT_S = 10.0
"""Longest wait for the end of a local worker that was told to; it takes a fraction of a second."""


@dataclass(frozen=True)
class SlurmOptions:
    """What each job asks for; see conf/launcher/slurm.yaml."""

    cluster: str
    workers: int
    partition: str | None
    timeout_min: int
    cpus_per_worker: int
    memory_gb: float | None
    gpus_per_worker: int
    options: Mapping[str, Any]

    def parameters(self) -> dict[str, Any]:
        """As submitit names them."""
        wanted: dict[str, Any] = {
            "name": "spinbench-sweep",
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus_per_worker,
        }
        if self.memory_gb is not None:
            wanted["mem_gb"] = self.memory_gb
        if self.gpus_per_worker:
            wanted["gpus_per_node"] = self.gpus_per_worker
        if self.cluster == "slurm":
            if self.partition is not None:
                wanted["slurm_partition"] = self.partition
            if self.options:
                wanted["slurm_additional_parameters"] = dict(self.options)
        return wanted


class _SlurmJob:
    def __init__(self, job: Any, stop_file: Path, is_local: bool) -> None:
        self._job = job
        self._stop_file = stop_file
        self._is_local = is_local

    def end(self) -> WorkerEnd | None:
        if not self._job.done():
            return None
        if self._job.exception() is not None:  # it was killed, with the one that ran the worker, or its node is gone
            return WorkerEnd(lost=True)
        # a worker that refuses to work says so in what it printed; who was killed printed no such thing
        code, said = self._job.result(), " ".join((self._job.stderr() or "").split())
        refuses = code > 0 and "error: " in said
        return WorkerEnd(code != 0, f"a worker cannot work: {said[said.index('error: ') :]}" if refuses else None)

    def stop(self) -> None:
        """On a cluster a job that waits in the queue must be taken from it.

        A local one would be cancelled by SIGINT, of which submitit's controller dies with a traceback: it ends by
        itself once its job has seen the file.
        """
        self._stop_file.touch()
        if not self._is_local:
            self._job.cancel()
            return
        deadline_s = time.monotonic() + STOP_WAIT_S
        while not self._job.done() and time.monotonic() < deadline_s:
            time.sleep(job_process.LOOK_S / 2)


def run_slurm(job: Job, options: SlurmOptions) -> None:
    """Do the job with Slurm jobs. Raises UserError as `supervise`, and where submitit or Slurm is not there."""
    try:
        submitit: Any = import_module("submitit")
    except ImportError as error:
        raise UserError("launcher=slurm needs submitit: pip install 'spinbench[slurm]'") from error
    executor_class = submitit.LocalExecutor if options.cluster == "local" else submitit.SlurmExecutor
    if executor_class.affinity() < 0:
        raise UserError(
            "launcher is slurm and there is no sbatch here; submit from the cluster, or set launcher=processes"
        )
    # a job can begin without this package; its worker then imports the very one that is here
    import_module("cloudpickle").register_pickle_by_value(job_process)
    logs = job.folder.logs / job.session.name
    executor = submitit.AutoExecutor(folder=str(logs), cluster=options.cluster)
    executor.update_parameters(**options.parameters())
    stop_file = logs.absolute() / STOP_FILE

    def start(slot: int) -> Worker:
        command = job.command(job.first_of(slot, options.workers), False)
        with _without_ctrl_c():
            submitted = executor.submit(job_process.run_worker, command, dict(job.environment), str(stop_file))
        return _SlurmJob(submitted, stop_file, options.cluster == "local")

    supervise(job, options.workers, start)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ctrl-C waits until behind this; processes that are started meanwhile never hear it, as we end them ourselves."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
