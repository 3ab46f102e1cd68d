"""All that a GPU is asked for, in one command, in under nine minutes and without a network.

    python -m benchmarks.gpu [--out runs/gpu] [--parts steps,drafts,...] [--minutes 8.8]
    python -m benchmarks.gpu --miniature            the same code on a CPU, at tiny sizes; its times mean nothing

One folder: a CSV a part, whose rows are there as soon as they are measured, meta.yaml, and summary.md, written anew
behind each part: whatever ends the command leaves what was measured. What was not is there with the reason.
"""

import argparse
import gc
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are imported

import yaml

from benchmarks.entry import run_main
from benchmarks.gpu import attention_speed, kernel_checks, losslessness, serving, steps, validation
from benchmarks.gpu.part import Allowance, Part, Row, measured
from benchmarks.gpu.scene import MINUTE_S, Scene
from benchmarks.gpu.summary import in_one_line, verdicts, write_summary
from spinbench.calibration.measuring.device_facts import measure_facts
from spinbench.cli.hardware import device_hardware
from spinbench.cli.replay.provenance import git_commit, utc_now, versions

PARTS = {
    "steps": 60.0,
    "drafts": 30.0,
    "waits": 15.0,
    "overlap": 30.0,
    "kernels": 110.0,
    "bandwidth": 45.0,
    "layouts": 45.0,
    "losslessness": 90.0,
    "serving": 170.0,
    "validation": 200.0,
}
"""In the order in which they are measured, with the seconds that each may take on a GPU at the most."""
LEAST_S = 3.0
"""A part for which less is left is not begun."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: all that was measured is right; 1: a kernel or an answer is wrong, or a part broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8.8, help="after which nothing is measured any more")
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
    start_s, allowance = time.perf_counter(), Allowance(scene.limit_s)
    facts = measure_facts(scene.device, scene.dtype)
    meta = {
        "created": utc_now(),
        "miniature": not scene.on_cuda,
        "hardware": device_hardware(scene.device),
        "driver": driver() if scene.on_cuda else None,
        "sizes": scene.sizes,
        "versions": versions(),
        "git_commit": git_commit(),
        **asdict(facts),
    }
    (out / "meta.yaml").write_text(yaml.safe_dump(meta, sort_keys=False), encoding="utf-8")
    made: list[steps.Models] = []

    def models() -> steps.Models:
        if not made:
            made.append(steps.Models.made(scene))
        return made[0]

    def alone(measure: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
        made.clear()  # their memory is that of other processes now
        gc.collect()
        if scene.on_cuda:
            torch.cuda.empty_cache()
        return measure

    copy = facts.copy_bytes_per_s
    measures: dict[str, Callable[[Allowance], Iterator[Row]]] = {
        "steps": lambda own: steps.target_steps(scene, models(), copy),
        "drafts": lambda own: steps.draft_loops(scene, models()),
        "waits": lambda own: steps.waits(scene, models()),
        "overlap": lambda own: steps.overlap(scene, models()),
        "kernels": lambda own: alone(kernel_checks.check_kernels)(scene, own),
        "bandwidth": lambda own: attention_speed.bandwidth(scene, copy),
        "layouts": lambda own: attention_speed.layouts(scene),
        "losslessness": lambda own: alone(losslessness.losslessness)(scene, out, own),
        "serving": lambda own: serving.serving(scene, out, own),
        "validation": lambda own: validation.profile_and_validate(scene, out, own),
    }
    parts: list[Part] = []
    for name, most_s in PARTS.items():
        if name not in wanted:
            parts.append(Part(name, None, "not asked for", 0.0))
        elif allowance.left_s < LEAST_S:
            parts.append(Part(name, None, "no time was left", 0.0))
        else:
            own = allowance.at_most(most_s) if scene.on_cuda else allowance
            parts.append(measured(name, measures[name], own, out / f"{name}.csv"))
            print(f"{time.perf_counter() - start_s:6.1f} s  {name}: {parts[-1].reason or 'measured'}", flush=True)
        waiting = [Part(one, None, "not reached", 0.0) for one in list(PARTS)[len(parts) :]]
        write_summary(out / "summary.md", meta, [*parts, *waiting])
    print(f"{in_one_line(verdicts(parts, scene.on_cuda))} All of it: {out / 'summary.md'}")
    return int(_is_wrong(parts))


def driver() -> str | None:
    """NVIDIA's driver, as its own tool names it."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_wrong(parts: list[Part]) -> bool:
    judged = [part.table["right"] for part in parts if part.table is not None and "right" in part.table]
    return any(part.is_broken for part in parts) or not all(column.all() for column in judged)


if __name__ == "__main__":
    run_main(main)
