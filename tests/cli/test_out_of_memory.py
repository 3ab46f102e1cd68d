"""Commands on a device with too little memory: smaller batches, or one line; nothing is left half written."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import yaml

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.measuring import measure as measure_module
from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.profile.profile_file import read_profile
from spinbench.cli.distill import command as distill_command
from spinbench.cli.engine import live as live_engine
from spinbench.cli.engine.assemble import Assembly
from spinbench.cli.profile import command as profile_command
from spinbench.control.costs.profiled_range import BeyondProfile
from spinbench.metrics.store import read_run
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.huggingface.generator import HuggingFaceGenerator
from spinbench.runtime.out_of_memory import at_any_rate
from tests.cli.conftest import CommandLine, tiny_overrides
from tests.cli.test_bad_input import assert_refused
from tests.cli.test_huggingface import PEER
from tests.cli.test_profile import measure
from tests.runtime.scarce_memory import ScarceMemory
from tests.runtime.test_too_little_memory import TORCHS_WORDS, Alone


def scarce(*rest: object, **more: object) -> NoReturn:
    """In place of what does not fit."""
    raise torch.OutOfMemoryError(TORCHS_WORDS)


def scarce_passes(patch: pytest.MonkeyPatch, fits: Callable[[Any], bool]) -> None:
    """Passes do not fit unless `fits` says so of their spans."""
    for name in ("packed", "tiled"):
        real = getattr(ModelRunner, name)

        def run(self: ModelRunner, spans: Any, *rest: Any, real: Any = real) -> torch.Tensor:
            return real(self, spans, *rest) if fits(spans) else scarce()

        patch.setattr(ModelRunner, name, run)


def test_a_recording_has_the_same_bytes(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    no_key = ("arrivals", "hydra")
    given = [text for text in tiny_overrides(spinbench.models, spinbench.folder) if not text.startswith(no_key)]
    assert spinbench("record", *given, "out=whole").code == 0
    with monkeypatch.context() as patch:
        scarce_passes(patch, lambda spans: len(spans) <= 2 and spans.num_tokens.sum() <= 40)
        done = spinbench("record", *given, "out=parts")
    assert done.code == 0
    assert "tokens a pass" in done.out + done.err
    for name in ("positions.parquet", "requests.parquet"):
        assert (Path("parts") / name).read_bytes() == (Path("whole") / name).read_bytes()
    monkeypatch.setattr("spinbench.runtime.recording.teacher_forcing._logits", scarce)
    assert_refused(spinbench("record", *given, "out=none"), "reads texts, 1 tokens a pass", "lower kv.gpu_memory")
    assert [path.name for path in Path("none").iterdir()] == [
        "work"
    ]  # the answers, from which the same command goes on


def test_a_profile_leaves_out_what_does_not_fit(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    scarce_passes(monkeypatch, lambda spans: len(spans) <= 2)
    monkeypatch.setattr(measure_module, "VISITS", {})
    monkeypatch.setattr(measure_module, "LOOP_SHARES", (0.0, 1.0))
    monkeypatch.setattr(measure_module, "SHORT_PASS_S", 0.0)
    monkeypatch.setattr(profile_command, "measure_overlap", lambda *rest: None)
    good = str(spinbench.models.good_drafter)
    done = measure(spinbench, "max_num_seqs=3", "layouts=[packed]", f"models.drafters=[{good}]")
    assert (done.code, done.err) == (0, "")
    assert "scheduler.max_num_seqs=2" in done.out
    profile = read_profile(Path("p"))
    left_out = profile.meta.did_not_fit
    assert left_out is not None
    assert left_out.points > 10
    assert left_out.max_num_seqs == 2
    prefills = [sum(point.stop_tokens) for point, _ in profile.tables.jobs if point.kind == "prefill"]
    assert left_out.max_num_batched_tokens in prefills  # below the smallest of three prompts
    assert yaml.safe_load(Path("p/meta.yaml").read_text())["did_not_fit"]["points"] == left_out.points
    assert max(len(point.stop_tokens) for point, _ in profile.tables.jobs) == 2
    costs = fit_cost_model(profile, [good])
    beyond = BeyondProfile()
    for count in (2, 3):
        beyond.check_attention(costs.target, count, 10)
    assert [line.partition(": ")[2] for line in beyond.lines] == [
        "3 requests were asked for, 1 to 2 were profiled; times beyond are extrapolated"
    ]


def test_a_profile_without_room_for_one_request_is_one_line(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "_pass_s", lambda self, point: 1e-3)
    ScarceMemory(monkeypatch, lambda *job: False, ["verify"])
    done = measure(spinbench)
    assert_refused(done, "out of memory in a verify job of 1 requests", "lower max_context_tokens")
    assert not Path("p").exists()


def test_a_profile_without_room_for_its_models_is_one_line(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "begin", scarce)
    assert_refused(measure(spinbench), "profiling ", "Tried to allocate 20.00 GiB", "take smaller or fewer models")
    assert not Path("p").exists()


def test_a_peer_answers_in_batches_that_fit(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = HuggingFaceGenerator.generate
    monkeypatch.setattr(
        HuggingFaceGenerator,
        "generate",
        lambda self, them, texts: real(self, them, texts) if len(them) < 2 else scarce(),
    )
    done = spinbench.replay(*PEER, "selector=plain", "hydra.run.dir=peer")
    assert done.code == 0
    assert "jobs were out of memory, and done again in smaller batches" in done.err
    summary = read_run(Path("peer")).summary
    assert (summary["num_out_of_memory"], summary["completed"], summary["failed"]) == (2, 5, 0)


@pytest.mark.parametrize("engine", [(), PEER])
def test_models_that_do_not_fit_are_one_line(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch, engine: tuple[str, ...]
) -> None:
    monkeypatch.setattr("spinbench.cli.engine.model_shelf.ModelShelf.target", scarce)
    done = spinbench.replay(*engine, "selector=plain")
    assert_refused(done, "Tried to allocate 20.00 GiB", "10.10 GiB is free", "take smaller")
    assert not Path("run").exists()


def test_distilling_says_what_is_kept(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill_command, "load_target", lambda *rest: None)
    monkeypatch.setattr(distill_command, "run_distill", scarce)
    done = spinbench("distill", "distill.work_dir=mine", "distill.output_dir=out")
    assert_refused(done, "distilling smollm2", "lower distill.self_play.batch_lines", "kept in distill.work_dir=mine")


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are those of the first of two processes; the other is not there."""
    real = live_engine.assemble

    @functools.wraps(real)
    def assemble(*given: Any) -> Assembly:
        assembly, ranks = real(*given), Alone(0, 2, None)
        assembly.body._ranks, assembly.body._tasks._attempt = ranks, at_any_rate
        return replace(assembly, ranks=ranks)

    monkeypatch.setattr(live_engine, "assemble", assemble)
    monkeypatch.setattr(Alone, "leave", lambda self: None)
    monkeypatch.setattr("spinbench.runtime.process_group.signal.signal", lambda *what: None)


@pytest.mark.usefixtures("first_of_two")
def test_several_processes_end_with_one_line(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []

    def fits(_: str, spans: Any) -> bool:
        jobs.append(len(spans))
        return len(jobs) < most

    ScarceMemory(monkeypatch, fits, ["verify"])
    most = 2
    done = spinbench.replay("selector=plain")
    assert_refused(done, "process 0 of 2, in a verify job of", "this ends the run", "nothing was written")
    assert not Path("run").exists()
    jobs.clear()
    most = 40
    done = spinbench.replay("selector=plain", "scheduler.max_num_seqs=1")
    assert_refused(done, "process 0 of 2, in a verify job of 1 requests", "of 5 requests were finished")
    assert not read_run(Path("run")).complete
