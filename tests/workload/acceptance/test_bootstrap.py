import numpy as np
import pytest

from spinbench.errors import UserError
from spinbench.workload.acceptance.bootstrap import streams_by_bootstrap
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.request import Request
from tests.workload.acceptance.made_table import made_table


def lengths(counts: list[int], category: str | None = None) -> list[Request]:
    return [
        Request(f"azure-{index}", 0.0, count, prompt_len_tokens=7, ignore_eos=True, category=category)
        for index, count in enumerate(counts)
    ]


def equal(a: AcceptanceStreams, b: AcceptanceStreams) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("offsets", "run", "match_order", "lookup_run")
    )


TABLE = made_table(
    {"good": [[0, 0, 0, 1, 0], [0, 1, 1]], "poor": [[1, 0, 1, 1, 1], [1, 1, 0]]},
    prompts=[[8, 9], [3]],
    token_ids=[[8, 9, 8, 9, 7], [3, 3, 4]],
    categories=["code", "chat"],
)


def test_every_request_has_its_length():
    streams = streams_by_bootstrap(TABLE, lengths([1, 4, 50]), ["good", "prompt_lookup"], seed=0)
    assert streams.num_tokens.tolist() == [1, 4, 50]
    assert streams.token_ids is None
    assert streams.token_ids_at(np.array([2]), np.array([0]), 2).tolist() == [[-1, -1]]
    assert not streams.stopped.any()


def test_a_seed_gives_the_same_streams_again_whatever_requests_stand_beside():
    streams = streams_by_bootstrap(TABLE, lengths([9, 20, 30]), ["good"], seed=3)
    assert equal(streams, streams_by_bootstrap(TABLE, lengths([9, 20, 30]), ["good"], seed=3))
    assert not equal(streams, streams_by_bootstrap(TABLE, lengths([9, 20, 30]), ["good"], seed=4))
    first = streams_by_bootstrap(TABLE, lengths([9, 20, 30])[1:2], ["good"], seed=3)
    assert first.run.tolist() == streams.run[:, 9:29].tolist()


def test_a_category_is_drawn_from_itself():
    # ranks of the chat request: accepted by `good` at its first token of three, by `poor` at its third
    streams = streams_by_bootstrap(TABLE, lengths([300], "chat"), ["good", "poor"], seed=0)
    accepted = streams.run > 0
    assert accepted.sum(1).tolist() == [100, 100]
    assert streams.match_order.max() == 2
    other = streams_by_bootstrap(TABLE, lengths([300], "poetry"), ["good", "poor"], seed=0)
    assert other.match_order.max() == 3


def test_drafters_are_seen_at_the_same_token():
    streams = streams_by_bootstrap(TABLE, lengths([400]), ["good", "poor"], seed=1)
    pairs = set(zip((streams.run[0] > 0).tolist(), (streams.run[1] > 0).tolist(), strict=True))
    recorded = {(g == 0, p == 0) for g, p in zip(TABLE.columns["good"].rank, TABLE.columns["poor"].rank, strict=True)}
    assert pairs == recorded


def test_positions_are_drawn_alike():
    table = made_table({"d": [[1] * 9 + [0]]})
    streams = streams_by_bootstrap(table, lengths([10] * 2000), ["d"], seed=0)
    # each request reads the whole text once around, from wherever: one accepted token in ten
    assert (streams.run > 0).sum() == 2000
    first = (streams.run[0].reshape(2000, 10) > 0).mean(0)
    assert first == pytest.approx(np.full(10, 0.1), abs=0.03)


def test_runs_go_on_across_pieces():
    table = made_table({"d": [[0, 0, 0]]})
    streams = streams_by_bootstrap(table, lengths([7, 4]), ["d"], seed=0)
    assert streams.run.tolist() == [[7, 6, 5, 4, 3, 2, 1, 4, 3, 2, 1]]


def test_a_copy_that_is_right_to_the_end_of_its_piece_goes_on():
    # a text of one token over and over: every copy is right to the end
    table = made_table({"d": [[1] * 4]}, prompts=[[6, 6, 6, 6]], token_ids=[[6] * 4])
    streams = streams_by_bootstrap(table, lengths([10, 3]), ["d"], seed=0)
    assert streams.lookup_run.tolist() == [[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 3, 2, 1]] * 3


def test_a_copy_that_is_wrong_ends_where_it_was_recorded():
    # 4 5 | 6 4 5 7 8 9 10 11 12 13: only the copy at the third token is right, and for one token
    table = made_table({"d": [[1] * 10]}, prompts=[[4, 5]], token_ids=[[6, 4, 5, 7, 8, 9, 10, 11, 12, 13]])
    assert table.lookup_run[0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    run = streams_by_bootstrap(table, lengths([10_000]), ["d"], seed=0).lookup_run[0]
    # two where a piece ends with it and the next one begins with it, once in ten times ten pieces
    assert (run > 0).sum() == 1000
    assert (run > 1).sum() < 30
    assert run.max() == 2


def test_a_table_without_the_drafter_is_named():
    with pytest.raises(UserError, match="drafter 'best' is not recorded"):
        streams_by_bootstrap(TABLE, lengths([3]), ["best"], seed=0)


def test_long_texts_repeat_recorded_ones():
    table = made_table({"d": [[0] * 300]})
    streams = streams_by_bootstrap(table, lengths([1000]), ["d"], seed=0)
    assert streams.run[0].tolist()[:3] == [255, 255, 255]
    assert streams.run[0].tolist()[-3:] == [3, 2, 1]
