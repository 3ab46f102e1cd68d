"""Every kind of mistake ends in one line that names what to change, exit code 2, and no results."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine, Outcome, trace_lines, write_trace

Prepare = Callable[[CommandLine], list[str]]


def assert_refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in outcome.out + outcome.err


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def changed_line(number: int, **changes: Any) -> Prepare:
    def prepare(spinbench: CommandLine) -> list[str]:
        lines = trace_lines(20)
        lines[number - 1] |= changes
        write_trace(spinbench.folder, lines)
        return []

    return prepare


def broken_json(spinbench: CommandLine) -> list[str]:
    path = write_trace(spinbench.folder, trace_lines(20))
    lines = path.read_text().splitlines()
    lines[16] = lines[16][:-1] + ",,}"
    path.write_text("\n".join(lines))
    return []


def empty_trace(spinbench: CommandLine) -> list[str]:
    (spinbench.folder / "tiny.jsonl").write_text("")
    return []


def no_tokenizer(spinbench: CommandLine) -> list[str]:
    folder = spinbench.folder / "bare"
    shutil.copytree(spinbench.models.target, folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    return ["models.target=bare"]


def corrupt_weights(spinbench: CommandLine) -> list[str]:
    folder = spinbench.folder / "corrupt"
    shutil.copytree(spinbench.models.target, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return ["models.target=corrupt"]


def corrupt_drafter(spinbench: CommandLine) -> list[str]:
    folder = spinbench.folder / "corrupt"
    shutil.copytree(spinbench.models.good_drafter, folder)
    (folder / "model.safetensors").write_bytes(b"no safetensors at all")
    return ["models.drafters=[corrupt]"]


def other_vocabulary(spinbench: CommandLine) -> list[str]:
    return [f"models.drafters=[{spinbench.models.other_vocabulary}]"]


def full_folder(spinbench: CommandLine) -> list[str]:
    folder = spinbench.folder / "run"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    return []


def file_as_folder(spinbench: CommandLine) -> list[str]:
    (spinbench.folder / "run").write_text("mine")
    return []


def overrides(*values: str) -> Prepare:
    return lambda spinbench: list(values)


@dataclass(frozen=True)
class Mistake:
    """Something that a user gets wrong."""

    prepare: Prepare
    said: tuple[str, ...]


MISTAKES = {
    # the trace
    "missing file": Mistake(overrides("trace.path=nope.jsonl"), ("nope.jsonl", "no such file", "mixed.jsonl")),
    "a folder as trace": Mistake(overrides("trace.path=."), ("is a folder",)),
    "empty trace": Mistake(empty_trace, ("tiny.jsonl", "is empty")),
    "bad JSON": Mistake(broken_json, ("tiny.jsonl:17: not JSON",)),
    "negative arrival": Mistake(changed_line(3, arrival_s=-1.5), ("tiny.jsonl:3: arrival_s is -1.5", ">= 0")),
    "duplicate id": Mistake(changed_line(9, id="r0"), ("tiny.jsonl:9: duplicate id", "line 1")),
    "unknown key in the trace": Mistake(changed_line(2, colour=1), ("tiny.jsonl:2: unknown key", "colour")),
    "no output tokens": Mistake(changed_line(4, max_new_tokens=0), ("tiny.jsonl:4: max_new_tokens is 0",)),
    "prompt beyond the context": Mistake(changed_line(5, prompt="x" * 300), ("'r4'", "300", "128")),
    "token outside the vocabulary": Mistake(
        changed_line(5, prompt=None, prompt_token_ids=[5000]), ("'r4'", "5000", "258")
    ),
    "unknown category": Mistake(overrides("trace.categories=[poems]"), ("poems", "chat, code, story")),
    "unknown trace format": Mistake(overrides("trace.format=csv"), ("trace.format is csv", "spec_bench, sharegpt")),
    "trace of another format": Mistake(overrides("trace.format=azure_2023"), ("tiny.jsonl:1:", "TIMESTAMP")),
    # the models
    "missing model folder": Mistake(overrides("models.target=./nowhere"), ("'nowhere'", "no such folder")),
    "no target given": Mistake(overrides("models.target=???"), ("models.target",)),
    "corrupt target": Mistake(corrupt_weights, ("'corrupt'", "safetensors")),
    "corrupt drafter": Mistake(corrupt_drafter, ("'corrupt'", "safetensors")),
    "drafter of another vocabulary": Mistake(other_vocabulary, ("299", "259")),
    "text without a tokenizer": Mistake(no_tokenizer, ("no tokenizer", "prompt_token_ids")),
    "missing drafter folder": Mistake(overrides("models.drafters=[./nowhere]"), ("nowhere", "no such folder")),
    "the same drafter twice": Mistake(
        overrides("models.drafters=[prompt_lookup,prompt_lookup]"), ("models.drafters", "'prompt_lookup' twice")
    ),
    "n-grams upside down": Mistake(
        overrides("models.prompt_lookup.max_match_tokens=1", "models.prompt_lookup.min_match_tokens=2"),
        ("models.prompt_lookup.min_match_tokens is 2", "at most max_match_tokens (1)"),
    ),
    # decisions
    "unknown selector": Mistake(overrides("selector=best"), ("selector=best", "contextual, epsilon_greedy, exp3spec, fixed", "spin")),
    "full information in a pipeline": Mistake(
        overrides("selector=hedge", "pipeline=micro_batches"), ("asks all drafters", "pipeline=serial")
    ),
    "full information beside drafting ahead": Mistake(
        overrides("selector=hedge", "pipeline=draft_while_verify"), ("asks all drafters", "pipeline=serial")
    ),
    "drafting ahead of unsure drafts": Mistake(
        overrides("drafting=confident", "pipeline=draft_while_verify"), ("drafting=confident ends a draft", "pipeline=serial")
    ),
    "drafting ahead under rejection": Mistake(
        overrides("sampling=rejection", "pipeline=draft_while_verify"), ("sampling.kind is rejection", "drafter_invariant")
    ),
    "unknown drafter": Mistake(
        overrides("selector=fixed", "selector.drafter=huge"), ("selector.drafter is 'huge'", "prompt_lookup")
    ),
    "no drafter given": Mistake(overrides("selector=fixed"), ("selector.drafter has no value",)),
    "no drafters at all": Mistake(overrides("models.drafters=[]"), ("selector=spin", "models.drafters is empty")),
    "K by a selector that has none": Mistake(
        overrides("selector=round_robin", "drafting=by_selector"),
        ("drafting=by_selector", "selector=joint or selector=contextual"),
    ),
    "joint under a given K": Mistake(overrides("selector=joint"), ("selector=joint", "set drafting=by_selector")),
    "trees in rectangles": Mistake(
        overrides("drafting=tree", "verification=padded"), ("token trees", "verification=packed")
    ),
    "trees by rejection": Mistake(
        overrides("selector=merged", "sampling=rejection"), ("sampling.kind is rejection", "drafter_invariant")
    ),
    "a node without children": Mistake(
        overrides("drafting=tree", "drafting.branching=[2,0]"), ("drafting.branching", ">= 1")
    ),
    "a tree too large": Mistake(
        overrides("drafting=tree", "drafting.branching=[16,16]"), ("drafting.branching", "272 tokens", "at most 256")
    ),
    "one drafter merged": Mistake(
        overrides("selector=merged", "selector.drafters=[prompt_lookup]"), ("at least two", "prompt_lookup")
    ),
    "no such profile": Mistake(overrides("engine.profile=nowhere"), ("nowhere",)),
    "a profile of other models": Mistake(
        overrides("engine.profile=profiles/epyc-zen4-2-cores-smollm2-bfloat16", "engine.dtype=bfloat16"),
        ("profiled with target 'smollm2-135m-instruct'",),
    ),
    "a shared target in one process": Mistake(
        overrides("engine.tensor_parallel=2"), ("engine.tensor_parallel is 2", "torchrun --nproc-per-node 2", "set it to 1")
    ),
    "no process at all": Mistake(
        overrides("engine.tensor_parallel=0"), ("engine.tensor_parallel is 0", ">= 1")
    ),
    "K below zero": Mistake(
        overrides("drafting.num_speculative_tokens=-1"), ("drafting.num_speculative_tokens is -1", ">= 0")
    ),
    "K of no integer": Mistake(
        overrides("drafting.num_speculative_tokens=many"), ("drafting.num_speculative_tokens is many", "an integer")
    ),
    "capacity below the batch": Mistake(
        overrides("selector.capacity=[1,1,0]"), ("selector.capacity gives 2 places", "scheduler.max_num_seqs = 3")
    ),
    "capacity for too few drafters": Mistake(
        overrides("selector.capacity=[9]"), ("selector.capacity has 1 entries", "3 drafters")
    ),
    "capacity zero": Mistake(overrides("selector.capacity=0"), ("selector.capacity is 0", ">= 1 or a list")),
    "more exploring than slots": Mistake(
        overrides("selector.exploring_slots=9"), ("selector.exploring_slots is 9", "selector.slots_per_epoch (8)")
    ),
    "decay out of range": Mistake(overrides("selector.decay=1.5"), ("selector.decay is 1.5", "<= 1")),
    "unknown reward": Mistake(
        overrides("selector.reward=fun"), ("selector.reward is fun", "draft_goodput, round_goodput")
    ),
    "class that is not there": Mistake(overrides("selector._target_=no.Such"), ("selector._target_ is no.Such",)),
    "a search without a profile": Mistake(
        overrides("verification=decomposed"), ("verification=decomposed", "set engine.profile")
    ),
    "a window below zero": Mistake(
        overrides("verification=grouped", "verification.window_tokens=-1"), ("verification.window_tokens is -1", ">= 0")
    ),
    "unknown pieces": Mistake(
        overrides("verification=decomposed", "verification.pieces=odd"),
        ("verification.pieces is odd", "equal, unequal"),
    ),
    "unknown layout": Mistake(overrides("verification=diagonal"), ("verification=diagonal", "decomposed, grouped, packed, padded")),
    # numbers and names
    "no batch": Mistake(overrides("scheduler.max_num_seqs=0"), ("scheduler.max_num_seqs is 0", ">= 1")),
    "batch of a half": Mistake(overrides("scheduler.max_num_seqs=1.5"), ("scheduler.max_num_seqs is 1.5", "integer")),
    "text for a number": Mistake(overrides("kv.block_size=big"), ("kv.block_size is big", "an integer")),
    "number for a truth value": Mistake(
        overrides("models.use_chat_template=3"), ("models.use_chat_template is 3", "true or false")
    ),
    "nucleus above one": Mistake(overrides("sampling.top_p=2"), ("sampling.top_p is 2", "<= 1")),
    "temperature below zero": Mistake(overrides("sampling.temperature=-1"), ("sampling.temperature is -1", ">= 0")),
    "unknown dtype": Mistake(overrides("engine.dtype=int4"), ("engine.dtype is int4", "auto, float32, bfloat16, float64")),
    "negative seed": Mistake(overrides("seed=-1"), ("seed is -1", ">= 0")),
    "a pool too small for one request": Mistake(
        overrides("kv.num_blocks=1"), ("'r0'", "may need 2 KV blocks", "kv.num_blocks")
    ),
    "a pool beyond memory": Mistake(
        overrides("kv.num_blocks=1000000000000"), ("GB are free", "kv.num_blocks")
    ),
    "arrivals without effect": Mistake(
        overrides("arrivals=closed_loop", "+arrivals.request_rate=3"), ("arrivals.request_rate is 3", "no effect")
    ),
    "no clients": Mistake(
        overrides("arrivals=closed_loop", "arrivals.max_concurrency=0"), ("arrivals.max_concurrency is 0", ">= 1")
    ),
    "bad SLO": Mistake(overrides("slo=fast"), ("fast", "ttft:200 tpot:50")),
    # keys
    "unknown key": Mistake(overrides("scheduler.batch=3"), ("'scheduler.batch'", "max_num_seqs")),
    "unknown group": Mistake(overrides("selectr=spin"), ("'selectr'", "did you mean selector?")),
    "added key": Mistake(overrides("+speed=11"), ("'speed'", "keys are models, trace")),
    "added key in a section": Mistake(overrides("+kv.speed=11"), ("'kv.speed'", "keys of kv are block_size, num_blocks")),
    "added key in a dataclass": Mistake(overrides("+trace.speed=1"), ("'trace.speed'", "num_prompts")),
    "added parameter": Mistake(overrides("+selector.speed=11"), ("'selector.speed'", "rounds_per_slot")),
    "removed key": Mistake(overrides("~kv.block_size"), ("kv.block_size is missing",)),
    "unreadable override": Mistake(overrides("selector=["), ("'selector=['", "key=value")),
    "sweep without -m": Mistake(overrides("selector=plain,spin"), ("selector=plain,spin", "add -m")),
    "interpolation to nowhere": Mistake(overrides("method=${nowhere}"), ("nowhere", "method")),
    "unknown option": Mistake(overrides("--fast"), ("--fast", "--help")),
    # folders
    "a folder that is not empty": Mistake(full_folder, ("run: is not empty", "hydra.run.dir")),
    "a file as folder": Mistake(file_as_folder, ("run: is a file", "hydra.run.dir")),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(spinbench: CommandLine, mistake: Mistake) -> None:
    extra = mistake.prepare(spinbench)
    base = spinbench.overrides()
    before = files_in(spinbench.folder)
    assert_refused(spinbench("replay", *base, *extra), *mistake.said)
    assert files_in(spinbench.folder) == before


def test_a_finished_run_is_not_overwritten(spinbench: CommandLine) -> None:
    assert spinbench.replay("selector=plain").code == 0
    before = json.loads(Path("run/meta.json").read_text())
    assert_refused(spinbench.replay("selector=plain"), "run: holds a run already", "hydra.run.dir")
    assert json.loads(Path("run/meta.json").read_text()) == before


def test_a_bad_point_of_a_sweep_stops_it_before_the_first(spinbench: CommandLine) -> None:
    base, before = spinbench.overrides(), files_in(spinbench.folder)
    outcome = spinbench(
        "replay", "-m", *base, "selector=plain,spin", "drafting.num_speculative_tokens=1,2,-3",
        "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}",
    )  # fmt: skip
    assert_refused(outcome, "drafting.num_speculative_tokens is -3", "(in ", "selector=plain")
    assert files_in(spinbench.folder) == before


def test_points_that_share_a_folder_are_refused(spinbench: CommandLine) -> None:
    models = [text for text in spinbench.overrides() if text.startswith("models")]
    outcome = spinbench("profile", "-m", *models, "repeats=1,2", "hydra.sweep.subdir=same")
    assert_refused(outcome, "share this folder", "hydra.sweep.subdir")


def test_a_folder_name_too_long_is_refused(spinbench: CommandLine) -> None:
    models = [text for text in spinbench.overrides() if text.startswith("models")]
    outcome = spinbench("profile", "-m", *models, "repeats=1,2", f"hydra.sweep.subdir={'x' * 300}")
    assert_refused(outcome, "longer than 255", "hydra.sweep.subdir")


def test_a_point_that_fails_late_does_not_stop_the_others(spinbench: CommandLine) -> None:
    models = f"./nowhere,{spinbench.models.target}"
    outcome = spinbench(
        "replay", "-m", *spinbench.overrides(), "selector=plain", f"models.target={models}",
        "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}",
    )  # fmt: skip
    assert outcome.code == 1
    assert outcome.err.startswith("failed: 1 point: UserError: ")
    assert "'nowhere'" in outcome.err or "./nowhere" in outcome.err
    assert "no such folder" in outcome.err
    folders = {path.name[0]: path for path in Path("sweep").iterdir() if path.is_dir() and path.name != ".sweep"}
    assert sorted(folders) == ["0", "1"]
    failure = json.loads((folders["0"] / "failure.json").read_text())
    assert (failure["type"], failure["attempts"]) == ("UserError", 1)
    assert (folders["1"] / "summary.json").is_file()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["launcher=processes"], "real runs beside each other would disturb what they measure"),
        (["launcher=serial,ray"], "each can have one value"),
        (["launcher=slurm", "launcher.workers=0"], "launcher.workers is 0; it must be >= 1"),
        (["launcher=cluster"], "launcher=cluster: no such choice; choices are processes, ray, serial, slurm"),
        (["keep=nothing"], "keep is nothing; it must be one of all, tables, summary"),
        (["sweep.max_attempts=0"], "sweep.max_attempts is 0; it must be >= 1"),
    ],
)
def test_a_sweep_that_cannot_be_run_so(spinbench: CommandLine, overrides: list[str], said: str) -> None:
    before = files_in(spinbench.folder) | {"tiny.jsonl"}
    base = [*spinbench.overrides(), "hydra.sweep.dir=sweep"]
    outcome = spinbench("replay", "-m", *base, "selector=plain,random", *overrides)
    assert_refused(outcome, said)
    assert files_in(spinbench.folder) == before


def test_what_is_of_sweeps_is_refused_in_a_run(spinbench: CommandLine) -> None:
    assert_refused(spinbench.replay("sweep.retry_failed=true"), "sweep.retry_failed is of sweeps", "add -m")
    assert_refused(spinbench.replay("launcher=processes"), "launcher is of sweeps", "add -m")


def test_a_folder_of_the_other_mode_is_refused(spinbench: CommandLine) -> None:
    before = files_in(spinbench.folder) | {"tiny.jsonl"}
    base = [text for text in spinbench.overrides() if not text.startswith("hydra.")]
    swept = spinbench("replay", "-m", *base, "seed=0,1", "hydra.run.dir=there")
    assert_refused(swept, "hydra.run.dir has no effect on a sweep (-m); give hydra.sweep.dir=...")
    single = spinbench("replay", *base, "hydra.sweep.dir=there")
    assert_refused(single, "hydra.sweep.dir has no effect on a single run (no -m); give hydra.run.dir=...")
    assert files_in(spinbench.folder) == before


def test_report_on_folders_without_a_run(spinbench: CommandLine) -> None:
    Path("empty").mkdir()
    assert_refused(spinbench("report", "empty"), "empty", "no run here")
    assert_refused(spinbench("report", "nowhere"), "nowhere", "no such folder")
    assert_refused(spinbench("report"), "DIR", "--help")
    assert files_in(spinbench.folder) == {"empty"}


def test_unknown_commands(spinbench: CommandLine) -> None:
    assert_refused(spinbench("reply"), "'reply'", "did you mean 'replay'?")
    assert_refused(spinbench("fetch", "--now"), "--now")
