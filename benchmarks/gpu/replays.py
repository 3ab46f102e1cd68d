"""Whole runs through the command line, each in a process of its own that ends when its time is over."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gpu.scene import Scene
from spinbench.metrics.store import read_run
from spinbench.models.fetch import default_model_path, is_complete
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP

INFLATED_DRAFTER = "smollm2-d576-slim-general@llama-68m-shape"


@dataclass(frozen=True)
class NotMeasured(Exception):
    """Why a part has no result."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class CommandLine:
    """Runs spinbench's commands in `folder`."""

    folder: Path
    left_s: float
    """Seconds until such a process is ended."""

    def __call__(self, *arguments: str) -> None:
        """Raise NotMeasured with the command's own words if it fails or takes too long."""
        command = [sys.executable, "-m", "spinbench", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, self.left_s), check=False)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"ended after {self.left_s:.0f} s: spinbench {' '.join(arguments)}") from None
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise NotMeasured(f"spinbench {arguments[0]}: {words[-1] if words else done.returncode}")


def losslessness(scene: Scene, run: CommandLine) -> pd.DataFrame:
    """Answers of plain decoding by torch's attention, and with kernels, graphs and drafters: how many are equal.

    The models are shapes with random weights, whose choices are often near ties: in bfloat16 some answers part.
    """
    trace = run.folder / "random.jsonl"
    rng = np.random.default_rng(0)
    count, tokens = (32, 64) if scene.on_cuda else (3, 5)
    lines = [
        {
            "id": f"r{row}", "arrival_s": 0.0, "max_new_tokens": tokens, "ignore_eos": True, "seed": row,
            "prompt_token_ids": rng.integers(0, 32_000, int(rng.integers(5, 40))).tolist(),
        }
        for row in range(count)
    ]  # fmt: skip
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    target = "llama-1.1b-shape" if scene.on_cuda else "llama-68m-shape"
    # the target itself, which is always right, and one that never is
    drafters = target if target == "llama-68m-shape" else f"{target},llama-68m-shape"
    ours = ["engine.attention=auto", "engine.graphs=auto"] if scene.on_cuda else ["engine.graphs=eager"]
    shared = [
        "models=huggingface", f"models.target={target}", f"models.drafters=[{drafters},{PROMPT_LOOKUP}]",
        f"trace.path={trace}", "arrivals=all_at_once", "scheduler.max_num_seqs=8",
    ]  # fmt: skip
    rows = []
    for dtype in ("float32", "bfloat16") if scene.on_cuda else ("float32",):
        folder = run.folder / "losslessness" / dtype
        plain = folder / "plain"
        common = [*shared, f"engine.dtype={dtype}"]
        run(
            "replay", *common, "selector=plain", "engine.attention=torch", "engine.graphs=off", f"hydra.run.dir={plain}"
        )
        expected = answers(plain)
        for name, decisions in (
            ("plain", ["selector=plain"]),
            ("fixed", ["selector=fixed", f"selector.drafter={target}"]),
            ("round_robin decomposed", ["selector=round_robin", "verification=decomposed", "verification.width=32"]),
        ):
            made = folder / f"ours {name}"
            run("replay", *common, *ours, *decisions, f"hydra.run.dir='{made}'")
            got = answers(made)
            parted = [_first_difference(expected[key], got[key]) for key in expected]
            rows.append(
                {
                    "dtype": dtype,
                    "run": name,
                    "answers": len(expected),
                    "equal": sum(place is None for place in parted),
                    "earliest_divergence": min((place for place in parted if place is not None), default=None),
                }
            )
    return pd.DataFrame(rows)


def answers(folder: Path) -> dict[str, list[int]]:
    """Output token ids of a run by request."""
    requests = read_run(folder).requests
    columns = requests[["request_id", "output_token_ids"]]
    return {str(name): [int(token) for token in tokens] for name, tokens in columns.itertuples(index=False)}


def _first_difference(left: list[int], right: list[int]) -> int | None:
    return next((place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)


def serving(scene: Scene, run: CommandLine) -> pd.DataFrame:
    """Throughput of the inflated 7B target by every kind of method and batch, beside Hugging Face's `generate`."""
    if not scene.on_cuda:
        raise NotMeasured("a model of LLaMA-7B's sizes is for a GPU")
    if not is_complete(default_model_path()):
        raise NotMeasured(f"the default model is not in {default_model_path()}; bring it there (spinbench fetch)")
    drafters = f"[{INFLATED_DRAFTER},smollm2-d576-general@llama-265m-shape,{PROMPT_LOOKUP},smollm2-ngram]"
    shared = [
        "models=inflated_7b", f"models.drafters={drafters}", "arrivals=all_at_once", "trace.num_prompts=32",
        "trace.max_output_tokens=64", "scheduler.max_num_seqs=1,8,32",
    ]  # fmt: skip
    sweeps = {
        "selectors": ["selector=plain,spin,epsilon_greedy"],
        "fixed": ["selector=fixed", f"selector.drafter={INFLATED_DRAFTER}"],
        "joint": ["selector=joint", "drafting=by_selector"],
        "lanes": ["selector=spin", "placement=drafters_together", "pipeline=micro_batches", "pipeline.depth=2"],
        "huggingface": ["engine=huggingface", "selector=plain"],
        "huggingface_assisted": ["engine=huggingface", "selector=fixed", f"selector.drafter={INFLATED_DRAFTER}"],
    }
    failures, rows = [], []
    for name, decisions in sweeps.items():
        folder = run.folder / "serving" / name
        try:
            run("replay", "-m", *shared, *decisions, f"hydra.sweep.dir={folder}")
        except NotMeasured as reason:
            failures.append(f"{name}: {reason}")
        for path in sorted(folder.glob("*/summary.json")):
            summary = json.loads(path.read_text(encoding="utf-8"))
            config = read_run(path.parent).config
            rows.append(
                {
                    "method": f"{name}: {config['selector']['_target_'].rpartition('.')[2]}",
                    "batch": config["scheduler"]["max_num_seqs"],
                    "output_throughput": summary.get("output_throughput"),
                    "acceptance_length": summary.get("spec_decode_acceptance_length"),
                    "median_tpot_ms": summary.get("median_tpot_ms"),
                }
            )
    if not rows:
        raise NotMeasured("; ".join(failures))
    frame = pd.DataFrame(rows)
    plain = frame[frame["method"] == "selectors: PlainSelector"].set_index("batch")["output_throughput"]
    frame["over_plain"] = frame["output_throughput"] / frame["batch"].map(plain)
    return pd.concat([frame, pd.DataFrame({"method": failures})], ignore_index=True)


def profile_and_validate(scene: Scene, run: CommandLine) -> pd.DataFrame:
    """A profile of the inflated pair of models, and both engines on the same requests."""
    if not scene.on_cuda:
        raise NotMeasured("it takes minutes on a CPU: make validation")
    if not is_complete(default_model_path()):
        raise NotMeasured(f"the default model is not in {default_model_path()}; bring it there (spinbench fetch)")
    models = ["models=inflated_7b", f"models.drafters=[{INFLATED_DRAFTER},{PROMPT_LOOKUP}]"]
    limits = [
        "max_num_seqs=8", "max_context_tokens=512", "max_num_batched_tokens=512", "max_num_speculative_tokens=4",
        "layouts=[packed]", "repeats=3",
    ]  # fmt: skip
    profile = run.folder / "profile"
    run("profile", *models, *limits, f"hydra.run.dir={profile}")
    requests = ["trace.num_prompts=16", "trace.sample_seed=526", "trace.max_output_tokens=64"]
    record = run.folder / "record"
    run(
        "record",
        *models,
        "trace.num_prompts=16",
        "trace.sample_seed=526",
        "trace.max_output_tokens=64",
        f"out={record}",
    )
    folder = run.folder / "validation"
    run(
        "validate", *models, *requests, "scheduler.max_num_seqs=8", "loads=[0.7]", "repeats=3",
        f"simulation.profile={profile}", f"simulation.source={record}", f"hydra.run.dir={folder}",
    )  # fmt: skip
    return pd.read_csv(profile / "scores.csv")
