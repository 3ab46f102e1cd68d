"""Passes and draft loops over static tensors, run uncaptured, are lossless, and few sizes serve a run."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.records.run_record import RunRecord
from spinbench.control.text import LiveText
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.forward import kernel_batch
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.graphs import replay as replay_module
from spinbench.runtime.graphs import static_pass
from spinbench.runtime.graphs.draft_replays import DraftReplays
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.graphs.replay import GraphMemory, Replays
from spinbench.runtime.graphs.static_forward import ForwardReplays
from spinbench.runtime.graphs.static_ints import StaticInts
from spinbench.runtime.graphs.static_pass import in_steps_of_four, power_of_two, row_bucket
from spinbench.runtime.kernels import kernel_rows
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.sampling.sampler import make_sampler
from tests.runtime import serving, tiny_models

TRACE = serving.requests(6, max_new_tokens=12)
CPU = torch.device("cpu")


def served(
    family: str = tiny_models.QUICK, execution: Execution | None = None, **decisions: object
) -> dict[str, tuple[int, ...]]:
    target, models = tiny_models.shared(family)
    return serving.outputs(serving.serve(target, models, TRACE, execution=execution, **decisions))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in ("llama", "gpt2") else pytest.mark.full_matrix)
        for family in tiny_models.FAMILIES
    ],
)
def test_replays_are_lossless(family):
    expected = serving.hf_outputs(tiny_models.target(family), TRACE)
    for selector, layout, length, most in (
        ("plain", "packed", 1, 8),
        ("fixed good", "packed", 4, 3),
        ("fixed small_vocabulary", "decomposed", 8, 1),
        ("round_robin", "unequal", 3, 8),
        ("fixed good+prompt_lookup", "padded", 2, 3),
    ):
        got = served(
            family, Execution(graphs="eager"), selector=selector, layout=layout, draft_length=length, max_num_seqs=most
        )
        assert got == expected, selector


def test_replays_draw_what_launches_draw():
    decisions = {"selector": "round_robin", "sampling": serving.NUCLEUS, "max_num_seqs": 3}
    assert served(execution=Execution(graphs="eager"), **decisions) == served(**decisions)


def test_drafts_made_ahead_are_replayed_too():
    """Behind tokens that the text does not hold yet."""
    expected = serving.hf_outputs(tiny_models.target(), TRACE)
    ahead = {"selector": "fixed good", "depth": "draft_while_verify", "draft_length": 2}
    assert served(execution=Execution(graphs="eager"), **ahead) == expected


def test_replayed_drafts_are_the_launched_ones():
    """Token for token, rejected ones too: as many are accepted in every round."""
    target = tiny_models.target()
    models = tiny_models.drafters(target)
    for selector, policy, sampling in (
        ("fixed good", "fixed", serving.GREEDY),
        ("fixed small_vocabulary", "confident product 0.003", serving.NUCLEUS),
    ):
        runs = [
            serving.serve(
                target,
                models,
                TRACE,
                selector=selector,
                policy=policy,
                draft_length=5,
                sampling=sampling,
                execution=execution,
            )
            for execution in (None, Execution(graphs="eager"))
        ]
        assert rounds_by_request(runs[0]) == rounds_by_request(runs[1])


def rounds_by_request(record: RunRecord) -> dict[str, list[tuple[int, int]]]:
    """Drafted and accepted tokens of each request's rounds: who shares a batch depends on when requests come."""
    found: dict[str, list[tuple[int, int]]] = {}
    columns = record.rounds.row, record.rounds.drafted, record.rounds.accepted
    for row, drafted, accepted in zip(*(column.tolist() for column in columns), strict=True):
        found.setdefault(record.rounds.request_ids[row], []).append((drafted, accepted))
    return found


def test_trees_are_verified_by_replay(monkeypatch):
    """Merged ones and static ones, under their masks."""
    replayed: list[int] = []
    real = ForwardReplays.tree_logits

    def noted(self: ForwardReplays, nodes: TreeNodes, token_ids: torch.Tensor) -> torch.Tensor | None:
        logits = real(self, nodes, token_ids)
        replayed.append(-1 if logits is None else len(logits))
        return logits

    monkeypatch.setattr(ForwardReplays, "tree_logits", noted)
    expected = serving.hf_outputs(tiny_models.target(), TRACE)
    merged = {"selector": "merged good,poor", "draft_length": 3}
    assert served(execution=Execution(graphs="eager"), **merged) == expected
    assert replayed
    assert min(replayed) > 0
    del replayed[:]
    tree = {"selector": "fixed good", "draft_length": TreeDraftLength([2, 2, 1])}
    assert served(execution=Execution(graphs="eager"), **tree) == expected
    assert replayed
    assert min(replayed) > 0


@pytest.mark.parametrize(
    ("branching", "sampling", "drafter", "most"),
    [
        ([2, 2, 1], serving.GREEDY, "good", 3),
        ([1, 3, 1, 2], serving.NUCLEUS, "small_vocabulary", 8),
        ([3], serving.GREEDY, "poor", 1),
        # more than 31 nodes: masks of two words
        ([4, 3, 2], serving.NUCLEUS, "good", 2),
    ],
)
def test_trees_are_drafted_by_replay_as_by_launches(monkeypatch, branching, sampling, drafter, most):
    """Node for node, and cut where answers end: as many are accepted in every round."""
    replayed: list[bool] = []
    real = DraftReplays.trees

    def noted(self: DraftReplays, *rest: object) -> object:
        drafts = real(self, *rest)  # type: ignore[arg-type]
        replayed.append(drafts is not None)
        return drafts

    monkeypatch.setattr(DraftReplays, "trees", noted)
    target, models = tiny_models.shared()
    runs = [
        serving.serve(
            target,
            models,
            TRACE,
            selector=f"fixed {drafter}",
            draft_length=TreeDraftLength(branching),
            sampling=sampling,
            max_num_seqs=most,
            execution=execution,
        )
        for execution in (None, Execution(graphs="eager"))
    ]
    assert replayed
    assert all(replayed)
    assert serving.outputs(runs[0]) == serving.outputs(runs[1])
    assert rounds_by_request(runs[0]) == rounds_by_request(runs[1])


def first_job(rows: list[int], slots: SlotTable, **decisions: object) -> tuple[DraftJob, LiveText]:
    """A draft behind the prompts of some requests, of three tokens and, for the first of several, of two."""
    text = LiveText(TRACE, {request.id: request.prompt_token_ids or () for request in TRACE})
    stop = np.array([len(TRACE[row].prompt_token_ids or ()) for row in rows])
    for row, tokens in zip(rows, stop.tolist(), strict=True):
        slots.hold(row, tokens + 20, tokens + 20)
    lengths = np.full(len(rows), 3)
    lengths[0] -= len(rows) > 1
    spans = TokenSpans(np.array(rows), np.zeros_like(stop), stop)
    return DraftJob(0, spans, lengths, np.zeros(len(rows), np.bool_), **decisions), text  # type: ignore[arg-type]


def test_confidence_in_replayed_trees_is_that_of_launched_ones():
    models = tiny_models.shared()[1]
    means = []
    for execution in (None, Execution(graphs="eager")):
        slots = SlotTable(64, 4)
        job, text = first_job([0, 1, 2], slots, measure_confidence=True, tree=TreeShape((2, 2, 1)))
        drafter = ModelDrafter(models[0], slots, make_sampler(serving.GREEDY), execution=execution)
        with torch.inference_mode():
            means.append(drafter.draft(job, text).confidence)
    assert means[0] == pytest.approx(means[1], abs=1e-9)
    assert len(set(means[0].round(6).tolist())) == 3


def test_a_replayed_draft_is_not_what_the_next_one_overwrites():
    """Of one request the tokens of all steps lie as its draft does: they must be copied all the same."""
    slots = SlotTable(64, 4)
    drafter = ModelDrafter(
        tiny_models.shared()[1][0], slots, make_sampler(serving.GREEDY), execution=Execution(graphs="eager")
    )
    drafts, before = [], []
    for row in (0, 1):
        job, text = first_job([row], slots, measure_confidence=False)
        with torch.inference_mode():
            drafts.append(drafter.draft(job, text).of_request[0].token_ids)
        before.append(drafts[-1].tolist())
    assert [draft.tolist() for draft in drafts] == before
    assert before[0] != before[1]


def test_replays_by_kernels_that_cut_contexts(monkeypatch):
    """Tiles, pieces and merges of filled-up passes and of growing drafts, as the kernels themselves read them."""
    attend = pytest.importorskip("spinbench.runtime.kernels.triton_attention").triton_attention
    monkeypatch.setattr(kernel_rows, "SMALLEST_PIECE_KEYS", 6)
    monkeypatch.setattr(kernel_batch, "PIECE_STEP_KEYS", 2)
    cuts: list[int] = []

    def noted(*arguments: object) -> torch.Tensor:
        cuts.append(arguments[5].num_partials)  # type: ignore[attr-defined]
        return attend(*arguments)  # type: ignore[arg-type]

    target = tiny_models.target_of("llama", tiny_models.random_model("llama", 0, layers=1))
    models = tiny_models.drafters(target)
    trace = [replace(serving.requests(3, max_new_tokens=8)[2], max_new_tokens=4)]
    expected = serving.hf_outputs(target, trace)
    for length in (2, TreeDraftLength([2, 1])):
        execution = Execution(TableAttention(noted, 4), "eager")
        got = serving.serve(target, models, trace, selector="fixed good", draft_length=length, execution=execution)
        assert serving.outputs(got) == expected
        assert sum(got.rounds.accepted.tolist()) > 0
    # of replays, whose room for partial results is the same whatever there is to cut
    assert cuts.count(kernel_cuts := max(cuts)) > 4
    assert kernel_cuts == static_pass.FEWEST_PARTIALS


def test_trees_beyond_every_bucket_are_launched(monkeypatch):
    expected = serving.hf_outputs(tiny_models.target(), TRACE)
    monkeypatch.setattr(static_pass, "ROW_BUCKETS", (1, 2, 4))
    tree = {"selector": "fixed good", "draft_length": TreeDraftLength([2, 2, 1])}
    assert served(execution=Execution(graphs="eager"), **tree) == expected


def test_drafts_for_rejection_are_the_launched_ones():
    """Token for token with the laws that they are drawn from, so that as many are kept in every round."""
    target = tiny_models.target()
    models = tiny_models.drafters(target)
    sampling = serving.Sampling(temperature=0.9, top_k=30, top_p=0.95, kind="rejection")
    for selector, policy in (("fixed good", "fixed"), ("fixed small_vocabulary", "confident token 0.15")):
        runs = [
            serving.serve(
                target, models, TRACE, selector=selector, policy=policy, sampling=sampling, execution=execution
            )
            for execution in (None, Execution(graphs="eager"))
        ]
        assert serving.outputs(runs[0]) == serving.outputs(runs[1])
        assert rounds_by_request(runs[0]) == rounds_by_request(runs[1])
        assert runs[0].rounds.drafted.sum() > 0


def test_the_log_says_what_runs_without(caplog):
    target = tiny_models.target()
    with caplog.at_level(logging.INFO):
        serving.serve(target, [], TRACE[:1], selector="plain", execution=Execution(graphs="eager"))
    assert "prefills run without a CUDA graph" in caplog.text
    assert "rectangles of whole contexts" in caplog.text


def test_few_sizes_serve_a_run(monkeypatch):
    made: list[Replays] = []
    real = Replays.__init__

    def noted(self: Replays, *arguments: object) -> None:
        made.append(self)
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(replay_module.Replays, "__init__", noted)
    target = tiny_models.target()
    trace = serving.requests(8, max_new_tokens=40)
    record = serving.serve(
        target, tiny_models.drafters(target), trace, selector="fixed good", execution=Execution(graphs="eager")
    )
    jobs = sum(span.kind in ("draft", "verify") for span in record.spans)
    sizes = sum(len(replays._known) for replays in made)
    assert 0 < sizes < jobs / 3


class Counted:
    def __init__(self) -> None:
        self.filled = self.ran = 0

    def fill(self) -> None:
        self.filled += 1

    def run(self) -> None:
        self.ran += 1


def test_what_is_known_is_filled_again_and_what_has_no_room_is_refused(caplog):
    memory = GraphMemory(cap_bytes=1)
    replays = Replays("eager", CPU, memory)
    first = replays.get("a", Counted, Counted.fill)
    again = replays.get("a", Counted, Counted.fill)
    assert first is again
    assert first is not None
    assert first.static.filled == 2
    memory.held_bytes = 2
    with caplog.at_level(logging.WARNING):
        assert replays.get("b", Counted, Counted.fill) is None
        assert replays.get("b", Counted, Counted.fill) is None
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "CUDA graphs hold 0.00 GB, of 0.00 GB that they may"
    ]
    assert replays.get("a", Counted, Counted.fill) is first


def test_static_integers_keep_their_places():
    ints = StaticInts({"a": (3,), "b": (2, 2)}, CPU)
    before = ints["b"].data_ptr()
    ints.put("a", torch.tensor([4, 5]).numpy(), padding=9)
    ints.corner("b", torch.tensor([[7], [8]]).numpy())
    assert ints["a"].tolist() == [0, 0, 0]
    ints.upload()
    assert (ints["a"].tolist(), ints["b"].tolist()) == ([4, 5, 9], [[7, 0], [8, 0]])
    assert ints["b"].data_ptr() == before


def test_buckets():
    assert [row_bucket(count) for count in (1, 3, 5, 17, 256, 257)] == [1, 4, 6, 20, 256, None]
    assert [power_of_two(count) for count in (0, 1, 2, 3, 5)] == [0, 1, 2, 4, 8]
    assert [in_steps_of_four(count, 8) for count in (1, 8, 9, 33)] == [8, 8, 32, 128]
