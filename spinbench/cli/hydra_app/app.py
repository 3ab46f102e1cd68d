"""A command as a Hydra app: overrides, sweeps, --cfg, completion; each mistake in one line, before anything runs.

`hydra.main` prints tracebacks and messages of many lines, and finds a bad point of a sweep only when its turn comes.
So this drives Hydra's own application object, whose interface is stable within the version range of pyproject.toml.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from spinbench.cli.count_display import counted
from spinbench.cli.hydra_app.composer import compose_sweep, compose_sweeps
from spinbench.cli.hydra_app.error import explain_hydra_error, explain_omegaconf_error
from spinbench.cli.hydra_app.session import argument_parser, hydra_session, parse_arguments, relative_to_here
from spinbench.cli.main import USER_ERROR, one_line, tell
from spinbench.errors import UserError

MAX_NAME_BYTES = 255
"""Longest file name on common file systems."""


@dataclass(frozen=True)
class Point:
    """One run of a command: one combination of a sweep, or the only one."""

    config: DictConfig | Mapping[str, Any]
    """Without the `hydra` node; a mapping where it is resolved already, whose parts other points may share."""
    folder: Path
    """For results; made when the point runs."""
    choices: Mapping[str, str]
    """The choice of every config group."""
    overrides: tuple[str, ...]


class Command(Protocol):
    """What a Hydra app does."""

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong, as far as it shows without the work. All points are checked first."""
        ...

    def run(self, point: Point) -> None:
        """Do the work. UserError fails this point; KeyboardInterrupt ends a sweep."""
        ...


Sweep = Callable[[list[Point], Path, Sequence[str]], int]
"""Runs all points of a sweep in the sweep's folder, given the command's arguments; returns the exit code."""


def run_hydra_app(
    command_name: str, make_command: Callable[[], Command], arguments: Sequence[str], sweep: Sweep | None = None
) -> int:
    """Run a command on its arguments; returns the exit code. Raises UserError when nothing was started.

    The primary config has the command's name; the command is made only when it is to run. `sweep` runs its sweeps in
    the place of Hydra's launchers.
    """
    args = parse_arguments(command_name, arguments)
    with hydra_session(command_name, args) as hydra:
        name, overrides = args.config_name or command_name, list(args.overrides)
        if args.shell_completion:
            hydra.shell_completion(config_name=name, overrides=overrides)
            return 0
        if args.help or args.hydra_help:
            show = hydra.app_help if args.help else hydra.hydra_help
            show(config_name=name, args_parser=argument_parser(command_name), args=args)
            return 0
        with _hydra_errors(hydra, name, overrides):
            # composes once, so that a mistake in the overrides has one line in every mode
            several, master = _composed(hydra, name, overrides, args.multirun)
            if args.cfg:
                hydra.show_cfg(name, overrides, args.cfg, args.package, args.resolve)
                return 0
            if args.info:
                hydra.show_info(args.info, name, overrides)
                return 0
            _require_folder_of_mode(overrides, several)
            HydraConfig.instance().set_config(master)  # for ${hydra:...} in the folder's name
            if several and sweep is not None:
                _require_own(master.hydra, command_name)
            points = _sweep_points(hydra, master) if several else [_point(master.hydra, master.hydra.run.dir, master)]
        if several and sweep is not None:
            return sweep(points, relative_to_here(Path(str(master.hydra.sweep.dir))), arguments)
        command = make_command()
        _check(command, points)
        return _run(command, hydra, name, overrides, several)


def sweep_points(command_name: str, arguments: Sequence[str]) -> list[Point]:
    """The points that a sweep with these arguments has, without running any. Raises UserError as a run of it does."""
    args = parse_arguments(command_name, arguments)
    with hydra_session(command_name, args) as hydra:
        name, overrides = args.config_name or command_name, list(args.overrides)
        with _hydra_errors(hydra, name, overrides):
            master = hydra.compose_config(name, overrides, RunMode.MULTIRUN)
            HydraConfig.instance().set_config(master)
            return _sweep_points(hydra, master)


def compose_points(command_name: str, sweeps: Sequence[Sequence[str]]) -> list[list[Point]]:
    """The points of each of several sweeps with a command's keys, asked for within a run of another command.

    Folders mean nothing. Raises UserError for the first override that is wrong.
    """
    state = Singleton.get_state()
    try:
        with hydra_session(command_name, parse_arguments(command_name, [])) as hydra:
            # without overrides of its own, so that an error names the sweep's
            master = hydra.compose_config(command_name, [], RunMode.MULTIRUN)
            HydraConfig.instance().set_config(master)
            found, composed = [], compose_sweeps(hydra, master, sweeps)
            for overrides in sweeps:
                with _hydra_errors(hydra, command_name, list(overrides)):
                    found.append([Point(one.config, one.folder, one.choices, one.overrides) for one in next(composed)])
            return found
    finally:
        Singleton.set_state(state)


def _require_folder_of_mode(overrides: Sequence[str], several: bool) -> None:
    """Hydra passes over the folder of the other mode, and results would lie where nobody looks."""
    wrong, right = ("run", "sweep") if several else ("sweep", "run")
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    if f"hydra.{wrong}.dir" in given and f"hydra.{right}.dir" not in given:
        which = "a sweep (-m)" if several else "a single run (no -m)"
        raise UserError(f"hydra.{wrong}.dir has no effect on {which}; give hydra.{right}.dir=...")


def _composed(hydra: Hydra, name: str, overrides: list[str], multirun: bool) -> tuple[bool, DictConfig]:
    """Whether a sweep is asked for, by -m or by `hydra.mode`, and the config."""
    if not multirun:
        try:
            master = hydra.compose_config(name, overrides, RunMode.RUN)
        except HydraException:
            # what is wrong in a run may be right in a sweep: several values of one key
            if hydra.get_mode(name, overrides) != RunMode.MULTIRUN:
                raise
        else:
            if master.hydra.mode != RunMode.MULTIRUN:
                return False, master
    return True, hydra.compose_config(name, overrides, RunMode.MULTIRUN)


def _run(command: Command, hydra: Hydra, name: str, overrides: list[str], several: bool) -> int:
    def job(config: DictConfig) -> UserError | None:
        try:
            command.run(_point(HydraConfig.get(), HydraConfig.get().runtime.output_dir, config))
        except UserError as error:
            # returned, not raised: Hydra would print a line of its own, and a sweep's other points shall still run
            tell(f"error: {one_line(error)}")
            return error
        return None

    if several:
        jobs: list[JobReturn] = [job for batch in hydra.multirun(name, job, overrides) or [] for job in batch]
    else:
        jobs = [hydra.run(name, job, overrides)]
    return USER_ERROR if any(isinstance(done.return_value, UserError) for done in jobs) else 0


def _check(command: Command, points: list[Point]) -> None:
    seen: set[Path] = set()

    def check(point: Point) -> None:
        if point.folder in seen:
            raise UserError(f"{point.folder}: two points of this sweep share this folder; set hydra.sweep.subdir")
        if len(point.folder.name.encode()) > MAX_NAME_BYTES:
            raise UserError(
                f"the folder of a point would be named {point.folder.name[:40]}..., longer than {MAX_NAME_BYTES} "
                "bytes; set 'hydra.sweep.subdir=${hydra.job.num}'"
            )
        command.check(point)
        seen.add(point.folder)

    check_each(points, check)


def check_each(points: Sequence[Point], check: Callable[[Point], None]) -> None:
    """Check every point. Raises UserError for the first that is wrong, naming it where there are several."""
    with counted("checking points", points) as to_check:
        for point in to_check:
            try:
                check(point)
            except UserError as error:
                where = f" (in {' '.join(point.overrides)})" if len(points) > 1 and point.overrides else ""
                raise UserError(f"{error}{where}") from error


def _point(hydra: Any, folder: object, config: DictConfig) -> Point:
    """The point that `config` stands for; `hydra` is the node of that name, which the config may still hold."""
    if "hydra" in config:
        config = config.copy()
        with open_dict(config):
            del config["hydra"]
    return Point(config, relative_to_here(Path(str(folder))), dict(hydra.runtime.choices), _task_overrides(hydra))


def _sweep_points(hydra: Hydra, master: DictConfig) -> list[Point]:
    """Every point of a sweep, composed as Hydra's launcher would. Other sweepers choose theirs as they go."""
    if not str(master.hydra.sweeper["_target_"]).endswith(".BasicSweeper"):
        return []
    return [
        Point(one.config, relative_to_here(one.folder), one.choices, one.overrides)
        for one in compose_sweep(hydra, master, _task_overrides(master.hydra))
    ]


def _require_own(hydra: Any, command_name: str) -> None:
    """Raise UserError for a sweeper or launcher of Hydra's that a sweep of ours would not go by."""
    for key, own, instead in (
        ("sweeper", ".BasicSweeper", "it runs every combination"),
        ("launcher", ".BasicLauncher", "set launcher=serial, processes, slurm or ray"),
    ):
        target = str(hydra[key]["_target_"])
        if not target.endswith(own):
            raise UserError(f"hydra/{key} is {target}, which spinbench {command_name} -m does not use; {instead}")


def _task_overrides(hydra: Any) -> tuple[str, ...]:
    """As they were written: an interpolation in one stays an interpolation."""
    written = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return tuple(map(str, written)) if isinstance(written, list) else ()


@contextmanager
def _hydra_errors(hydra: Hydra, name: str, overrides: list[str]) -> Iterator[None]:
    try:
        yield
    except HydraException as error:

        def compose(others: list[str]) -> Any:
            return hydra.compose_config(name, others, RunMode.MULTIRUN)

        raise UserError(explain_hydra_error(error, overrides, compose)) from error
    except OmegaConfBaseException as error:
        raise UserError(explain_omegaconf_error(error)) from error
