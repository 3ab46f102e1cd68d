"""From the section `launcher` of a config to workers that do a sweep's points."""

import sys
from pathlib import Path
from typing import Any

from spinbench.cli.config.sweep import LauncherSection, ProcessesSection, RaySection, SerialSection, SlurmSection
from spinbench.cli.locations import python_path
from spinbench.cli.replay.command import Replay, print_saved
from spinbench.cli.sweep.progress import SweepProgress
from spinbench.cli.sweep.work import PointWork
from spinbench.sweep.folder import Session, SweepFolder
from spinbench.sweep.launcher.supervise import Job
from spinbench.sweep.point import SweepPoint
from spinbench.sweep.worker import work


def launch(
    section: LauncherSection,
    folder: SweepFolder,
    session: Session,
    replay: Replay,
    progress: SweepProgress,
    wants_gpu: bool,
    quiet: bool = False,
) -> None:
    """Do the session's points as `section` says; where they are done here, print each unless `quiet`.

    Raises UserError where workers cannot be started or die again and again, and KeyboardInterrupt on Ctrl-C.
    """
    if isinstance(section, SerialSection):
        _run_here(folder, session, replay, progress, quiet)
        return
    job = Job(folder, session, _command(folder, session), {"PYTHONPATH": python_path()}, progress.points)
    gpus = int(wants_gpu)
    if isinstance(section, ProcessesSection):
        from spinbench.sweep.launcher.processes import num_cores, run_processes

        run_processes(job, section.workers or num_cores())
    elif isinstance(section, SlurmSection):
        from spinbench.sweep.launcher.slurm import SlurmOptions, run_slurm

        given = section.gpus_per_worker
        run_slurm(
            job,
            SlurmOptions(
                section.cluster, section.workers, section.partition, section.timeout_min, section.cpus_per_worker,
                section.memory_gb, gpus if given is None else given, section.options,
            ),
        )  # fmt: skip
    elif isinstance(section, RaySection):
        from spinbench.sweep.launcher.ray import run_ray

        given = section.gpus_per_worker
        run_ray(job, section.address, section.workers, section.cpus_per_worker, gpus if given is None else given)


def _run_here(folder: SweepFolder, session: Session, replay: Replay, progress: SweepProgress, quiet: bool) -> None:
    job = Job(folder, session, _command(folder, session), {}, progress.points)
    points = PointWork(replay, session.facts["keep"], session.code)

    def run(point: SweepPoint, path: Path) -> dict[str, Any]:
        saved = points.serve(point, path, progress.requests)
        if not quiet:
            print_saved(path, saved)
        return saved.summary

    work(folder, session, run, after_point=job.look)


def _command(folder: SweepFolder, session: Session) -> Any:
    def command(first: int, waits: bool) -> list[str]:
        words = [sys.executable, "-m", "spinbench.cli.sweep.worker", str(folder.path.absolute()), session.name]
        return [*words, "--first", str(first), *(["--wait"] if waits else [])]

    return command
