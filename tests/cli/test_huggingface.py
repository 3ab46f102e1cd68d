"""engine=huggingface through the command line, on tiny models."""

from pathlib import Path

import pytest

from spinbench.metrics.store import read_run
from tests.cli.conftest import CommandLine
from tests.cli.test_bad_input import assert_refused
from tests.cli.test_replay import outputs

PEER = ("engine=huggingface", "engine.dtype=float64", "engine.num_threads=1")
ONE = "scheduler.max_num_seqs=1"


@pytest.mark.usefixtures("undrawn")
def test_the_peer_leaves_the_same_files_and_texts(spinbench: CommandLine) -> None:
    good = spinbench.models.good_drafter
    assert spinbench.replay("selector=plain", "hydra.run.dir=runs/ours").code == 0
    assisted = [*PEER, "selector=fixed", ONE]
    for name, overrides in {
        "plain": [*PEER, "selector=plain"],
        "good": [*assisted, f"selector.drafter={good}"],
        "lookup": [*assisted, "selector.drafter=prompt_lookup", "drafting.num_speculative_tokens=3"],
        "defaults": [*assisted, f"selector.drafter={good}", "engine.draft_length=huggingface"],
    }.items():
        done = spinbench.replay(*overrides, f"hydra.run.dir=runs/{name}")
        assert (done.code, done.err) == (0, "")
        assert "None" not in done.out
    ours, peer = read_run(Path("runs/ours")), read_run(Path("runs/plain"))
    assert sorted(p.name for p in peer.folder.iterdir()) == sorted(p.name for p in ours.folder.iterdir())
    assert set(peer.summary) == set(ours.summary)
    assert set(peer.meta) == set(ours.meta)
    for table in ("requests", "rounds", "spans"):
        assert list(getattr(peer, table)) == list(getattr(ours, table))
    assert (peer.meta["engine"], peer.meta["method"], peer.meta["baseline"]) == ("huggingface", "hf generate", False)
    assert [peer.meta[key] for key in ("verification", "pipeline", "placement", "switching")] == [None] * 4
    unknown = ("spec_decode_acceptance_rate", "acceptance_length", "padding_share")
    assert [peer.summary[key] for key in unknown] == [None] * 3
    assert peer.summary["output_throughput"] > 0
    assert list(peer.requests["output_text"]) == [
        ours.requests.set_index("request_id")["output_text"][name] for name in peer.requests["request_id"]
    ]
    for name in ("plain", "good", "lookup", "defaults"):
        assert outputs(Path(f"runs/{name}")) == outputs(Path("runs/ours"))
    meta = {name: read_run(Path(f"runs/{name}")).meta for name in ("good", "lookup", "defaults")}
    assert meta["good"]["method"] == f"hf assisted {good}"
    assert [drafter["name"] for drafter in meta["good"]["models"]["drafters"]] == [str(good)]
    assert [meta[name]["num_speculative_tokens"] for name in meta] == [4, 3, None]
    # beside our runs in a report: another method, held against our plain decoding
    assert spinbench("report", "runs", "-o", "report").code == 0
    page = Path("report/report.md").read_text()
    assert "hf generate" in page
    assert "Lossless: all 20 outputs equal" in page


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["selector=spin"], ("one drafter or none", "SpinSelector", "selector=fixed selector.drafter=NAME")),
        (["selector=plain", "sampling=drafter_invariant"], ("sampling.temperature is 0.8", "sampling=greedy")),
        (["selector=fixed", "selector.drafter=prompt_lookup"], ("scheduler.max_num_seqs is 3", "set it to 1")),
        (
            ["selector=fixed", "selector.drafter=prompt_lookup", ONE, "engine.draft_length=huggingface"],
            ("engine.draft_length is huggingface", "prompt lookup has no default"),
        ),
        (
            ["selector=fixed", "selector.drafter=prompt_lookup", ONE, "drafting=by_match_order"],
            ("engine.draft_length is drafting", "drafting=fixed"),
        ),
        (
            ["models.drafters=[{good}+prompt_lookup]", "selector=fixed", "selector.drafter={good}+prompt_lookup", ONE],
            ("knows networks and prompt_lookup, not both in one",),
        ),
    ],
)
def test_what_generate_does_not_know_is_one_line(
    spinbench: CommandLine, overrides: list[str], said: tuple[str, ...]
) -> None:
    good = str(spinbench.models.good_drafter)
    assert_refused(spinbench.replay(*PEER, *(text.format(good=good) for text in overrides)), *said)
    assert not Path("run").exists()


def test_a_recording_needs_our_runtime(spinbench: CommandLine) -> None:
    overrides = [text for text in spinbench.overrides() if not text.startswith(("arrivals", "hydra", "engine"))]
    assert_refused(spinbench("record", *overrides, *PEER, "out=table"), "engine.kind is huggingface", "engine=runtime")
