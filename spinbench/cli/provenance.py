"""What a run's meta.json says of the machine, the code and the models."""

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from spinbench.cli.assemble import Assembly
from spinbench.cli.hydra_app import Point
from spinbench.cli.locations import checkout_folder
from spinbench.cli.schema import LOOKUP_SUFFIX, PROMPT_LOOKUP, ReplayConfig
from spinbench.models.load import macs_per_token
from spinbench.models.packed_drafter import packaged_drafters

PACKAGES = ("spinbench", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


def run_meta(config: ReplayConfig, point: Point, assembly: Assembly) -> dict[str, Any]:
    """meta.json of a replay, but for what `write_run` adds."""
    choice = point.choices["selector"]
    target, trace = assembly.target, assembly.trace
    return {
        "method": config.method or method_label(choice, config),
        "baseline": choice == "plain",
        "repeat": config.repeat,
        "max_num_seqs": config.scheduler.max_num_seqs,
        "engine": point.choices["engine"],
        "dtype": config.engine.dtype,
        "selector": choice,
        "verification": point.choices["verification"],
        "num_speculative_tokens": (
            0 if choice == "plain" else assembly.setting.draft_length.max_num_speculative_tokens
        ),
        "sampling": config.sampling.model_dump(),
        "models": {
            "target": {
                "name": target.name,
                "kind": target.kind,
                "sha256": target.weights_sha256,
                "macs_per_token": macs_per_token(target.model),
            },
            "drafters": [
                {
                    "name": info.name,  # as in the rounds: a model behind a lookup is another drafter than the model
                    "kind": drafter_kind(info.name),
                    "sha256": model.weights_sha256,
                    "macs_per_token": model.macs_per_token,
                }
                for info, model in assembly.drafters
                if model is not None
            ],
        },
        "trace": {
            "name": trace.name,
            "sha256": trace.sha256,
            "num_requests": len(trace.requests),
            "dropped_requests": trace.dropped_requests,
            "clipped_requests": trace.clipped_requests,
        },
        "hardware": hardware(target.model.device),
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": command_line("replay", point.overrides),
    }


def method_label(selector: str, config: ReplayConfig) -> str:
    """What reports call a run: plain, `fixed NAME`, prompt lookup, or the selector."""
    if selector == "fixed":
        drafter = config.selector.get("drafter")
        return "prompt lookup" if drafter == PROMPT_LOOKUP else f"fixed {drafter}"
    return {"epsilon_greedy": "epsilon-greedy"}.get(selector, selector.replace("_", " "))


def drafter_kind(name: str) -> str:
    """Where a drafter comes from: packaged, path or hub."""
    name = name.removesuffix(LOOKUP_SUFFIX)
    if name in packaged_drafters():
        return "packaged"
    return "path" if Path(name).expanduser().exists() else "hub"


def hardware(device: torch.device) -> dict[str, Any]:
    """The device and the machine around it."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }


def versions() -> dict[str, str]:
    """Python and the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this checkout, with `-dirty` when files differ from it; None outside a checkout."""
    folder = checkout_folder()
    if folder is None:
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return result.stdout.strip() or None


def command_line(name: str, overrides: Sequence[str]) -> str:
    """The command that gives this run again."""
    return shlex.join(["spinbench", name, *overrides])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
