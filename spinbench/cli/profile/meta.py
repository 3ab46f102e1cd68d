"""What a profile says of itself: its device, what all its timings have in common, and where it comes from."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import psutil
import torch

from spinbench.calibration.datasheet.device import DeviceSpec
from spinbench.calibration.profile.device_meta import DeviceMeta
from spinbench.calibration.profile.meta import (
    FORMAT,
    DidNotFitMeta,
    LimitsMeta,
    ModelMeta,
    ProfileMeta,
    RowsMeta,
    SamplingMeta,
)
from spinbench.calibration.profile.profile_file import ProfileTables
from spinbench.cli.config.device_choice import known_dtype
from spinbench.cli.config.replay import RuntimeSection
from spinbench.cli.engine.execution import attention_kind, graph_mode
from spinbench.cli.hardware import device_hardware, profiled_name
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.profile.config import ProfileConfig
from spinbench.cli.profile.models import LoadedModels, drafter_metas
from spinbench.cli.replay.provenance import command_line, git_commit, utc_now, versions


def this_device_meta(device: torch.device) -> DeviceMeta:
    """What is known of a device that is here, before anything is timed on it."""
    hardware = device_hardware(device)
    on_gpu = device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if on_gpu else psutil.virtual_memory().total
    return DeviceMeta(
        name=profiled_name(hardware),
        type="cuda" if on_gpu else "cpu",
        memory_bytes=memory,
        count=1,
        num_threads=torch.get_num_threads(),
        driver=f"CUDA {torch.version.cuda}" if on_gpu else os.uname().release,
    )


def datasheet_meta(spec: DeviceSpec, count: int) -> DeviceMeta:
    """What is known of `count` devices from a datasheet."""
    return DeviceMeta(
        name=spec.name,
        type="cuda",
        memory_bytes=spec.memory_bytes * count,
        count=count,
        num_threads=None,
        driver=None,
    )


def timings_setting(
    config: ProfileConfig, engine: RuntimeSection, models: LoadedModels, about: DeviceMeta
) -> dict[str, Any]:
    """What timings must have in common to belong to one profile; `engine` is the config's, its dtype known."""
    return {
        "format": FORMAT,
        "device": about.model_dump(mode="json"),
        "dtype": engine.dtype,
        "attention": attention_kind(engine),
        "graphs": graph_mode(engine),
        "models": {meta.name: meta.sha256 for meta in models.metas},
        "drafters": [meta.name for meta, _, _ in models.drafters],
        "sampling": config.sampling.model_dump(),
        "limits": asdict(config.limits),
        "layouts": list(config.layouts),
        "versions": versions(),
    }


def profile_meta(
    config: ProfileConfig,
    engine: RuntimeSection,
    point: Point,
    about: DeviceMeta,
    models: tuple[ModelMeta, ...],
    tables: ProfileTables,
    assumptions: Mapping[str, Any] | None = None,
    did_not_fit: DidNotFitMeta | None = None,
) -> ProfileMeta:
    """The meta file of these tables; `assumptions` None = they were measured, else they follow from these."""
    return ProfileMeta(
        format=FORMAT,
        kind="measured" if assumptions is None else "analytic",
        device=about,
        dtype=known_dtype(engine),
        sampling=SamplingMeta(**config.sampling.model_dump()),
        limits=LimitsMeta(**asdict(config.limits)),
        target=config.models.target,
        models=models,
        drafters=drafter_metas(config),
        num_rows=RowsMeta(passes=len(tables.passes), jobs=len(tables.jobs), host=len(tables.gaps)),
        versions=versions(),
        git_commit=git_commit(),
        created=utc_now(),
        command=command_line("profile", point.overrides),
        assumptions=assumptions or {},
        did_not_fit=did_not_fit,
    )
