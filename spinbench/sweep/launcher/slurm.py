"""Workers as jobs of a Slurm cluster, by submitit; its local executor does the same with processes of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from spinbench.errors import UserError
from spinbench.sweep.launcher.supervise import Job, Worker, WorkerEnd, supervise


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
    def __init__(self, job: Any) -> None:
        self._job = job

    def end(self) -> WorkerEnd | None:
        if not self._job.done():
            return None
        error = self._job.exception()
        if error is None:
            return WorkerEnd(lost=False)
        # a worker that refuses to work says so in what it printed; who was killed printed no such thing
        said = " ".join((self._job.stderr() or "").split())
        trouble = f"a worker cannot work: {said[said.index('error: ') :]}" if "error: " in said else None
        return WorkerEnd(lost=True, trouble=trouble)

    def stop(self) -> None:
        self._job.cancel()


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
    executor = submitit.AutoExecutor(folder=str(job.folder.logs / job.session.name), cluster=options.cluster)
    executor.update_parameters(**options.parameters())

    def start(slot: int) -> Worker:
        command = job.command(job.first_of(slot, options.workers), False)
        return _SlurmJob(executor.submit(submitit.helpers.CommandFunction(command, env=dict(job.environment))))

    supervise(job, options.workers, start)
