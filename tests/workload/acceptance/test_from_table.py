from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.errors import UserError
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.acceptance.table_meta import SamplingMeta
from tests.workload.acceptance.made_table import made_table, request

TABLE = made_table(
    {"good": [[0, 0, 3, 0], [0, 0]], "poor": [[4, 0, 0, 0], [0, 255]]},
    token_ids=[[4, 5, 4, 6], [5, 1]],
    stopped=[False, True],
)
NEITHER = np.zeros(1, np.bool_)


def runs(streams: AcceptanceStreams, row: int, drafter: int) -> list[int]:
    """Accepted run at every position of a request."""
    rows = np.full(streams.num_tokens[row], row)
    return streams.accepted_run(rows, np.arange(len(rows)), drafter, np.zeros(len(rows), np.bool_)).tolist()


def test_requests_are_found_by_id():
    streams = streams_from_table(TABLE, [request(1, 2), request(0, 4)], ["poor", "good"])
    assert streams.num_tokens.tolist() == [2, 4]
    assert streams.token_ids is not None
    assert streams.token_ids.tolist() == [5, 1, 4, 5, 4, 6]
    assert streams.stopped.tolist() == [True, False]
    assert streams.run.tolist() == [[1, 0, 0, 3, 2, 1], [2, 1, 2, 1, 0, 1]]


def test_drafts_of_several_drafters_are_looked_up_together():
    streams = streams_from_table(TABLE, [request(1, 2), request(0, 4)], ["poor", "prompt_lookup", "good+prompt_lookup"])
    rows, emitted, drafters = np.array([1, 1, 0, 1]), np.array([0, 1, 0, 1]), np.array([2, 0, 2, 2])
    # as many as each one's run has, the text's last token left to the target, and the target's own
    together = streams.emitted_behind_models(rows, emitted, drafters).tolist()
    assert together == [3, 3, 2, 2]
    assert together == [
        runs(streams, row, drafter)[at] + 1 for row, at, drafter in zip(rows, emitted, drafters, strict=True)
    ]


def test_confidence_is_that_of_the_position_and_of_as_many_tokens_as_all_drafters_have():
    table = made_table({"good": [[0, 7, 3, 0], [0, 2]], "poor": [[4, 0, 0, 0], [0, 255]]}, rollout_tokens=3)
    streams = streams_from_table(table, [request(1, 2), request(0, 4)], ["prompt_lookup", "poor", "good+prompt_lookup"])
    assert streams.num_rollout_tokens == 3
    rollout = table.column("good").rollout
    assert rollout is not None
    # row 0 is the recorded request 1, whose positions begin at 4
    codes = streams.confidence_at(np.array([1, 0]), np.array([1, 1]), 3, 2)
    assert codes.tolist() == [[7, *rollout[:, 1]], [2, *rollout[:, 5]]]
    assert streams.confidence_at(np.array([1]), np.array([1]), 1, 1).tolist() == [[0]]
    mixed = replace(table, columns={**table.columns, "poor": replace(table.column("poor"), rollout=None)})
    assert streams_from_table(mixed, [request(0, 4)], ["poor", "good"]).num_rollout_tokens == 1
    assert streams_from_table(mixed, [request(0, 4)], ["good"]).num_rollout_tokens == 3
    assert streams_from_table(mixed, [request(0, 4)], ["prompt_lookup"]).num_rollout_tokens == 0


def test_confidence_near_a_texts_end_is_not_known_for_drafts_longer_than_were_possible():
    table = made_table({"good": [[0, 7, 3, 0], [0, 2]]}, stopped=[False, True], rollout_tokens=4)
    recorded = replace(table.requests, max_new_tokens=np.array([4, 5]))
    table = replace(table, requests=recorded)
    both = [request(0, 4), request(1, 5)]
    assert streams_from_table(table, both, ["good"]).num_rollout_tokens == 4
    # with one token emitted of 5, 4 were to come: 3 drafted and the bonus
    assert streams_from_table(table, [request(0, 4), request(1, 6)], ["good"]).num_rollout_tokens == 3
    assert streams_from_table(table, [request(1, 6)], ["prompt_lookup"]).num_rollout_tokens == 0
    # its first token's confidence is always recorded
    recorded = replace(recorded, max_new_tokens=np.array([4, 2]))
    assert streams_from_table(replace(table, requests=recorded), [request(1, 6)], ["good"]).num_rollout_tokens == 1


def test_the_last_token_is_the_targets_own():
    streams = streams_from_table(TABLE, [request(0, 4)], ["poor"])
    # ranks 4 0 0 0: from position 1 on all three are right, but the fourth token of the text is a bonus token
    assert runs(streams, 0, 0) == [0, 2, 1, 0]


def test_a_shorter_request_gets_the_beginning():
    streams = streams_from_table(TABLE, [request(0, 3), request(1, 1)], ["poor"])
    assert streams.num_tokens.tolist() == [3, 1]
    assert streams.run.tolist() == [[0, 2, 1, 1]]
    assert streams.stopped.tolist() == [False, False]


def test_a_text_that_stopped_serves_any_limit():
    streams = streams_from_table(TABLE, [request(1, 100)], ["good"])
    assert streams.num_tokens.tolist() == [2]
    assert streams.stopped.tolist() == [True]


def test_names_behind_a_lookup_share_their_models_row():
    streams = streams_from_table(TABLE, [request(0, 4)], ["prompt_lookup", "good+prompt_lookup", "poor", "good"])
    assert streams.run.shape == (2, 4)
    assert [streams.row_of_model(drafter) for drafter in range(4)] == [-1, 0, 1, 0]
    assert runs(streams, 0, 1) == runs(streams, 0, 3) == [2, 1, 0, 0]
    assert runs(streams, 0, 0) == [0, 0, 0, 0]


def test_without_models_there_is_lookup():
    streams = streams_from_table(TABLE, [request(0, 4)], ["prompt_lookup"])
    assert streams.run.shape == (0, 4)
    assert streams.lookup_finds(np.array([0, 0]), np.array([1, 3])).tolist() == [False, True]


def test_tokens_end_with_the_text():
    streams = streams_from_table(TABLE, [request(1, 2), request(0, 4)], ["good"])
    rows, emitted = np.array([0, 1, 1]), np.array([0, 1, 3])
    assert streams.token_ids_at(rows, emitted, 3).tolist() == [[5, 1, -1], [5, 4, 6], [6, -1, -1]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(7, 4), "request 'r7' is not in it"),
        (request(0, 5), "request 'r0' asks for 5 tokens, 4 were recorded; lower trace.max_output_tokens to 4"),
        (request(0, 4, ignore_eos=True), "request 'r0' was recorded with ignore_eos False, this one has True"),
        (
            request(0, 4, prompt=None, prompt_len_tokens=9),
            "request 'r0' was recorded with prompt tokens 1, this one has 9",
        ),
    ],
)
def test_another_request_is_refused(asked, message):
    with pytest.raises(UserError, match=message):
        streams_from_table(TABLE, [asked], ["good"])


def test_the_seed_matters_where_tokens_are_drawn():
    streams_from_table(TABLE, [request(0, 4, seed=9)], ["good"])
    sampled = made_table({"good": [[0]]}, sampling=SamplingMeta(temperature=1.0, top_p=1.0, top_k=0))
    with pytest.raises(UserError, match="recorded with seed 0, this one has 9"):
        streams_from_table(sampled, [request(0, 1, seed=9)], ["good"])


def test_a_drafter_without_columns_is_named():
    with pytest.raises(UserError, match="drafter 'best' is not recorded in it; recorded are good, poor"):
        streams_from_table(TABLE, [request(0, 4)], ["good", "best"])


small = st.lists(st.integers(0, 3), min_size=1, max_size=20)


@given(small, small, st.integers(1, 20), st.integers(1, 3), st.integers(1, 3))
def test_lookups_are_those_of_the_runtime(prompt, answer, limit, max_order, min_order):
    min_order = min(min_order, max_order)
    table = made_table({"d": [[1] * len(answer)]}, prompts=[prompt], token_ids=[answer], stopped=[True])
    streams = streams_from_table(table, [request(0, limit)], ["prompt_lookup"])
    text = answer[:limit]
    rows, places = np.zeros(len(text), np.int64), np.arange(len(text))
    found = streams.lookup_finds(rows, places, max_order, min_order)
    accepted = streams.accepted_run(rows, places, 0, np.ones(len(text), np.bool_), max_order, min_order)
    for place in places.tolist():
        index = NgramIndex([*prompt, *text[:place]])
        draft = index.draft(len(text) - place - 1, max_order, min_order)
        agree = [a == b for a, b in zip(draft, text[place:], strict=False)]
        assert accepted[place] == (agree.index(False) if False in agree else len(agree))
        assert found[place] == bool(index.draft(1, max_order, min_order))
        assert streams.match_order_at(rows[:1], places[place : place + 1])[0] == index.match_order()


def test_depth_of_a_tree_by_rank():
    streams = streams_from_table(TABLE, [request(0, 4)], ["prompt_lookup", "good", "poor"])
    rows, places = np.zeros(4, np.int64), np.arange(4)
    # ranks of good 0 0 3 0: from the first token on 0 < 1, 0 < 1, 3 < 4, and the fourth is the target's own
    assert streams.accepted_depth(rows, places, 1, [1, 1, 4, 1]).tolist() == [3, 1, 0, 0]
    assert streams.accepted_depth(rows, places, 1, [4, 4, 4]).tolist() == [3, 2, 1, 0]
    assert streams.accepted_depth(rows, places, 1, [3, 3, 3]).tolist() == [2, 1, 0, 0]


def test_a_tree_without_branches_accepts_what_a_chain_does():
    streams = streams_from_table(TABLE, [request(1, 2), request(0, 4)], ["poor", "good"])
    for row, count in ((0, 2), (1, 4)):
        rows = np.full(count, row)
        for drafter in (0, 1):
            depth = streams.accepted_depth(rows, np.arange(count), drafter, [1] * 5)
            assert depth.tolist() == runs(streams, row, drafter)
