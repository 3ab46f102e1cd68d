"""Workers as tasks of a Ray cluster: one of this machine's own, or one that is there."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from spinbench.sweep.launcher.ray_cluster import ray_cluster
from spinbench.sweep.launcher.supervise import Job, Worker, WorkerEnd, supervise

SAID_CHARACTERS = 400
"""End of what a worker printed that an error quotes."""


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference

    def end(self) -> WorkerEnd | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            code, said = self._ray.get(self._reference)
        except self._ray.exceptions.RayError:  # its process or its node is gone
            return WorkerEnd(lost=True)
        return WorkerEnd(code < 0, f"a worker cannot work: {said}" if code > 0 else None)

    def stop(self) -> None:
        self._ray.cancel(self._reference, force=True)


def run_ray(job: Job, address: str | None, workers: int | None, cpus_per_worker: float, gpus_per_worker: float) -> None:
    """Do the job with Ray tasks; without `workers` as many as the cluster has room for.

    Raises UserError as `supervise`, and where Ray is not installed or the cluster cannot be reached.
    """
    with ray_cluster(address, "launcher=ray", "launcher.address") as ray:
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1) // cpus_per_worker))
        # a lost task is started again by us, once for all launchers, and not by Ray as well
        remote = ray.remote(num_cpus=cpus_per_worker, num_gpus=gpus_per_worker, max_retries=0, max_calls=1)(_run_worker)

        def start(slot: int) -> Worker:
            command = job.command(job.first_of(slot, count), False)
            return _Task(ray, remote.remote(command, dict(job.environment), os.getcwd()))

        supervise(job, count, start)


def _run_worker(command: list[str], environment: Mapping[str, str], folder: str) -> tuple[int, str]:
    """Run a worker in a process of its own, which ends soon after this one; its exit code and what it said."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())[-SAID_CHARACTERS:]
