"""Hydra while a command uses it: the command's arguments, where the files are, a user's own choices."""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra import version as hydra_version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from spinbench.cli.hydra_app.composition_cache import CompositionCache
from spinbench.cli.hydra_app.config_loader import ComposedOnce
from spinbench.cli.hydra_app.override_value import override_value
from spinbench.cli.locations import shipped_folder
from spinbench.errors import UserError


@dataclass(frozen=True)
class _OwnChoices:
    """The folder of --config-dir, for what is composed within a command."""

    folder: Path
    kept: CompositionCache
    """What was composed with it."""


_own_choices: ContextVar[_OwnChoices | None] = ContextVar("own_choices", default=None)
_of_shipped: ContextVar[CompositionCache | None] = ContextVar("of_shipped", default=None)


def relative_to_here(path: Path) -> Path:
    """Relative to the working directory where it lies below it: what a person wants to read."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


@contextmanager
def hydra_session(task_name: str, args: argparse.Namespace) -> Iterator[Hydra]:
    """Hydra with the files that these arguments name. Raises UserError where there is no such folder."""
    hydra_version.setbase("1.3")
    # for hydra.sweep.subdir: a path among the overrides must not become folders inside folders
    OmegaConf.register_new_resolver("folder_name", lambda text: str(text).replace("/", "_"), replace=True)
    # for search.set_ups: all values of a list as a sweep over them, quoted as on a command line
    OmegaConf.register_new_resolver("each", _sweep_over, replace=True)
    search_path = create_config_search_path(str(Path(args.config_path or shipped_folder("conf")).absolute()))
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise UserError(f"--config-dir {args.config_dir}: no such folder")
    own = _own_choices.get()
    if args.config_dir is not None:
        own = _OwnChoices(Path(args.config_dir).absolute(), CompositionCache())
    if own is not None:
        search_path.prepend("command-line", f"file://{own.folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        with _importable(own), composed_once() as of_shipped:
            # files that came with the package never change, others may be others when the next command is given
            kept = CompositionCache() if args.config_path else own.kept if own else of_shipped
            main = kept if args.config_path else of_shipped
            files = {"command-line": kept, "main": main, "hydra": of_shipped, "schema": of_shipped}
            hydra = Hydra(task_name, ComposedOnce(search_path, kept, files))
            GlobalHydra.instance().initialize(hydra)
            yield hydra
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def composed_once() -> Iterator[CompositionCache]:
    """What sessions inside compose of files that came with the package alone, each composition once."""
    kept = _of_shipped.get() or CompositionCache()
    outer = _of_shipped.set(kept)
    try:
        yield kept
    finally:
        _of_shipped.reset(outer)


def own_choices_option() -> tuple[str, ...]:
    """`--config-dir FOLDER` as the command under way was given it, for whoever wants to give it again."""
    own = _own_choices.get()
    return () if own is None else ("--config-dir", str(relative_to_here(own.folder)))


def _sweep_over(values: Sequence[object]) -> str:
    return ",".join(shlex.quote(override_value(value)) for value in values)


@contextmanager
def _importable(own: _OwnChoices | None) -> Iterator[None]:
    """A user's modules beside their YAML files: what is in their folder can be named by its dotted name."""
    before, outer = list(sys.path), _own_choices.set(own)
    if own is not None:
        sys.path.append(str(own.folder))
    try:
        yield
    finally:
        sys.path[:] = before
        _own_choices.reset(outer)


def argument_parser(name: str) -> argparse.ArgumentParser:
    """Of a command's arguments, as Hydra has it."""
    parser = get_args_parser()
    parser.prog = f"spinbench {name}"
    return parser


def parse_arguments(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command. Raises UserError for what cannot be read or does not go together."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"spinbench {name}: {message}; see spinbench {name} --help")

    parser = argument_parser(name)
    parser.error = refuse
    args = parser.parse_intermixed_args(arguments)
    modes = [args.run, args.multirun, args.cfg is not None, args.info is not None, args.shell_completion]
    if sum(map(bool, modes)) > 1:
        refuse("only one of --run, --multirun, --cfg, --info and --shell-completion can be given")
    if args.resolve and not args.cfg and not args.help:
        refuse("--resolve goes with --cfg")
    if args.experimental_rerun is not None:
        refuse("--experimental-rerun is not supported: a run's folder has its config.yaml and its command in meta.json")
    return args
