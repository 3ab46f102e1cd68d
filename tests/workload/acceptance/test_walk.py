import numpy as np
import pytest

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.walk import walk
from tests.workload.acceptance.made_table import made_table, request


def test_the_first_token_is_not_drafted_and_rounds_follow_each_other():
    # ranks from position 1 on: 0 0 1 | 0 0 0 0: K = 2 accepts 2, emits 3; then 2, emits 3; then one token is left
    table = made_table({"d": [[1, 0, 0, 1, 0, 0, 0, 0], [0]]})
    streams = streams_from_table(table, [request(0, 8), request(1, 1)], ["d"])
    rounds = walk(streams, 0, 2, DrafterInfo("d", "model").drafts_by_lookup)
    assert rounds.row.tolist() == [0, 0, 0]
    assert rounds.accepted.tolist() == [2, 2, 0]
    # (3 + 3 + 1) / 3
    assert rounds.acceptance_length == pytest.approx(7 / 3)


def test_lookup_then_model_copies_where_it_can():
    table = made_table({"d": [[9, 9, 9, 0, 9, 9]]}, prompts=[[3, 4]], token_ids=[[3, 4, 3, 8, 3, 4]])
    names = ["d+prompt_lookup", "prompt_lookup", "d"]
    streams = streams_from_table(table, [request(0, 6)], names)
    both = DrafterInfo(names[0], "lookup_then_model", min_match_tokens=2)
    # at 1 (3 4 3) one token matches, so the model drafts and is wrong; at 2 (3 4 3 4) two match, and the copy 3 4 is right
    # once; at 4 (.. 3 8) and 5 (.. 8 3) the model is wrong again
    assert walk(streams, 0, 4, both.drafts_by_lookup, 3, 2).accepted.tolist() == [0, 1, 0, 0]
    lookup = DrafterInfo(names[1], "prompt_lookup")
    # at 1 the copy 4 3 4 is right twice; at 4 nothing matches; at 5 the token left is the target's own
    assert walk(streams, 1, 4, lookup.drafts_by_lookup).accepted.tolist() == [2, 0, 0]


def test_nothing_to_walk():
    table = made_table({"d": [[0]]})
    rounds = walk(streams_from_table(table, [request(0, 1)], ["d"]), 0, 4, DrafterInfo("d", "model").drafts_by_lookup)
    assert len(rounds.accepted) == 0
    assert np.isnan(rounds.acceptance_length)
