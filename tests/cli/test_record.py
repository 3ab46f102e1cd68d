"""Whole recordings through the command line, on tiny models."""

import itertools
import json
import logging
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinbench.cli.main import main
from spinbench.cli.record import columns as record_columns
from spinbench.metrics.store import read_run
from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.ngram import count_ngrams
from spinbench.models.load import DrafterModel
from spinbench.models.ngram_file import NgramDescription, write_ngrams
from spinbench.workload.acceptance.agreement import NOTHING_TO_COMPARE
from spinbench.workload.acceptance.from_table import streams_of_table
from spinbench.workload.acceptance.table import AcceptanceTable, DrafterColumns
from spinbench.workload.acceptance.table_file import content_sha256, read_table, write_table
from spinbench.workload.acceptance.walk import walk
from spinbench.workload.speculation_profile import read_speculation_profile
from tests.cli.conftest import VOCAB, CommandLine, Outcome, TinyModels, tiny_overrides, trace_lines, write_trace
from tests.cli.test_bad_input import assert_refused
from tests.forked import DEADLINE_S, Forked
from tests.runtime.scarce_memory import ScarceMemory


def overrides(models: TinyModels, folder: Path) -> list[str]:
    no_key = ("arrivals", "hydra")
    return [text for text in tiny_overrides(models, folder) if not text.startswith(no_key)] + ["out=table"]


def record(spinbench: CommandLine, *more: str) -> Outcome:
    return spinbench("record", *overrides(spinbench.models, spinbench.folder), *more)


@pytest.fixture(scope="module")
def made(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the tiny trace, made once for all tests that go on from one."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(logging.getLogger(), "handlers", [])  # Hydra's write to the stdout of an earlier test
        assert main(["record", *overrides(tiny, folder)]) == 0
    return folder / "table"


@pytest.fixture
def table(spinbench: CommandLine, made: Path) -> AcceptanceTable:
    """The same, in `table` here."""
    shutil.copytree(made, spinbench.folder / "table")
    return read_table(Path("table"))


def same_scores(a: AcceptanceTable, b: AcceptanceTable) -> bool:
    return list(a.columns) == list(b.columns) and all(
        np.array_equal(getattr(a.columns[name], score), getattr(b.columns[name], score))
        for name in a.columns
        for score in ("rank", "probability", "top_probability")
    )


def test_a_recording_says_what_runs_did(spinbench: CommandLine) -> None:
    assert spinbench.replay("selector=plain", "hydra.run.dir=plain").code == 0
    done = record(spinbench)
    assert (done.code, done.err) == (0, "")
    table, plain = read_table(Path("table")), read_run(Path("plain"))
    assert sorted(path.name for path in Path("table").iterdir()) == [
        "meta.json", "positions.parquet", "requests.parquet", "speculation_profiles",
    ]  # fmt: skip
    texts = {row["request_id"]: row["output_token_ids"].tolist() for row in plain.requests.to_dict("records")}
    for row, name in enumerate(table.requests.ids):
        assert table.token_ids[table.requests.offsets[row] : table.requests.offsets[row + 1]].tolist() == texts[name]
    assert table.meta.target.sha256 == plain.meta["models"]["target"]["sha256"]
    assert table.meta.trace.sha256 == plain.meta["trace"]["sha256"]
    good, poor = str(spinbench.models.good_drafter), str(spinbench.models.poor_drafter)
    assert list(table.columns) == [good, poor]

    both = f"{good}+prompt_lookup"
    streams = streams_of_table(table, [good, poor, "prompt_lookup", both])
    for drafter in (good, "prompt_lookup", both):
        assert spinbench.replay(
            "selector=fixed", f"selector.drafter={drafter}", f"models.drafters=[{good},{poor},prompt_lookup,{both}]",
            f"hydra.run.dir=run-{Path(drafter).name}",
        ).code == 0  # fmt: skip
        rounds = read_run(Path(f"run-{Path(drafter).name}")).rounds
        rows = np.array([table.requests.row_of[name] for name in rounds["request_id"]])
        emitted = rounds["context_tokens"].to_numpy() - table.requests.prompt_tokens[rows]
        order = streams.match_order_at(rows, emitted)
        assert order.tolist() == rounds["lookup_match_order"].tolist()
        by_lookup = {good: order < 0, "prompt_lookup": order >= 0, both: order >= 2}[drafter]
        run = streams.accepted_run(
            rows, emitted, streams.drafters.index(drafter), by_lookup, 3, 2 if "+" in drafter else 1
        )
        assert np.minimum(run, 4).tolist() == rounds["accepted"].tolist()


def test_what_is_printed_is_what_the_profiles_say(spinbench: CommandLine) -> None:
    done = record(spinbench, "num_speculative_tokens=2")
    assert done.code == 0
    good = str(spinbench.models.good_drafter)
    table = read_table(Path("table"))
    walked = walk(streams_of_table(table, [good]), 0, 2, lambda order: np.zeros(len(order), np.bool_))
    line = next(line for line in done.out.splitlines() if Path(good).name in line)
    assert f"{walked.acceptance_length:.2f}" in line
    assert "acceptance length at K = 2" in done.out
    assert "5 requests, 70 tokens" in done.out
    profile = read_speculation_profile(
        Path("table/speculation_profiles") / good.replace("/", "_") / "speculation_profile.json"
    )
    assert 1 + sum(profile.marginal_accept_rates) == pytest.approx(walked.acceptance_length, abs=1e-5)
    written = (Path("table/speculation_profiles") / good.replace("/", "_") / "speculation_profile.json").read_text()
    assert str(spinbench.folder.parent) not in written
    assert (
        json.loads((Path("table/speculation_profiles/prompt_lookup/speculation_profile.json")).read_text())["method"]
        == "ngram"
    )


def test_answers_of_a_run_by_any_selector(spinbench: CommandLine, table: AcceptanceTable) -> None:
    assert spinbench.replay("selector=random").code == 0
    assert record(spinbench, "from_run=run", "out=again").code == 0
    assert content_sha256(read_table(Path("again"))) == content_sha256(table)


def test_drafters_are_added_to_a_table(spinbench: CommandLine, table: AcceptanceTable) -> None:
    good, poor = spinbench.models.good_drafter, spinbench.models.poor_drafter
    assert record(spinbench, f"models.drafters=[{good}]", "out=one").code == 0
    assert list(read_table(Path("one")).columns) == [str(good)]
    done = record(spinbench, f"models.drafters=[{poor}+prompt_lookup]", "merge=one", "out=one")
    assert (done.code, done.err) == (0, "")
    assert Path(good).name in done.out
    assert same_scores(read_table(Path("one")), table)
    assert_refused(record(spinbench, "merge=one", "out=one"), "one: holds all of models.drafters already")


def test_rollouts_are_recorded_and_added_to_a_table(spinbench: CommandLine) -> None:
    good, poor = spinbench.models.good_drafter, spinbench.models.poor_drafter
    assert record(spinbench, "rollout_tokens=3").code == 0
    table = read_table(Path("table"))
    assert [drafter.rollout_tokens for drafter in table.meta.drafters] == [3, 3]
    # without, then one drafter with them, then the other one too
    assert record(spinbench, "out=one").code == 0
    assert same_scores(read_table(Path("one")), table)
    done = record(spinbench, f"models.drafters=[{poor}]", "rollout_tokens=3", "merge=one", "out=one")
    assert (done.code, done.err) == (0, "")
    assert read_table(Path("one")).num_rollout_tokens([str(good), str(poor)]) == 1
    assert record(spinbench, "rollout_tokens=3", "merge=one", "out=one").code == 0
    one = read_table(Path("one"))
    for name in (str(good), str(poor)):
        np.testing.assert_array_equal(one.column(name).confidence(3), table.column(name).confidence(3))
    assert_refused(
        record(spinbench, "rollout_tokens=2", "merge=one", "out=one"), "one: holds all of models.drafters already"
    )
    assert_refused(record(spinbench, "rollout_tokens=0", "out=two"), "rollout_tokens")


def test_a_table_of_an_older_format_gets_what_it_lacks(spinbench: CommandLine, table: AcceptanceTable) -> None:
    meta = table.meta.model_copy(update={"lookup_agreed": False})
    old = replace(table, meta=meta, lookup_agreed=None)
    write_table(Path("old"), old)
    assert read_table(Path("old")).meta.format == 1
    done = record(spinbench, "merge=old", "out=new")
    assert (done.code, done.err) == (0, "")
    assert content_sha256(read_table(Path("new"))) == content_sha256(table)
    write_table(Path("old"), replace(old, match_order=1 - np.minimum(old.match_order, 1)))
    assert_refused(record(spinbench, "merge=old", "out=other"), "old: prompt lookup finds other matches")


def test_a_table_of_an_older_format_gets_how_far_copies_agree_with_an_ngram_table(spinbench: CommandLine) -> None:
    assert record(spinbench, "models.drafters=[]").code == 0
    texts = read_table(Path("table"))
    bounds = texts.requests.offsets
    answers = [
        SelfPlayLine(0, texts.token_ids[start:end].astype(np.int64)) for start, end in itertools.pairwise(bounds)
    ]
    description = NgramDescription(
        format=1, name="tiny-ngram", target="tiny", target_weights_sha256=texts.meta.target.sha256, vocab_size=VOCAB,
        context_tokens=3,
    )  # fmt: skip
    write_ngrams(Path("tiny-ngram"), description, count_ngrams(answers, np.arange(0, len(answers), 2), 3), "card")
    ngrams = "./tiny-ngram"
    assert record(spinbench, f"models.drafters=[{ngrams}]", "merge=table", "out=whole").code == 0
    whole = read_table(Path("whole"))
    assert whole.meta.format == 4
    agreed = whole.columns[ngrams].copy_agreed
    assert agreed is not None
    assert len({*agreed.tolist()} - {NOTHING_TO_COMPARE}) > 1
    # of format 3, which did not know it
    drafters = tuple(one.model_copy(update={"copy_agreed": False}) for one in whole.meta.drafters)
    columns = {ngrams: replace(whole.columns[ngrams], copy_agreed=None)}
    write_table(Path("old"), replace(whole, meta=whole.meta.model_copy(update={"drafters": drafters}), columns=columns))
    assert read_table(Path("old")).meta.format == 3
    done = record(spinbench, f"models.drafters=[{ngrams}]", "merge=old", "out=new")
    assert (done.code, done.err) == (0, "")
    assert content_sha256(read_table(Path("new"))) == content_sha256(whole)
    np.testing.assert_array_equal(read_table(Path("new")).columns[ngrams].copy_agreed, agreed)
    again = record(spinbench, f"models.drafters=[{ngrams}]", "merge=new", "out=again")
    assert_refused(again, "new: holds all of models.drafters already")


def test_sampling_with_the_targets_noise(spinbench: CommandLine) -> None:
    assert record(spinbench, "sampling=drafter_invariant", "sampling.temperature=2").code == 0
    table = read_table(Path("table"))
    assert table.meta.sampling.temperature == 2
    good = str(spinbench.models.good_drafter)
    assert spinbench.replay(
        "sampling=drafter_invariant", "sampling.temperature=2", "selector=fixed", f"selector.drafter={good}"
    ).code == 0  # fmt: skip
    rounds = read_run(Path("run")).rounds
    rows = np.array([table.requests.row_of[name] for name in rounds["request_id"]])
    emitted = rounds["context_tokens"].to_numpy() - table.requests.prompt_tokens[rows]
    run = streams_of_table(table, [good]).accepted_run(rows, emitted, 0, np.zeros(len(rows), np.bool_))
    assert np.minimum(run, 4).tolist() == rounds["accepted"].tolist()
    assert 0 < rounds["accepted"].sum() < rounds["drafted"].sum()


def test_without_drafters_there_is_prompt_lookup(spinbench: CommandLine) -> None:
    assert record(spinbench, "models.drafters=[prompt_lookup]").code == 0
    table = read_table(Path("table"))
    assert not table.columns
    assert table.match_order.max() > 0


def test_the_folder_is_named_by_trace_and_target(spinbench: CommandLine) -> None:
    arguments = [text for text in overrides(spinbench.models, spinbench.folder) if not text.startswith("out")]
    assert spinbench("record", *arguments, "models.drafters=[]").code == 0
    assert read_table(Path("records/tiny-target")).requests.num_positions == 70


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["num_speculative_tokens=0"], "num_speculative_tokens is 0; it must be >= 1"),
        (["selector=plain"], "selector"),
        (["from_run=nowhere"], "from_run=nowhere: no run here"),
        (["merge=nowhere"], "nowhere: no acceptance table here"),
        (["merge=a", "from_run=b"], "merge and from_run are both set"),
        (["out=tiny.jsonl"], "tiny.jsonl: is a file; set out to a folder"),
        (["hydra.run.dir=b"], "hydra puts this in b, and out is table; a table's folder is out: set out=b"),
        (["out=."], "holds something else (tiny.jsonl); set out to another folder"),
        (["trace.path=none.jsonl"], "none.jsonl: no such file"),
        (["sampling=rejection"], "sampling.kind is rejection: there the text depends on who drafts"),
        (["sampling.temperature=-1"], "sampling.temperature is -1"),
        (["models.drafters=[./nothing]"], "drafter 'nothing': no such folder"),
        (["models.target=./nothing"], "target 'nothing': no such folder"),
    ],
)
def test_mistakes_are_told_in_one_line(spinbench: CommandLine, more: list[str], message: str) -> None:
    assert_refused(record(spinbench, *more), message)
    assert not Path("table/meta.json").exists()


def test_only_real_models_can_be_recorded(spinbench: CommandLine) -> None:
    assert_refused(spinbench("record", "engine=simulation"), "engine.kind is simulation; a recording needs real models")


def test_a_table_is_not_overwritten_nor_mixed_with_another(spinbench: CommandLine, table: AcceptanceTable) -> None:
    good, poor, other = spinbench.models.good_drafter, spinbench.models.poor_drafter, spinbench.models.target
    assert_refused(record(spinbench), "table: holds an acceptance table already")
    add = ["merge=table", "out=more", f"models.drafters=[{other}]"]
    assert_refused(record(spinbench, *add, f"models.target={good}"), "was recorded with target")
    assert_refused(record(spinbench, *add, "sampling=drafter_invariant"), "was recorded with sampling greedy, not")
    assert_refused(
        record(spinbench, *add, "engine.dtype=float32"), "was recorded with engine.dtype=float64, not float32"
    )
    assert_refused(record(spinbench, *add, "trace.num_prompts=2"), "table: holds another request, 'r2'")
    write_trace(spinbench.folder, trace_lines(4))
    assert_refused(record(spinbench, *add), "was recorded on trace 'tiny' of digest")
    assert poor.exists()
    assert not Path("more").exists()


def test_a_run_of_something_else_is_refused(spinbench: CommandLine) -> None:
    assert spinbench.replay("selector=plain", "trace.num_prompts=3").code == 0
    run = ["from_run=run"]
    assert_refused(record(spinbench, *run), "run: lacks request 'r3'")
    assert_refused(record(spinbench, *run, "sampling=drafter_invariant"), "run: is a run with sampling greedy, not")
    assert spinbench.replay("sampling=rejection", "hydra.run.dir=rejecting").code == 0
    assert_refused(
        record(spinbench, "from_run=rejecting"), "rejecting: is a run with sampling=rejection, whose answers"
    )
    part = [*run, "trace.num_prompts=3"]
    assert_refused(record(spinbench, *part, "trace.max_output_tokens=3"), "had max_new_tokens 12, here 3")
    assert_refused(
        record(spinbench, *part, f"models.target={spinbench.models.good_drafter}"), "is a run of another target"
    )
    write_trace(spinbench.folder, trace_lines(4))
    assert_refused(record(spinbench, *part), "is a run of another trace")
    assert not Path("table").exists()


def test_answers_that_want_of_memory_cut_short_are_told_and_not_recorded(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        ScarceMemory(patch, lambda _, spans: not (spans.start[spans.rows == 1] > 28).any(), ["verify"])
        done = spinbench.replay("selector=plain")
        assert done.code == 0
        assert "1 of 5 requests were given up, out of memory even alone: 'r1' was the first" in done.err
        assert "request 'r1' is given up: out of memory in a verify job of it alone" in done.out
        assert_refused(record(spinbench), "request 'r1' is out of memory even alone, so its answer is not known")
    run = read_run(Path("run"))
    assert (run.summary["failed"], run.summary["completed"]) == (1, 4)
    assert run.summary["num_out_of_memory"] > 1
    assert_refused(record(spinbench, "from_run=run"), "run: request 'r1' was given up, out of memory")


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, tiny: TinyModels, spinbench: CommandLine) -> None:
    arguments = ["record", *overrides(tiny, tmp_path)]
    score = record_columns.score_texts

    def watched(drafter: DrafterModel, *rest: Any, **more: Any) -> DrafterColumns:
        if drafter.name.endswith("poor"):
            print("first drafter finished", flush=True)
            time.sleep(DEADLINE_S)
        return score(drafter, *rest, **more)

    def waits_before_its_second_drafter() -> int:
        record_columns.score_texts = watched
        return main(arguments)

    process = Forked(waits_before_its_second_drafter, tmp_path)
    assert process.stdout.readline() == "first drafter finished\n"
    process.send_signal(signal.SIGINT)
    code, _, err = process.end()
    assert code == 2
    assert err.splitlines() == ["interrupted: finished stages are kept in table; the same command goes on"]
    stages = sorted(path.name.partition("-")[0] for path in Path("table/work").iterdir())
    assert stages == ["drafter", "texts"]
    # a stage that says something else shows that it is used
    stage = next(Path("table/work").glob("drafter-*"))
    arrays = dict(np.load(stage))
    arrays["rank"] = np.full_like(arrays["rank"], 7)
    np.savez(stage, **arrays)
    assert record(spinbench).code == 0
    good, poor = read_table(Path("table")).columns.values()
    assert set(good.rank.tolist()) == {7}
    assert set(poor.rank.tolist()) != {7}
    assert not Path("table/work").exists()
