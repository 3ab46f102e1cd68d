"""Whole profiles through the command line: measured on tiny models, estimated for shapes."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import read_profile
from spinbench.cli.config.replay import parse_config
from spinbench.cli.hydra_app.app import sweep_points
from spinbench.cli.locations import shipped_folder
from spinbench.cli.profile.config import ProfileConfig
from tests.cli.conftest import CommandLine, Outcome
from tests.cli.test_bad_input import assert_refused
from tests.cli.test_config import composed

SMALL = ["max_num_seqs=2", "max_context_tokens=64", "max_num_batched_tokens=64", "max_num_speculative_tokens=2"]
SHAPES = ["models=llama_7b", "device=v100_32gb"]
FILES = ["host.csv", "jobs.csv", "meta.yaml", "passes.csv", "scores.csv"]


def measure(spinbench: CommandLine, *overrides: str) -> Outcome:
    models = spinbench.models
    drafters = f"[{models.good_drafter},prompt_lookup,{models.good_drafter}+prompt_lookup]"
    return spinbench(
        "profile", "models=huggingface", f"models.target={models.target}", f"models.drafters={drafters}",
        "engine.dtype=float64", "engine.num_threads=1", "repeats=1", "precision=0", "hydra.run.dir=p", *SMALL, *overrides,
    )  # fmt: skip


def estimate(spinbench: CommandLine, *overrides: str) -> Outcome:
    return spinbench("profile", *SHAPES, *SMALL, "hydra.run.dir=p", *overrides)


def test_a_measured_profile(spinbench: CommandLine) -> None:
    done = measure(spinbench)
    assert (done.code, done.err) == (0, "")
    for word in ("prefill", "catch_up", "draft", "verify", "MAPE", "measured on", "in p"):
        assert word in done.out
    assert sorted(path.name for path in Path("p").iterdir()) == FILES
    profile = read_profile(Path("p"))
    good = str(spinbench.models.good_drafter)
    assert (profile.meta.kind, profile.meta.dtype, profile.meta.device.num_threads) == ("measured", "float64", 1)
    assert [model.name for model in profile.meta.models] == [str(spinbench.models.target), good]
    assert all(model.sha256 is not None and len(model.sha256) == 64 for model in profile.meta.models)
    # 2 layers x 2 KV heads of 4 numbers, keys and values, 8 bytes each
    assert profile.meta.models[0].kv_bytes_per_token == 2 * 2 * 2 * 4 * 8
    assert profile.meta.command.startswith("spinbench profile models=huggingface ")
    assert fit_cost_model(profile, [good, f"{good}+prompt_lookup"]).verify_s(2, 2, 20.0) > 0

    again = measure(spinbench)
    assert again.code == 2
    assert again.err == "error: p: holds a profile already; delete it, or set hydra.run.dir to another folder\n"


def test_sampling_is_part_of_a_profile(spinbench: CommandLine) -> None:
    assert (
        measure(spinbench, "sampling=drafter_invariant", "layouts=[packed]", "models.drafters=[prompt_lookup]").code
        == 0
    )
    profile = read_profile(Path("p"))
    assert profile.meta.sampling.temperature == 0.8
    assert {point.attention for point, _ in profile.tables.passes} == {"none", "packed"}


def test_timings_are_kept_until_the_profile_is_whole(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from spinbench.calibration.measuring.bench import Bench

    real, calls = Bench.job_s, []

    def interrupted(self: Bench, point: object) -> float:
        calls.append(point)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, point)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "job_s", interrupted)
    # points timed once each say nothing of the machine's pace, so that tables have the timings as they were taken
    monkeypatch.setattr("spinbench.calibration.measuring.measure.VISITS", {})
    done = measure(spinbench, "layouts=[packed]")
    assert done.code == 2
    assert done.err == "interrupted: the same command goes on from the timings kept in p\n"
    kept = (Path("p") / "unfinished.csv").read_text().splitlines()
    assert len(kept) > 20
    monkeypatch.setattr(Bench, "job_s", real)

    refused = measure(spinbench, "layouts=[packed]", "max_num_seqs=3")
    assert refused.code == 2
    assert "an unfinished profile with another limits is here" in refused.err

    assert measure(spinbench, "layouts=[packed]").code == 0
    assert sorted(path.name for path in Path("p").iterdir()) == FILES
    seconds = {row["median_s"] for row in csv.DictReader((Path("p") / "passes.csv").open())}
    assert f"{float(kept[0].split(',')[1]):.9f}" in seconds


@pytest.mark.parametrize("native", [True, False])
def test_the_folder_is_named_by_the_format_that_auto_means(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    assert spinbench("profile", "--cfg", "job").code == 0  # makes known what names folders
    points = sweep_points("profile", ["models=llama_7b", "device=this_machine,l4", "engine.device=cpu"])
    here = "bfloat16" if native else "float32"
    assert [point.folder.name for point in points] == [
        f"llama-7b-shape-this_machine-{here}", "llama-7b-shape-l4-bfloat16",
    ]  # fmt: skip
    assert_refused(spinbench("profile", "engine=simulation"), "engine.kind is simulation; a profile is of real models")
    assert_refused(spinbench("profile", "engine.device=tpu"), "engine.device is tpu; it must be one of auto, cpu, cuda")


def test_an_analytic_profile_says_that_it_is_one(spinbench: CommandLine) -> None:
    done = estimate(spinbench, "tensor_parallel=2", "models.drafters=[llama-68m-shape,prompt_lookup]")
    assert (done.code, done.err) == (0, "")
    assert "estimated (analytic), not measured" in done.out
    profile = read_profile(Path("p"))
    assert (profile.meta.kind, profile.meta.device.name) == ("analytic", "Tesla V100-SXM2-32GB")
    assert (profile.meta.device.count, profile.meta.device.memory_bytes) == (2, 64 * 10**9)
    assert profile.meta.assumptions["device"]["memory_efficiency"] == 0.8
    assert profile.meta.assumptions["shapes"]["llama-68m-shape"].startswith("config of JackFram/llama-68m")
    assert profile.meta.models[0].sha256 is None
    costs = fit_cost_model(profile, ["llama-68m-shape"])
    # 13 GB of weights over two devices at 0.8 x 900 GB/s
    assert costs.verify_s(1, 0, 50.0) == pytest.approx(13.2e9 / 2 / 720e9, rel=0.25)


def test_an_estimate_of_models_that_are_here(spinbench: CommandLine) -> None:
    assert measure(spinbench, "device=l4", "engine.dtype=float32").code == 0
    profile = read_profile(Path("p"))
    assert (profile.meta.kind, profile.meta.target) == ("analytic", str(spinbench.models.target))
    assert all(model.sha256 is not None for model in profile.meta.models)


def test_a_device_of_ones_own(spinbench: CommandLine) -> None:
    from spinbench.calibration.datasheet.device import FOLDER

    content = yaml.safe_load((FOLDER / "l4.yaml").read_text())
    Path("mine.yaml").write_text(yaml.safe_dump(content | {"name": "mine"}))
    assert estimate(spinbench, "device=mine.yaml").code == 0
    assert read_profile(Path("p")).meta.device.name == "mine"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["device=tpu"],
            "device is 'tpu'; it must be this_machine, a100_80gb, h100_sxm, h200, l4, v100_32gb, v100_32gb_spin, or a YAML",
        ),
        (
            ["device=this_machine", "models=llama_30b", "engine.dtype=float64", "engine.device=cpu"],
            "llama-1.4b-shape of float64 weights: 287.5 GB, and",
        ),
        (["engine.dtype=float64"], "Tesla V100-SXM2-32GB has no figure for engine.dtype=float64"),
        (["models.drafters=[llama-8b-shape]"], "there is no shape 'llama-8b-shape'"),
        (["models.drafters=[somewhere]"], "llama-7b-shape is a shape without weights and 'somewhere' is none"),
        (["layouts=[padded]"], "layouts must begin with packed"),
        (["layouts=[packed,woven]"], "layouts[1] is woven; it must be one of packed, padded, grouped, decomposed"),
        (["repeats=0"], "repeats is 0; it must be >= 1"),
        (["precision=0.1", "max_repeats=3"], "max_repeats is 3; it must be at least repeats, 7"),
        (["max_context_tokens=8"], "max_context_tokens is 8; it must be >= 64"),
        (["max_num_seqs=1", "max_num_batched_tokens=999"], "is room for 64 tokens"),
        (["sampling.top_p=2"], "sampling.top_p is 2"),
        (["tensor_parallel=2", "device=this_machine"], "tensor_parallel is 2; with device=this_machine it must be 1"),
        (["color=red"], "unknown key 'color'"),
    ],
)
def test_a_mistake_is_one_line(spinbench: CommandLine, overrides: list[str], message: str) -> None:
    done = estimate(spinbench, *overrides)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("p").exists()


def test_a_device_file_with_a_mistake(spinbench: CommandLine) -> None:
    Path("mine.yaml").write_text("name: mine\n")
    done = estimate(spinbench, "device=mine.yaml")
    assert done.code == 2
    assert done.err.startswith("error: mine.yaml: memory_bytes: field required")


def test_a_context_longer_than_the_model_takes(spinbench: CommandLine) -> None:
    done = measure(spinbench, "max_context_tokens=4096")
    assert done.code == 2
    assert "max_context_tokens is 4096;" in done.err
    assert "takes 128" in done.err


@pytest.mark.parametrize("models", [path.stem for path in sorted((shipped_folder("conf") / "models").glob("llama*"))])
def test_every_paper_model_composes(models: str) -> None:
    config = parse_config(composed(f"models={models}", "device=v100_32gb", name="profile"), ProfileConfig)
    assert len(config.models.drafters) == 5


def test_help_lists_groups_and_keys(spinbench: CommandLine) -> None:
    outcome = spinbench("profile", "--help")
    assert outcome.code == 0
    for word in (
        "spinbench profile",
        "engine: huggingface, runtime",
        "max_num_speculative_tokens: 8",
        "device: this_machine",
    ):
        assert word in outcome.out
