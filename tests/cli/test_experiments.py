"""The experiments on SPIN's claims, as they are shipped, on fewer requests. Simulated time only."""

import logging
from pathlib import Path

import pytest

from benchmarks.spin_claims.numbers import of
from benchmarks.spin_claims.runs import claim_table, run_sweep
from benchmarks.spin_claims.sweeps import SMALLEST, STEPS, sweeps
from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import read_profile
from spinbench.cli.config.replay import resolved
from spinbench.cli.hydra_app.app import sweep_points
from spinbench.cli.locations import find_trace
from spinbench.cli.main import main
from spinbench.errors import UserError
from spinbench.metrics.store import read_run
from spinbench.workload.acceptance.law_file import read_law
from tests.cli.conftest import CommandLine

DRAFTERS = [SMALLEST, "llama-265m-shape", "llama-616m-shape", "llama-1.1b-shape", "llama-1.4b-shape"]
DEPTHS = ("1", "2", "3", "adaptive")
BATCH, K, CONTEXT_TOKENS = 8, 8, 100
LATER = float("inf")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the profile of the reconstructed V100."""
    folder = tmp_path_factory.mktemp("profiled")
    arguments = ["device=v100_32gb_spin", "models=llama_7b", "layouts=[packed,padded,grouped,decomposed]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(logging.getLogger(), "handlers", [])  # Hydra's write to the stdout of an earlier test
        assert main(["profile", *arguments]) == 0
    return folder / "profiles"


@pytest.fixture
def profile(spinbench: CommandLine, profiles: Path) -> Path:
    """The profile, where the experiments look for it."""
    (spinbench.folder / "profiles").symlink_to(profiles)
    return Path("profiles/llama-7b-shape-v100_32gb_spin-bfloat16")


@pytest.mark.parametrize(
    ("experiment", "num_points"),
    [
        ("motivation", 3 * 5 * 2), ("selection", 3 * 9), ("decomposition", 2 * 7 * 4), ("pipeline", 2 * 10),
        ("ablation", 3), ("scale", 3),
    ],
)  # fmt: skip
def test_every_experiment_sweeps_what_its_claim_needs(experiment: str, num_points: int) -> None:
    points = sweep_points("replay", [f"experiment={experiment}"])
    assert len({point.folder for point in points}) == len(points) == num_points
    configs = [resolved(point.config) for point in points]
    assert {one["engine"]["source"] for one in configs} == {f"llama_drafters_{one['trace']['path']}" for one in configs}
    # other sweeps of the report that lay their runs beside these
    for name, arguments in sweeps():
        if name == experiment and arguments != [f"experiment={experiment}"]:
            points += sweep_points("replay", arguments)
    assert len({point.folder for point in points}) == len(points)


def test_a_mistake_in_a_sweep_is_one_line() -> None:
    with pytest.raises(UserError, match="no_such_key"):
        sweep_points("replay", ["experiment=pipeline", "no_such_key=1"])


def test_no_two_sweeps_of_the_report_share_a_folder() -> None:
    # but for those above; what points of one sweep share is refused before it starts (tests/cli/test_bad_input.py)
    beside = ("selection", "decomposition")
    names = [name for name, _ in sweeps()]
    assert {name for name in names if names.count(name) > 1} == set(beside)
    assert all(f"experiment={name}" in arguments for name, arguments in sweeps() if name in beside)


@pytest.mark.full_matrix
def test_no_two_runs_of_the_report_share_a_folder() -> None:
    folders = [
        point.folder
        for name, arguments in sweeps()
        for point in sweep_points("replay", [*arguments, f"hydra.sweep.dir={name}"])
    ]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(("workload", "share"), [("alpaca", 0.03), ("cp", 0.40), ("mix", 0.215)])
def test_the_laws_have_as_many_requests_best_drafted_by_265m_as_the_paper(
    profile: Path, workload: str, share: float
) -> None:
    costs = fit_cost_model(read_profile(profile), DRAFTERS)
    law = read_law(find_trace(f"llama_drafters_{workload}_like.yaml"))
    total = sum(entry.weight for entry in law.classes)
    best = 0.0
    for entry in law.classes:
        rates = [entry.acceptance_rates[name][0] for name in DRAFTERS]
        accepted = [sum(rate**k for k in range(1, K + 1)) for rate in rates]
        goodput = [tokens / costs.draft_s(place, BATCH, K, CONTEXT_TOKENS) for place, tokens in enumerate(accepted)]
        assert rates == sorted(rates)
        best += entry.weight / total * (goodput.index(max(goodput)) == 1)
    assert best == pytest.approx(share)


def test_a_padded_verification_takes_what_the_paper_measured(profile: Path) -> None:
    run_sweep(["experiment=decomposition", "trace.path=alpaca_like.yaml", "scheduler.max_num_seqs=16",
               "verification=padded", "hydra.sweep.dir=runs/spin/decomposition"], LATER)  # fmt: skip
    row = claim_table(Path("runs/spin")).iloc[0]
    assert row["verify_ms"] == pytest.approx(529.21, rel=0.02)


def test_every_step_of_the_staircase_pays_and_is_kept(profile: Path) -> None:
    for _ in range(2):  # the second time nothing is run
        for step, arguments in STEPS.items():
            sweep = [*arguments, "trace.path=alpaca_like.yaml", "trace.num_prompts=64", f"hydra.sweep.dir=runs/{step}"]
            assert run_sweep(sweep, LATER) == 0
        paths = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("summary.json")}
    assert len(paths) == len(STEPS)
    assert paths == {path: path.stat().st_mtime_ns for path in paths}
    table = claim_table(Path("runs"))
    speeds = [float(of(table, step)["tokens_per_s"].iloc[0]) for step in STEPS]
    assert speeds == sorted(speeds)
    # the target's, and those of the drafters that drafted
    assert [int(of(table, step)["gpus"].iloc[0]) for step in STEPS] == [2, 6, 6, 6]
    with pytest.raises(SystemExit, match="holds a run of another config"):
        run_sweep(["experiment=spin", *STEPS["selection"][1:], "trace.path=alpaca_like.yaml", "trace.num_prompts=95",
                   f"hydra.sweep.subdir='{next(Path('runs/selection').iterdir()).name}'",
                   "hydra.sweep.dir=runs/selection"], LATER)  # fmt: skip


def test_the_best_depth_is_found(profile: Path) -> None:
    run_sweep(["experiment=pipeline", "trace.path=alpaca_like.yaml", f"pipeline.depth={','.join(DEPTHS)}",
               "trace.num_prompts=128", "hydra.sweep.dir=runs/pipeline"], LATER)  # fmt: skip
    runs = [read_run(path.parent) for path in Path("runs").rglob("summary.json")]
    by_depth = {str(run.config["pipeline"]["depth"]): run for run in runs}
    assert set(by_depth) == set(DEPTHS)
    tokens_per_s = {depth: run.summary["output_throughput"] for depth, run in by_depth.items()}
    best = max(DEPTHS[:-1], key=lambda depth: tokens_per_s[depth])
    assert tokens_per_s[best] > 1.1 * tokens_per_s["1"]
    assert by_depth[best].summary["bubble_share"] < by_depth["1"].summary["bubble_share"]
    table = claim_table(Path("runs")).set_index("depth")
    assert abs(table["main_depth"]["adaptive"] - int(best)) <= 1
    assert tokens_per_s["adaptive"] > 0.9 * tokens_per_s[best]
