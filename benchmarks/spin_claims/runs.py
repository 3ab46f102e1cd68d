"""Runs that are not there yet, and one row of figures for each run that is."""

import contextlib
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from spinbench.cli.config.replay import run_config
from spinbench.cli.hydra_app.app import Point, sweep_points
from spinbench.cli.replay.command import Replay
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.metrics.store import SUMMARY_FILE, Run, read_run

REPLAY = Replay()


def run_sweep(arguments: list[str], deadline_s: float) -> int:
    """Run the points of `spinbench replay -m ARGUMENTS` that have no run yet; returns how many are left at the end.

    Raises SystemExit for a folder with a run of another config.
    """
    left = 0
    for point in sweep_points("replay", arguments):
        if (point.folder / SUMMARY_FILE).exists():
            _check_same(point)
        elif time.monotonic() > deadline_s:
            left += 1
        else:
            REPLAY.check(point)
            with contextlib.redirect_stdout(io.StringIO()):
                REPLAY.run(point)
    return left


def _check_same(point: Point) -> None:
    there = OmegaConf.to_container(OmegaConf.load(point.folder / "config.yaml"))
    if there != run_config(point.config):
        raise SystemExit(f"{point.folder}: holds a run of another config; delete it, or give another --runs")


def claim_table(runs: Path) -> pd.DataFrame:
    """A row for each run below `runs`, by the sweep's folder."""
    paths = sorted(path.parent for path in runs.rglob(SUMMARY_FILE))
    return pd.DataFrame([{"sweep": str(path.parent.relative_to(runs)), **_row(read_run(path))} for path in paths])


def _row(run: Run) -> dict[str, Any]:
    config, summary = run.config, run.summary
    verify = run.spans[run.spans["kind"] == "verify"]
    lanes = set(run.spans["lane"]) - {TARGET_LANE}
    num_gpus = run.meta["hardware"]["count"] + len(lanes)
    best_drafter = config["selector"].get("drafter")
    return {
        "model": config["models"]["target"].removesuffix("-shape"),
        "workload": config["trace"]["path"].removesuffix("_like.yaml"),
        "selector": _selector_name(config),
        "drafter": None if best_drafter is None else best_drafter.removesuffix("-shape"),
        "capacity": config["selector"].get("capacity"),
        "layout": _layout(config["verification"]),
        "depth": config["pipeline"].get("depth", 1),
        "main_depth": _main_depth(run) if config["pipeline"].get("depth") == "adaptive" else None,
        "batch": config["scheduler"]["max_num_seqs"],
        "seed": config["engine"]["acceptance_seed"],
        "tokens_per_s": summary["output_throughput"],
        "gpus": num_gpus,
        "acceptance_length": summary["spec_decode_acceptance_length"],
        "verify_ms": float((verify["end_s"] - verify["start_s"]).mean() * 1e3),
        "padding": summary["padding_share"],
        "bubble": summary["bubble_share"],
        "peak_key_tokens": int(verify["key_tokens"].max()),
        "request_speed": json.dumps(_request_speed(run)) if best_drafter else None,
    }


def _selector_name(config: Any) -> str:
    name = config["selector"]["_target_"].rpartition(".")[2].removesuffix("Selector")
    reward = config["selector"].get("reward", "")
    return "Spin, round goodput" if name == "Spin" and reward == "round_goodput" else name


def _layout(section: Any) -> str:
    name = section["_target_"].rpartition(".")[2].removesuffix("Layout").lower()
    return f"{name} {section['width']}" if section.get("width") else name


def _main_depth(run: Run) -> int:
    """The depth at which most micro-batches were verified: those in flight at the end of each, itself included."""
    rounds = run.rounds.drop_duplicates("round_index")
    begin_s = np.sort(rounds["draft_start_s"].fillna(rounds["verify_start_s"]).to_numpy())
    ends_s = np.sort(rounds["verify_end_s"].to_numpy())
    in_flight = np.searchsorted(begin_s, ends_s) - np.searchsorted(ends_s, ends_s)
    return Counter(in_flight.tolist()).most_common(1)[0][0]


def _request_speed(run: Run) -> dict[str, list[float]]:
    """Per request, in their order: accepted tokens per second of drafting, emitted ones per second of its rounds."""
    rounds = run.rounds.assign(
        draft_s=run.rounds["draft_end_s"] - run.rounds["draft_start_s"],
        verify_s=run.rounds["verify_end_s"] - run.rounds["verify_start_s"],
    ).fillna({"draft_s": 0.0})
    sums = rounds.groupby("request_id", sort=True)[["accepted", "emitted", "draft_s", "verify_s"]].sum()
    goodput = sums["accepted"] / np.maximum(sums["draft_s"], 1e-9)
    speed = sums["emitted"] / (sums["draft_s"] + sums["verify_s"])
    return {"draft_goodput": goodput.round(3).tolist(), "speed": speed.round(3).tolist()}
