"""What a run's meta.json says of the method, the code and the inputs; the engine adds models and machine."""

import functools
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from spinbench.cli.config.replay import ReplayConfig, ServingConfig
from spinbench.cli.engine.session import Session
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.hydra_app.session import own_choices_option
from spinbench.cli.locations import checkout_folder
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP

PACKAGES = ("spinbench", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "simpy")


@dataclass(frozen=True)
class CodeFacts:
    """What runs: asked for once per process, as asking git takes longer than a small simulation."""

    versions: Mapping[str, str]
    git_commit: str | None

    @classmethod
    @functools.cache
    def here(cls) -> "CodeFacts":
        """Of this process."""
        return cls(versions(), git_commit())


def run_meta(config: ReplayConfig, point: Point, session: Session, code: CodeFacts) -> dict[str, Any]:
    """meta.json of a replay, but for what `write_run` adds."""
    choice = point.choices["selector"]
    trace = session.trace
    return {
        "method": config.method or method_label(choice, config),
        "baseline": choice == "plain",
        "repeat": config.repeat,
        "max_num_seqs": config.scheduler.max_num_seqs,
        "engine": config.engine.kind,
        "selector": choice,
        "verification": point.choices["verification"],
        "pipeline": pipeline_label(point.choices["pipeline"], config),
        "placement": config.placement.kind,
        "switching": config.switching,
        "drafting": drafting_label(point.choices, session.setting.tree),
        **({"replicas": config.replicas, "router": point.choices["router"]} if config.replicas > 1 else {}),
        "num_speculative_tokens": (0 if choice == "plain" else session.setting.draft_length.max_num_speculative_tokens),
        "sampling": config.sampling.model_dump(),
        **session.facts,
        "trace": {
            "name": trace.name,
            "sha256": trace.sha256,
            "num_requests": len(trace.requests),
            "dropped_requests": trace.dropped_requests,
            "clipped_requests": trace.clipped_requests,
        },
        "versions": dict(code.versions),
        "git_commit": code.git_commit,
        "created": utc_now(),
        "command": command_line("replay", (*own_choices_option(), *point.overrides)),
    }


def method_label(selector: str, config: ServingConfig) -> str:
    """What reports call a run: plain, `fixed NAME`, prompt lookup, or the selector."""
    if selector == "fixed":
        drafter = config.selector.get("drafter")
        return "prompt lookup" if drafter == PROMPT_LOOKUP else f"fixed {drafter}"
    return {"epsilon_greedy": "epsilon-greedy"}.get(selector, selector.replace("_", " "))


def drafting_label(choices: Mapping[str, str], tree: TreeShape | None) -> str:
    """What reports call a draft-length policy: its name, of a tree with its shape; plain decoding has none."""
    if choices["selector"] == "plain":
        return "fixed"
    return f"tree {'-'.join(map(str, tree.branching))}" if tree else choices["drafting"]


def pipeline_label(pipeline: str, config: ReplayConfig) -> str:
    """What reports call a pipeline: `serial`, or its depth and how it is split."""
    if pipeline != "micro_batches":
        return pipeline
    depth, split = config.pipeline.get("depth"), config.pipeline.get("split")
    return f"{depth} depth {split}" if depth == "adaptive" else f"depth {depth} {split}"


def utc_now() -> str:
    """The time, to the second, as all files say when they were made: `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def versions() -> dict[str, str]:
    """Python and the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
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
