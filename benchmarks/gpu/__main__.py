"""All that a GPU is asked for, in one command, in under nine minutes and without a network.

    python -m benchmarks.gpu [--out runs/gpu] [--parts facts,kernels,...] [--minutes 8.5]
    python -m benchmarks.gpu --miniature            the same code on a CPU, at tiny sizes; its times mean nothing

One folder: a CSV a part, meta.yaml, and summary.md. What was not measured is there with the reason.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are imported

import pandas as pd
import yaml

from benchmarks.entry import run_main
from benchmarks.gpu import attention_speed, kernel_checks, replays, steps
from benchmarks.gpu.replays import CommandLine, NotMeasured
from benchmarks.gpu.scene import MINUTE_S, Scene
from benchmarks.gpu.summary import Part, write_summary
from spinbench.calibration.device_facts import measure_facts
from spinbench.cli.hardware import device_hardware
from spinbench.cli.provenance import git_commit, versions

PARTS = (
    "kernels",
    "bandwidth",
    "layouts",
    "steps",
    "drafts",
    "waits",
    "overlap",
    "losslessness",
    "serving",
    "validation",
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: all that was measured is right; 1: a kernel is wrong, or a float32 answer differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8.5, help="no part begins later than this")
    parser.add_argument("--miniature", action="store_true", help="tiny sizes, on the CPU")
    options = parser.parse_args(arguments)
    wanted = options.parts.split(",")
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        parser.error(f"--parts has {unknown[0]!r}; parts are {', '.join(PARTS)}")
    if not options.miniature and not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU here; --miniature runs the same code on a CPU")
    scene = Scene.miniature() if options.miniature else Scene.on_gpu(options.minutes * MINUTE_S)
    options.out.mkdir(parents=True, exist_ok=True)
    return run(scene, options.out, wanted)


def run(scene: Scene, out: Path, wanted: list[str]) -> int:
    """Measure the parts that are wanted, write the folder."""
    start_s = time.perf_counter()
    facts = measure_facts(scene.device, scene.dtype)
    meta = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "miniature": not scene.on_cuda,
        "hardware": device_hardware(scene.device),
        "versions": versions(),
        "git_commit": git_commit(),
        **asdict(facts),
    }
    (out / "meta.yaml").write_text(yaml.safe_dump(meta, sort_keys=False), encoding="utf-8")
    models: list[steps.Models] = []

    def shared_models() -> steps.Models:
        if not models:
            models.append(steps.Models.made(scene))
        return models[0]

    def line() -> CommandLine:
        models.clear()  # their memory is the runs' now
        if scene.on_cuda:
            torch.cuda.empty_cache()
        return CommandLine(out, scene.limit_s + 0.5 * MINUTE_S - (time.perf_counter() - start_s))

    measures: dict[str, Callable[[], pd.DataFrame]] = {
        "kernels": lambda: kernel_checks.check_kernels(scene),
        "bandwidth": lambda: attention_speed.bandwidth(scene, facts.copy_bytes_per_s),
        "layouts": lambda: attention_speed.layouts(scene),
        "steps": lambda: steps.target_steps(scene, shared_models(), facts.copy_bytes_per_s),
        "drafts": lambda: steps.draft_loops(scene, shared_models()),
        "waits": lambda: steps.waits(scene, shared_models()),
        "overlap": lambda: steps.overlap(scene, shared_models()),
        "losslessness": lambda: replays.losslessness(scene, line()),
        "serving": lambda: replays.serving(scene, line()),
        "validation": lambda: replays.profile_and_validate(scene, line()),
    }
    parts = []
    for name, measure in measures.items():
        if name not in wanted:
            parts.append(Part(name, None, "not asked for", 0.0))
            continue
        parts.append(_measured(name, measure, time.perf_counter() - start_s, scene.limit_s))
        if parts[-1].table is not None:
            parts[-1].table.to_csv(out / f"{name}.csv", index=False)
        print(f"{time.perf_counter() - start_s:6.1f} s  {name}: {parts[-1].reason or 'measured'}", flush=True)
    write_summary(out / "summary.md", meta, parts)
    return int(_is_wrong(parts))


def _measured(name: str, measure: Callable[[], pd.DataFrame], spent_s: float, limit_s: float) -> Part:
    if spent_s > limit_s:
        return Part(name, None, f"no time left: {spent_s:.0f} s were spent", 0.0)
    start_s = time.perf_counter()
    try:
        return Part(name, measure(), None, time.perf_counter() - start_s)
    except (NotMeasured, RuntimeError) as error:  # one part that fails must not take the others along: it says why
        return Part(name, None, f"{type(error).__name__}: {error}".splitlines()[0], time.perf_counter() - start_s)


def _is_wrong(parts: list[Part]) -> bool:
    for part in parts:
        if part.table is None:
            continue
        if part.name == "kernels" and not part.table["right"].all():
            return True
        if part.name == "losslessness":
            exact = part.table[part.table["dtype"] == "float32"]
            if (exact["equal"] < exact["answers"]).any():
                return True
    return False


if __name__ == "__main__":
    run_main(main)
