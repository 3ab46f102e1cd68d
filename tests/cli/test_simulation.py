"""engine=simulation and `spinbench validate` through the command line, on tiny models."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.main import main
from spinbench.metrics.store import read_run
from tests.cli.conftest import CommandLine, TinyModels, tiny_overrides

ENGINE = ("engine", "arrivals", "hydra")
SIZES = [
    "max_num_seqs=3", "max_context_tokens=64", "max_num_batched_tokens=64", "max_num_speculative_tokens=4", "repeats=1",
    "precision=0",
]  # fmt: skip
SIMULATION = [
    "engine=simulation", "engine.profile=profile", "engine.source=table", "engine.acceptance=table",
]  # fmt: skip


def _without(overrides: list[str], *names: str) -> list[str]:
    return [text for text in overrides if not text.startswith(names)]


@pytest.fixture(scope="module")
def prepared(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile and a table of the tiny models and trace."""
    folder = tmp_path_factory.mktemp("prepared")
    overrides = tiny_overrides(tiny, folder)
    models = _without(overrides, "arrivals", "hydra", "trace", "scheduler")
    record = [*_without(overrides, "arrivals", "hydra"), "out=table"]
    profile = [*models, *SIZES, "layouts=[packed,padded,decomposed]", "hydra.run.dir=profile"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(logging.getLogger(), "handlers", [])
        for command in (["profile", *profile], ["record", *record]):
            assert main(command) == 0
    return folder


@pytest.fixture
def simulate(spinbench: CommandLine, prepared: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `spinbench replay engine=simulation` with the prepared files."""

    def run(*overrides: str):
        given = _without(tiny_overrides(spinbench.models, prepared), "engine.")
        monkeypatch.chdir(prepared)
        return spinbench("replay", *given, *SIMULATION, f"hydra.run.dir={spinbench.folder}/simulated", *overrides)

    return run


def test_both_engines_leave_the_same_files_keys_and_rounds(spinbench: CommandLine, simulate) -> None:
    assert spinbench.replay("selector=round_robin", f"hydra.run.dir={spinbench.folder}/real").code == 0
    done = simulate("selector=round_robin")
    assert done.code == 0, done.err
    real, simulated = read_run(spinbench.folder / "real"), read_run(spinbench.folder / "simulated")
    names = sorted(path.name for path in real.folder.iterdir())
    assert sorted(path.name for path in simulated.folder.iterdir()) == names
    assert set(simulated.summary) == set(real.summary)
    assert set(simulated.meta) == set(real.meta) | {"profile", "acceptance"}
    for table in ("requests", "rounds", "spans"):
        assert list(getattr(simulated, table)) == list(getattr(real, table))
    # round robin does not look at time, so with everybody there from the start all rounds are the same
    counts = [name for name in real.rounds if not str(name).endswith("_s")]
    pd.testing.assert_frame_equal(simulated.rounds[counts], real.rounds[counts])
    texts = ["request_id", "output_tokens", "output_token_ids", "finish_reason"]
    pd.testing.assert_frame_equal(simulated.requests[texts], real.requests[texts])
    assert simulated.meta["engine"] == "simulation"


@pytest.mark.parametrize("priced", ["null", "profile"])
def test_decisions_that_look_at_time_are_made_again_as_they_were_priced(
    spinbench: CommandLine, prepared: Path, monkeypatch: pytest.MonkeyPatch, priced: str
) -> None:
    monkeypatch.chdir(prepared)
    real = spinbench.folder / "real"
    given = _without(tiny_overrides(spinbench.models, prepared), "hydra")
    options = ["selector=joint", "drafting=by_selector", f"engine.profile={priced}", f"hydra.run.dir={real}"]
    assert spinbench("replay", *given, *options).code == 0
    run = read_run(real)
    engine = {
        "kind": "simulation", "profile": "profile", "acceptance": "table", "source": "table", "acceptance_seed": 0,
        "oracle_num_speculative_tokens": None,
    }  # fmt: skip
    config = OmegaConf.create({**run.config, "engine": engine})
    assert isinstance(config, DictConfig)
    rounds = SimulatedEngine().decide_again(parse_config(config, ReplayConfig), run).rounds
    assert rounds.num_equal == rounds.num_parts, rounds.first_difference


@pytest.mark.parametrize("layout", ["verification=grouped", "verification=decomposed"])
def test_both_engines_lay_out_alike(spinbench: CommandLine, prepared: Path, simulate, layout: str) -> None:
    decisions = [layout, f"engine.profile={prepared}/profile", "selector=round_robin"]
    assert spinbench.replay(*decisions, f"hydra.run.dir={spinbench.folder}/real").code == 0
    done = simulate(*decisions)
    assert done.code == 0, done.err
    real, simulated = read_run(spinbench.folder / "real").spans, read_run(spinbench.folder / "simulated").spans
    counts = ["kind", "useful_cells", "padded_cells", "query_tokens", "key_tokens", "peak_key_tokens"]
    pd.testing.assert_frame_equal(simulated[counts], real[counts])
    assert (real.loc[real["kind"] == "verify", "peak_key_tokens"] > 0).all()


def test_a_simulation_says_what_it_does_not_know_of_merged_drafts(spinbench: CommandLine, simulate) -> None:
    assert simulate("selector=merged").code == 0
    warnings = read_run(spinbench.folder / "simulated").meta["warnings"]
    assert any("merged trees" in warning for warning in warnings)


def test_both_engines_end_drafts_at_the_same_tokens(spinbench: CommandLine, simulate) -> None:
    recorded = _without(tiny_overrides(spinbench.models, spinbench.folder), "arrivals", "hydra")
    rollouts = spinbench.folder / "rollouts"
    assert spinbench("record", *recorded, f"out={rollouts}", "rollout_tokens=4").code == 0
    both = ["selector=round_robin", "drafting=confident", "drafting.num_speculative_tokens=4"]
    assert spinbench.replay(*both, f"hydra.run.dir={spinbench.folder}/real").code == 0
    done = simulate(*both, f"engine.source={rollouts}")
    assert done.code == 0, done.err
    real, simulated = read_run(spinbench.folder / "real"), read_run(spinbench.folder / "simulated")
    counts = [name for name in real.rounds if not str(name).endswith("_s")]
    pd.testing.assert_frame_equal(simulated.rounds[counts], real.rounds[counts])
    assert (real.rounds["drafted"] < real.rounds["num_speculative_tokens"]).any()
    work = ["kind", "num_tokens", "useful_cells", "query_tokens", "key_tokens"]
    pd.testing.assert_frame_equal(simulated.spans[work], real.spans[work])


def test_a_simulation_repeats_to_the_byte(spinbench: CommandLine, simulate) -> None:
    for name in ("a", "b"):
        assert simulate("selector=spin", f"hydra.run.dir={spinbench.folder}/{name}").code == 0
    for file in ("requests.parquet", "rounds.parquet", "spans.parquet", "summary.json", "trace.json"):
        assert (spinbench.folder / "a" / file).read_bytes() == (spinbench.folder / "b" / file).read_bytes()


def test_only_a_simulation_knows_the_future(spinbench: CommandLine, simulate) -> None:
    done = spinbench.replay("selector=oracle")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "needs engine=simulation" in done.err
    overrides = ["scheduler.max_num_seqs=1", "engine.oracle_num_speculative_tokens=4"]
    assert simulate("selector=oracle", *overrides).code == 0
    assert simulate("selector=random", f"hydra.run.dir={spinbench.folder}/random", *overrides).code == 0
    run, random = (read_run(spinbench.folder / name) for name in ("simulated", "random"))
    assert (run.rounds["accepted"] == run.rounds["num_speculative_tokens"]).all()
    shares = [one.meta["oracle"]["share_of_oracle"] for one in (random, run)]
    assert shares[0] < shares[1] <= 1 + 1e-9  # sums of times, added in another order


def test_the_simulator_imports_no_torch(spinbench: CommandLine, prepared: Path) -> None:
    given = _without(tiny_overrides(spinbench.models, prepared), "engine.")
    command = ["replay", *given, *SIMULATION, f"hydra.run.dir={spinbench.folder}/simulated"]
    program = f"import sys; sys.modules['torch'] = None; from spinbench.cli.main import main; sys.exit(main({command}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=prepared, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["models.drafters=[prompt_lookup,nobody]"], "profile: the profile has no drafter 'nobody'"),
        (["models.target=another"], "profiled with target"),
        (["sampling=drafter_invariant"], "table: was recorded with sampling greedy, not temperature 0.8"),
        (["sampling=rejection"], "sampling.kind is rejection: there the text depends on who drafts"),
        (["sampling=rejection", "engine.acceptance=bootstrap"], "sampling.kind is rejection"),
        (["engine.profile=nowhere"], "nowhere"),
        (["engine.source=nowhere"], "nowhere"),
        (["trace.path=other.jsonl"], "was recorded on trace 'tiny'"),
        (
            ["pipeline=draft_while_verify", "engine.oracle_num_speculative_tokens=4"],
            "set pipeline=serial placement=shared",
        ),
        (["placement=own_devices", "engine.oracle_num_speculative_tokens=4"], "set pipeline=serial placement=shared"),
        (["selector=oracle", "pipeline=draft_while_verify"], "set pipeline=serial or micro_batches"),
        (["drafting=tree", "engine.oracle_num_speculative_tokens=4"], "the oracle is known for chains"),
        (["engine.acceptance=synthetic"], "table: "),
        (["drafting=confident"], "engine.acceptance=table, table: knows drafters' confidence for 1 token of a draft"),
        (["drafting=confident", "engine.acceptance=bootstrap"], "knows drafters' confidence for 0 tokens of a draft"),
        (["drafting=confident", "drafting.threshold=1.5"], "drafting.threshold"),
        (["drafting=confident", "drafting.confidence=entropy"], "drafting.confidence"),
    ],
)
def test_what_does_not_fit_is_one_line(simulate, prepared: Path, overrides: list[str], said: str) -> None:
    (prepared / "other.jsonl").write_text((prepared / "tiny.jsonl").read_text().replace("Say", "Tell"))
    done = simulate(*overrides)
    assert done.code == 2
    assert done.err.count("\n") == 1, done.err
    assert said in done.err


def test_a_validation_holds_both_engines_against_each_other(
    spinbench: CommandLine, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    given = _without(tiny_overrides(spinbench.models, prepared), *ENGINE)
    folder = spinbench.folder / "validation"
    (folder / "simulation").mkdir(parents=True)  # as if interrupted in its first simulation
    command = [
        "validate", *given, "runtime.dtype=float64", "runtime.num_threads=1", "simulation.profile=profile",
        "simulation.source=table", "loads=[0.5,2]", "repeats=2", "pace_check_s=0.1", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    done = spinbench(*command)
    assert done.code == 0, done.err
    table = pd.read_csv(folder / "validation.csv")
    assert set(table["load"]) == {0.5, 2.0}
    acceptance = table[table["metric"] == "acceptance_length"]
    assert (acceptance["error"].abs() < 0.5).all()
    page = (folder / "report.md").read_text()
    equal = [line for line in page.splitlines() if "pairs equal" in line]
    assert len(equal) == 2  # loads
    for line in equal:
        assert line.endswith("in 2 of 2 runs")
        found, of = line.split(": ")[1].split(" (")[0].split(" of ")
        assert found == of, line
    jobs = pd.read_csv(folder / "jobs.csv")
    assert {("verify", "target"), ("prefill", "target")} <= set(zip(jobs["job"], jobs["lane"], strict=True))
    assert (jobs.groupby("load")["share_of_time"].sum() - 1).abs().max() < 1e-4
    assert (jobs[["real_mean_ms", "expected_mean_ms"]] > 0).all(axis=None)
    rescaled = pd.read_csv(folder / "rescaled.csv")
    assert set(rescaled["load"]) == {0.5, 2.0}
    assert "output_throughput" in set(rescaled["metric"])
    assert rescaled[["pace_error", "rescaled_error"]].notna().all(axis=None)
    assert jobs.loc[jobs["job"] == "verify", "pace_error"].notna().all()
    assert (folder / "runtime" / "load-2" / "pace-repeat-1.csv").is_file()
    assert "at the pace around each run: " in page
    assert "the drift of the machine" in page
    for figure in ("latencies", "timelines"):
        assert f"figures/{figure}.png" in page
        assert (folder / "figures" / f"{figure}.png").is_file()
    ended_ns = {
        run.parent: run.stat().st_mtime_ns for run in sorted((folder / "runtime").glob("load-*/repeat-*/summary.json"))
    }
    in_order = [f"{run.parent.name}/{run.name}" for run in sorted(ended_ns, key=lambda run: ended_ns[run])]
    assert in_order == [f"load-{load}/repeat-{repeat}" for repeat in (0, 1) for load in ("0.5", "2")]  # in turns
    # gone on with: nothing is run again, the page is made anew
    before = (folder / "runtime" / "load-2" / "repeat-1" / "summary.json").stat().st_mtime_ns
    assert spinbench(*command).code == 0
    assert (folder / "runtime" / "load-2" / "repeat-1" / "summary.json").stat().st_mtime_ns == before


def test_lanes_of_one_device_slow_each_other(spinbench: CommandLine, prepared: Path, simulate) -> None:
    """The profile of the tiny models has an overlap; with one twice as large, jobs beside others take longer."""
    meta = yaml.safe_load((prepared / "profile" / "meta.yaml").read_text())
    overlap = meta["device"]["overlap"]
    assert overlap["drafter"] in [str(spinbench.models.good_drafter), str(spinbench.models.poor_drafter)]
    times = {}
    for name, factor in (("same", 1.0), ("slow", 3.0)):
        folder = spinbench.folder / name
        shutil.copytree(prepared / "profile", folder)
        factors = {key: factor for key in overlap if key.endswith(("alone", "beside"))}
        (folder / "meta.yaml").write_text(
            yaml.safe_dump(meta | {"device": meta["device"] | {"overlap": overlap | factors}})
        )
        done = simulate(
            f"engine.profile={folder}", "engine.lanes=streams", "placement=drafters_together", "selector=round_robin",
            f"hydra.run.dir={spinbench.folder}/{name}-run",
        )  # fmt: skip
        assert done.code == 0, done.err
        spans = read_run(spinbench.folder / f"{name}-run").spans
        times[name] = (spans["end_s"] - spans["start_s"])[spans["kind"] == "verify"].tolist()
    assert len(times["same"]) == len(times["slow"])
    assert times["slow"][0] == pytest.approx(3 * times["same"][0])
    devices = simulate(
        "placement=drafters_together", "selector=round_robin", f"hydra.run.dir={spinbench.folder}/devices"
    )
    assert "engine.lanes=streams" in devices.err


def test_lanes_that_were_measured_in_another_split_are_told(simulate, spinbench: CommandLine) -> None:
    lanes = ["engine.lanes=streams", "placement=drafters_together"]
    same = simulate(*lanes, f"hydra.run.dir={spinbench.folder}/same")
    other = simulate(*lanes, "placement.drafter_threads=3", f"hydra.run.dir={spinbench.folder}/other")
    assert (same.code, other.code) == (0, 0)
    assert "placement.drafter_threads" not in same.err
    said = [line for line in other.err.splitlines() if "placement.drafter_threads=1, and here it is 3" in line]
    assert len(said) == 1
    assert "profile: how two lanes slow each other was measured" in said[0]


def test_lanes_of_one_device_are_two_and_measured(spinbench: CommandLine, prepared: Path, simulate) -> None:
    many = simulate("engine.lanes=streams", "placement=own_devices")
    assert (many.code, many.err.count("\n")) == (2, 1)
    assert "makes 4; set placement=drafters_together" in many.err
    folder = spinbench.folder / "older"
    shutil.copytree(prepared / "profile", folder)
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    del meta["device"]["overlap"]
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta))
    unknown = simulate("engine.lanes=streams", "placement=drafters_together", f"engine.profile={folder}")
    assert unknown.code == 2
    assert "says nothing of how two lanes of its device slow each other" in unknown.err


def test_a_profile_of_another_number_format_is_refused(
    spinbench: CommandLine, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what `auto` means here, not by its name."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    done = spinbench.replay("engine.dtype=auto", "engine.device=cpu", f"engine.profile={prepared}/profile")
    assert done.code == 2
    assert "profiled in float64, the run is in float32" in done.err
