"""What `spinbench profile` does: time passes and jobs of the models, or estimate them, and score the cost model."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from spinbench.calibration.datasheet.analytic import analytic_profile
from spinbench.calibration.datasheet.device import read_device
from spinbench.calibration.fitting.score import score_profile, write_scores
from spinbench.calibration.measuring.bench import BLOCK_SIZE, LESS, Bench, num_blocks
from spinbench.calibration.measuring.device_facts import measure_facts
from spinbench.calibration.measuring.measure import MeasurePlan, left_out_of, measure, pace_of
from spinbench.calibration.measuring.overlap import measure_overlap
from spinbench.calibration.profile.device_meta import DeviceMeta
from spinbench.calibration.profile.job_plan import job_groups
from spinbench.calibration.profile.partial import PartialProfile
from spinbench.calibration.profile.plan import ProfileLimits, pass_points
from spinbench.calibration.profile.profile_file import META_FILE, Profile, write_profile
from spinbench.cli.config.device_choice import choose_device, with_known_dtype
from spinbench.cli.config.replay import RuntimeSection, parse_config
from spinbench.cli.engine.assemble import num_threads
from spinbench.cli.engine.execution import execution_of
from spinbench.cli.engine.model_shelf import ModelShelf
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.interrupt import Interrupted, uninterrupted
from spinbench.cli.out_folder import remove_if_empty
from spinbench.cli.profile.config import ProfileConfig
from spinbench.cli.profile.dtype import THIS_MACHINE, profile_dtype
from spinbench.cli.profile.meta import datasheet_meta, profile_meta, this_device_meta, timings_setting
from spinbench.cli.profile.models import LoadedModels, drafter_metas, load_models, named_shapes, shape_metas
from spinbench.cli.profile.view import print_scores, show_timings
from spinbench.cli.progress import show_stage
from spinbench.errors import UserError
from spinbench.models.free_memory import free_bytes
from spinbench.models.shape_model import require_room
from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory
from spinbench.runtime.sampling.sampler import Sampling


class ProfileCommand:
    """The command, with the models that its points share."""

    def __init__(self) -> None:
        self._shelf = ModelShelf()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config, device or folder; loads no model."""
        config = parse_config(point.config, ProfileConfig)
        if (point.folder / META_FILE).exists():
            raise UserError(
                f"{point.folder}: holds a profile already; delete it, or set hydra.run.dir to another folder"
            )
        _sampling(config)
        _ = config.limits
        shapes = named_shapes(config)
        if config.device != THIS_MACHINE:
            read_device(config.device).flops(_engine(config).dtype)
        else:
            engine = _engine(config)
            execution_of(engine)
            if shapes is not None:
                require_room(shapes.values(), getattr(torch, engine.dtype), choose_device(engine))

    def run(self, point: Point) -> None:
        """Leave the profile in the point's folder. Raises UserError, and Interrupted on Ctrl-C, which loses nothing."""
        config = parse_config(point.config, ProfileConfig)
        try:
            if config.device == THIS_MACHINE:
                self._measure(config, point)
            else:
                self._estimate(config, point)
        except KeyboardInterrupt as error:
            raise Interrupted(f"the same command goes on from the timings kept in {point.folder}") from error

    def _measure(self, config: ProfileConfig, point: Point) -> None:
        engine = _engine(config)
        enough_memory = partial(
            too_little_memory, f"profiling {config.models.target}", f"{LESS}, or take smaller or fewer models"
        )
        with num_threads(engine.num_threads), enough_memory():
            device = choose_device(engine)
            with show_stage("loading the models"):
                models = load_models(config, self._shelf, engine.dtype, device)
            limits = config.limits
            _check_reach(limits, models, device)
            about = this_device_meta(device)
            kept = PartialProfile(point.folder, timings_setting(config, engine, models, about))
            try:
                with enough_memory():
                    self._time(config, point, models, about, kept)
                kept.remove()
            except TooLittleMemory:
                # it is not gone on with at other limits
                kept.remove()
                remove_if_empty(point.folder)
                raise
            finally:
                kept.close()

    def _time(
        self, config: ProfileConfig, point: Point, models: LoadedModels, about: DeviceMeta, kept: PartialProfile
    ) -> None:
        engine, limits, target = _engine(config), config.limits, models.target.model
        bench = Bench(models.target, models.drafters, _sampling(config), limits, execution_of(engine))
        plan = _plan(config, models)
        facts = measure_facts(target.device, target.dtype)  # large tensors: before anything could be lost
        with show_timings() as on_progress:
            tables = measure(bench, plan, kept, on_progress)
        with show_stage("two lanes side by side"):
            overlap = measure_overlap(bench, models.metas, drafter_metas(config), limits, config.repeats)
        about = about.model_copy(update=asdict(facts) | {"pace": pace_of(kept), "overlap": overlap})
        left_out = left_out_of(plan, kept)
        meta = profile_meta(config, engine, point, about, models.metas, tables, did_not_fit=left_out)
        try:
            _save(point.folder, Profile(meta, tables, str(point.folder)))
        except UserError as error:
            if left_out is None:
                raise
            raise TooLittleMemory(
                f"{left_out.points} passes and jobs were out of memory, and the rest makes no profile ({error}); {LESS}"
            ) from error

    def _estimate(self, config: ProfileConfig, point: Point) -> None:
        engine, spec = _engine(config), read_device(config.device)
        dtype = engine.dtype
        shapes = named_shapes(config)
        if shapes is None:
            with show_stage("loading the models"):
                models = load_models(config, self._shelf, dtype, torch.device("cpu"))
            shapes, metas = models.shapes, models.metas
        else:
            metas = shape_metas(shapes, dtype)
        tables = analytic_profile(
            spec,
            shapes[config.models.target],
            drafter_metas(config),
            shapes,
            dtype=dtype,
            limits=config.limits,
            layouts=config.layouts,
            tensor_parallel=config.tensor_parallel,
        )
        shape_sources = {shape.name: shape.source for shape in shapes.values()}
        assumptions = {"device": spec.model_dump(mode="json"), "shapes": shape_sources}
        about = datasheet_meta(spec, config.tensor_parallel)
        meta = profile_meta(config, engine, point, about, metas, tables, assumptions)
        _save(point.folder, Profile(meta, tables, str(point.folder)))


def _save(folder: Path, profile: Profile) -> None:
    scores = score_profile(profile)
    with uninterrupted():
        # meta.yaml, which makes it a profile, is written last
        folder.mkdir(parents=True, exist_ok=True)
        write_scores(folder, scores)
        write_profile(folder, profile)
    print_scores(Console(), folder, profile.meta, scores)


def _engine(config: ProfileConfig) -> RuntimeSection:
    if not isinstance(config.engine, RuntimeSection):
        raise TypeError("the config was checked to be of the runtime")
    named = profile_dtype(config.engine.dtype, config.device)
    return with_known_dtype(config.engine.model_copy(update={"dtype": named}))


def _sampling(config: ProfileConfig) -> Sampling:
    return Sampling(config.sampling.temperature, config.sampling.top_p, config.sampling.top_k, config.sampling.kind)


def _plan(config: ProfileConfig, models: LoadedModels) -> MeasurePlan:
    limits, target = config.limits, models.target.name
    passes = [pass_points(meta.name, meta.name == target, config.layouts, limits) for meta in models.metas]
    groups = job_groups([meta for meta, _, _ in models.drafters], config.layouts, limits)
    infos = tuple(info for _, info, _ in models.drafters)
    return MeasurePlan(
        tuple(map(tuple, passes)), tuple(groups), infos, limits, config.repeats, config.precision, config.max_repeats
    )


def _check_reach(limits: ProfileLimits, models: LoadedModels, device: torch.device) -> None:
    """Raise UserError if the target has no such contexts, or the KV pools cannot fit."""
    longest = models.target.max_model_len_tokens
    if limits.max_context_tokens > longest:
        raise UserError(f"max_context_tokens is {limits.max_context_tokens}; {models.target.name} takes {longest}")
    needed = num_blocks(limits) * BLOCK_SIZE * sum(meta.kv_bytes_per_token for meta in models.metas)
    free = free_bytes(device)
    if needed > free:
        raise UserError(
            f"the KV caches of {limits.max_num_seqs} requests of {limits.max_context_tokens} tokens need "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; lower max_num_seqs or max_context_tokens"
        )
