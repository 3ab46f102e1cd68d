"""Whole replays through the command line, on tiny models."""

import itertools
import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from spinbench.cli.main import main
from spinbench.metrics.store import read_run
from spinbench.report.section import load_sections
from tests.cli.conftest import CommandLine, TinyModels, tiny_overrides, trace_lines, write_trace

SELECTORS = ("spin", "contextual", "joint drafting=by_selector")
"""Others below, where a knob is changed, pipelines run or trees are drafted."""


def outputs(folder: Path) -> dict[str, list[int]]:
    requests = read_run(folder).requests
    return {row.request_id: [int(token) for token in row.output_token_ids] for row in requests.itertuples()}


@pytest.fixture(scope="module")
def plain(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What plain decoding says."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(logging.getLogger(), "handlers", [])  # Hydra's write to the stdout of an earlier test
        assert main(["replay", *tiny_overrides(tiny, folder), "selector=plain"]) == 0
    said = outputs(folder / "run")
    # 12 + 13 + 14 + 15 + 16 tokens
    assert sum(map(len, said.values())) == 70
    return said


def test_every_kind_of_drafting_leaves_the_same_text(spinbench: CommandLine, plain: dict[str, list[int]]) -> None:
    fixed = [f"selector=fixed selector.drafter={name}" for name in (spinbench.models.good_drafter, "prompt_lookup")]
    # the runtime's tests hold every pair of selector and layout against plain decoding (tests/runtime/test_lossless.py)
    layouts = itertools.cycle(("padded", "packed"))
    setups = [f"{one} verification={next(layouts)}" for one in [*(f"selector={name}" for name in SELECTORS), *fixed]]
    for number, setup in enumerate(setups):
        folder = f"run-{number}"
        done = spinbench.replay(*setup.split(), f"hydra.run.dir={folder}")
        assert (done.code, done.err) == (0, "")
        assert outputs(Path(folder)) == plain, setup
        assert f"in {folder}" in done.out


def test_trees_leave_the_same_text_and_are_told_apart(spinbench: CommandLine, plain: dict[str, list[int]]) -> None:
    fixed = ["selector=fixed", f"selector.drafter={spinbench.models.poor_drafter}"]
    points = {
        "merged": ["selector=merged"],
        "tree": [*fixed, "drafting=tree", "drafting.branching=[2,3]"],
        "chain": [*fixed, "drafting.num_speculative_tokens=2"],
        "both": ["selector=merged", "drafting=tree"],
    }
    for name, overrides in points.items():
        done = spinbench.replay(*overrides, f"hydra.run.dir=runs/{name}")
        assert (done.code, done.err) == (0, "")
        assert outputs(Path("runs") / name) == plain
    runs = {name: read_run(Path("runs") / name) for name in points}
    assert runs["tree"].meta["method"] == runs["chain"].meta["method"]
    assert {name: run.meta["drafting"] for name, run in runs.items()} == {
        "merged": "fixed", "tree": "tree 2-3", "chain": "fixed", "both": "tree 1-1-3-1-1-1-1-1",
    }  # fmt: skip
    # 2 + 2 * 3 nodes on paths of two tokens
    assert (runs["tree"].rounds["drafted"].max(), runs["tree"].rounds["draft_depth"].max()) == (8, 2)
    assert set(runs["merged"].rounds["drafter"].dropna()) == {"merged"}
    assert spinbench("report", "runs", "-o", "report").code == 0
    page = (spinbench.folder / "report" / "report.md").read_text()
    assert all(label in page for label in ("tree 2-3", "tree 1-1-3-1-1-1-1-1", "merged"))


def test_pipelines_leave_the_same_text_and_are_told_apart(spinbench: CommandLine, plain: dict[str, list[int]]) -> None:
    points = {
        "serial": [],
        "together": ["pipeline=micro_batches", "pipeline.depth=3", "placement=drafters_together"],
        "own": ["pipeline=micro_batches", "pipeline.depth=adaptive", "placement=own_devices", "engine.num_threads=2"],
        "ahead": ["switching=ahead", "placement=own_devices"],
    }
    for name, overrides in points.items():
        done = spinbench.replay("selector=round_robin", *overrides, f"hydra.run.dir=runs/{name}")
        assert (done.code, done.err) == (0, "")
        assert outputs(Path("runs") / name) == plain
    meta = {name: read_run(Path("runs") / name).meta for name in points}
    assert {name: (one["pipeline"], one["placement"]) for name, one in meta.items()} == {
        "serial": ("serial", "shared"),
        "together": ("depth 3 by_drafter", "drafters_together"),
        "own": ("adaptive depth by_drafter", "own_devices"),
        "ahead": ("serial", "own_devices"),
    }
    (section,), _ = load_sections([Path("runs")])
    assert {setting.runs[0].folder.name: setting.label for setting in section.settings} == {
        "serial": "round robin serial shared",
        "together": "round robin depth 3 drafters together",
        "own": "round robin adaptive depth own devices",
        "ahead": "round robin serial own devices, KV ahead",
    }


def test_a_run_says_what_made_it(spinbench: CommandLine) -> None:
    assert spinbench.replay("selector=epsilon_greedy", "slo='ttft:1e6'", "repeat=2").code == 0
    run = read_run(Path("run"))
    assert run.complete
    assert run.meta["method"] == "epsilon-greedy"
    assert (run.meta["baseline"], run.meta["repeat"], run.meta["max_num_seqs"]) == (False, 2, 3)
    assert (run.meta["selector"], run.meta["verification"], run.meta["engine"]) == (
        "epsilon_greedy",
        "packed",
        "runtime",
    )
    assert run.meta["models"]["target"]["kind"] == "path"
    assert [len(drafter["sha256"]) for drafter in run.meta["models"]["drafters"]] == [64, 64]
    assert run.meta["trace"]["num_requests"] == 5
    assert run.meta["command"].startswith("spinbench replay models=huggingface ")
    assert run.config["repeat"] == 2
    assert run.summary["request_goodput"] == pytest.approx(run.summary["request_throughput"])
    texts = dict(zip(run.requests["request_id"], run.requests["output_text"], strict=True))
    assert all(isinstance(text, str) for text in texts.values())
    assert list(run.requests.loc[run.requests["request_id"] == "r1", "prompt"]) == ["Say 1 words, and more "]
    # the warm-up is over before the clock starts
    assert (run.requests["arrival_s"] == 0).all()
    assert run.meta["start_s"] < 1.0
    assert not list(Path("run").glob(".*"))


@pytest.mark.parametrize(
    ("overrides", "label", "num_speculative_tokens"),
    [
        (["selector=plain"], "plain", 0),
        (["selector=fixed", "selector.drafter=prompt_lookup"], "prompt lookup", 4),
        (["selector=fixed", "selector.drafter={good}"], "fixed {good}", 4),
        (["selector=round_robin", "drafting.num_speculative_tokens=2"], "round robin", 2),
        (["selector=spin", "method=mine"], "mine", 4),
    ],
)
def test_the_name_of_a_method(
    spinbench: CommandLine, overrides: list[str], label: str, num_speculative_tokens: int
) -> None:
    good = str(spinbench.models.good_drafter)
    assert spinbench.replay(*(text.format(good=good) for text in overrides), "trace.num_prompts=1").code == 0
    meta = read_run(Path("run")).meta
    assert meta["method"] == label.format(good=good)
    assert meta["num_speculative_tokens"] == num_speculative_tokens


def test_a_model_behind_a_lookup_is_a_drafter_of_its_own(spinbench: CommandLine) -> None:
    good = str(spinbench.models.good_drafter)
    both = f"{good}+prompt_lookup"
    code = spinbench.replay("selector=fixed", f"selector.drafter={both}", f"models.drafters=[{good},{both}]").code
    assert code == 0
    run = read_run(Path("run"))
    assert set(run.rounds["drafter"].dropna()) == {both}
    cost = {drafter["name"]: drafter["macs_per_token"] for drafter in run.meta["models"]["drafters"]}
    assert set(cost) == {good, both}
    assert cost[both] == cost[good] > 0


@pytest.mark.parametrize(
    ("override", "column", "expected"),
    [
        ("drafting.num_speculative_tokens=2", "num_speculative_tokens", 2),
        ("scheduler.max_num_seqs=1", "batch_size", 1),
    ],
)
def test_a_knob_that_bounds_a_round(spinbench: CommandLine, override: str, column: str, expected: int) -> None:
    assert spinbench.replay("selector=random", override).code == 0
    assert read_run(Path("run")).rounds[column].max() == expected


def rounds(spinbench: CommandLine, plain: dict[str, list[int]], *overrides: str) -> pd.DataFrame:
    folder = Path(f"run-{len(overrides)}")
    assert spinbench.replay(*overrides, f"hydra.run.dir={folder}").code == 0
    assert outputs(folder) == plain
    return read_run(folder).rounds[["request_id", "drafter", "drafted", "accepted"]]


@pytest.fixture(scope="module")
def defaults() -> dict[str, pd.DataFrame]:
    """What selectors do as they are, by their names, once it is known: several tests hold it against a knob."""
    return {}


@pytest.mark.parametrize(
    ("selector", "override"),
    [
        # other knobs of selectors are turned in the simulator (tests/simulation/test_sensitivity.py), which asks the
        # same selectors, made of the same config
        ("random", "seed=1"),
        ("spin", "selector.rounds_per_slot=1"),
        ("fixed", "models.prompt_lookup.min_match_tokens=3"),
        ("fixed", "models.prompt_lookup.max_match_tokens=1"),
    ],
)
def test_a_knob_that_changes_who_drafts_what_leaves_the_same_text(
    spinbench: CommandLine,
    plain: dict[str, list[int]],
    defaults: dict[str, pd.DataFrame],
    selector: str,
    override: str,
) -> None:
    choice = [f"selector={selector}"]
    if selector == "fixed":
        choice.append("selector.drafter=prompt_lookup")
    if selector not in defaults:
        defaults[selector] = rounds(spinbench, plain, *choice)
    assert not defaults[selector].equals(rounds(spinbench, plain, *choice, override))


def test_sampling_changes_the_text_and_its_knobs_too(spinbench: CommandLine) -> None:
    settings = {
        "greedy": ["sampling=greedy"],
        "hot": ["sampling=drafter_invariant"],
        "hotter": ["sampling=drafter_invariant", "sampling.temperature=3"],
        "nucleus": ["sampling=drafter_invariant", "sampling.top_p=0.3"],
        "few": ["sampling=drafter_invariant", "sampling.top_k=1"],
        "rejection": ["sampling=rejection"],
    }
    texts = {}
    for name, overrides in settings.items():
        assert spinbench.replay("selector=plain", *overrides, f"hydra.run.dir={name}").code == 0
        texts[name] = outputs(Path(name))
    assert texts["few"] == texts["greedy"]
    assert len({json.dumps(text) for text in texts.values()}) == 5


def test_a_small_pool_preempts_and_changes_no_text(spinbench: CommandLine) -> None:
    assert spinbench.replay("hydra.run.dir=roomy").code == 0
    assert spinbench.replay("hydra.run.dir=tight", "kv.num_blocks=22", "kv.block_size=4").code == 0
    roomy, tight = read_run(Path("roomy")), read_run(Path("tight"))
    assert roomy.summary["num_preemptions"] == 0
    assert tight.summary["num_preemptions"] > 0
    assert outputs(Path("roomy")) == outputs(Path("tight"))


def test_prompts_are_measured_with_the_targets_tokenizer(spinbench: CommandLine) -> None:
    # bytes are tokens: 'Say 0 words, ' is 13, and each 'and more ' adds 9
    assert spinbench.replay("trace.max_prompt_tokens=13").code == 0
    run = read_run(Path("run"))
    assert sorted(run.requests["request_id"]) == ["r0", "r3"]
    assert run.meta["trace"]["dropped_requests"] == 3


def test_a_sweep_runs_every_point_in_a_folder_of_its_name(spinbench: CommandLine) -> None:
    overrides = [
        text for text in spinbench.overrides() if not text.startswith(("scheduler", "models.", "trace", "eng"))
    ]
    held = [text for text in spinbench.overrides() if text.startswith(("models.", "trace", "engine"))]
    exclude = "[models,models.target,models.drafters,trace.path,engine.dtype,engine.num_threads,arrivals]"
    done = spinbench(
        "replay", "-m", *overrides, *held, "selector=plain,spin", "scheduler.max_num_seqs=1,2",
        "hydra.sweep.dir=sweep", f"hydra.job.config.override_dirname.exclude_keys={exclude}",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    names = sorted(path.name for path in Path("sweep").iterdir() if path.is_dir() and path.name != ".sweep")
    labels = [f"scheduler.max_num_seqs={n},selector={s}" for n in (1, 2) for s in ("plain", "spin")]
    assert [name.rpartition("-")[0] for name in names] == labels
    assert all(read_run(Path("sweep") / name).complete for name in names)


def test_arrivals_follow_the_trace(spinbench: CommandLine) -> None:
    lines = trace_lines(2)
    lines[1]["arrival_s"] = 0.5
    write_trace(spinbench.folder, lines)
    assert spinbench.replay("arrivals=trace", "trace.time_scale=0.5").code == 0
    arrivals = read_run(Path("run")).requests.set_index("request_id")["arrival_s"]
    assert arrivals["r1"] == pytest.approx(0.25)
