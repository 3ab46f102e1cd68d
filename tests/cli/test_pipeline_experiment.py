"""The pipeline on the reconstruction of the paper's hardware, as the shipped experiment has it. Simulated time only."""

from collections import Counter
from pathlib import Path

from spinbench.metrics.store import read_run
from tests.cli.conftest import CommandLine

DEPTHS = ("1", "2", "3", "4", "adaptive")


def test_the_best_depth_pays_and_is_found(spinbench: CommandLine) -> None:
    profile = ["device=v100_32gb", "models=llama_7b", "engine.dtype=float32", "hydra.run.dir=v100"]
    assert spinbench("profile", *profile).code == 0
    done = spinbench(
        "replay", "-m", "experiment=pipeline", f"pipeline.depth={','.join(DEPTHS)}", "engine.profile=v100",
        "trace.num_prompts=128", "hydra.sweep.dir=runs",
    )  # fmt: skip
    assert done.code == 0, done.err
    runs = [read_run(path.parent) for path in Path("runs").glob("*/summary.json")]
    by_depth = {str(run.config["pipeline"]["depth"]): run for run in runs}
    assert set(by_depth) == set(DEPTHS)
    tokens_per_s = {depth: run.summary["output_throughput"] for depth, run in by_depth.items()}
    best = max(DEPTHS[:-1], key=lambda depth: tokens_per_s[depth])
    assert tokens_per_s[best] > 1.15 * tokens_per_s["1"]
    assert by_depth[best].summary["bubble_share"] < by_depth["1"].summary["bubble_share"]
    # the depth at which most of its micro-batches were verified, by the other rounds that are in flight meanwhile
    rounds = by_depth["adaptive"].rounds.drop_duplicates("round_index")
    begin_s = rounds["draft_start_s"].fillna(rounds["verify_start_s"]).to_numpy()
    ends_s = rounds["verify_end_s"].to_numpy()
    in_flight = Counter(int(((begin_s < end_s) & (ends_s >= end_s)).sum()) for end_s in ends_s)
    assert abs(in_flight.most_common(1)[0][0] - int(best)) <= 1
    assert tokens_per_s["adaptive"] > 0.9 * tokens_per_s[best]
