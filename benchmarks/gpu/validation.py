"""A profile of the inflated pair of models, and both engines on the same requests."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.gpu.part import Allowance, Row
from benchmarks.gpu.scene import Scene
from benchmarks.gpu.serving import INFLATED_DRAFTER, require_inflated
from benchmarks.gpu.turns import run_chain
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP


def profile_and_validate(scene: Scene, out: Path, allowance: Allowance) -> Iterator[Row]:
    """The profile's held-out errors, then what the simulator is off by: a row each."""
    require_inflated(scene)
    models = ["models=inflated_7b", f"models.drafters=[{INFLATED_DRAFTER},{PROMPT_LOOKUP}]"]
    profile, record, folder = out / "profile", out / "record", out / "validation"
    limits = [
        "max_num_seqs=8", "max_context_tokens=512", "max_num_batched_tokens=512", "max_num_speculative_tokens=4",
        "layouts=[packed]", "repeats=3", "precision=0",
    ]  # fmt: skip
    requests = ["trace.num_prompts=16", "trace.sample_seed=526", "trace.max_output_tokens=64"]
    # two processes: what the first has shown is there whatever becomes of the second
    run_chain([["profile", *models, *limits, f"hydra.run.dir={profile}"]], out / "profile.log", allowance)
    yield from rows("profile", profile / "scores.csv")
    run_chain(
        [
            ["record", *models, *requests, f"out={record}"],
            [
                "validate", *models, *requests, "scheduler.max_num_seqs=8", "loads=[0.7]", "repeats=3",
                "pace_check_s=1",
                f"simulation.profile={profile}", f"simulation.source={record}", f"hydra.run.dir={folder}",
            ],
        ],
        out / "validation.log",
        allowance,
    )  # fmt: skip
    yield from rows("validation", folder / "validation.csv")


def rows(what: str, path: Path) -> Iterator[Row]:
    """Those of a table that a command left."""
    table = pd.read_csv(path)
    for row in table.to_dict("records"):
        yield {"of": what} | {str(name): value for name, value in row.items()}
