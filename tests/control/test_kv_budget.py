from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.kv_budget import KvBudget
from spinbench.control.request_table import RequestTable
from spinbench.control.scheduler import Scheduler
from spinbench.errors import UserError
from spinbench.workload.request import Request


def _table(num_requests: int = 6, prompt: int = 10, new: int = 30) -> RequestTable:
    requests = [
        Request(id=f"r{i}", arrival_s=0.0, max_new_tokens=new, prompt_len_tokens=prompt) for i in range(num_requests)
    ]
    return RequestTable(requests, {request.id: prompt for request in requests}, 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=60), st.integers(1, 24))
def test_no_block_is_lost(steps, num_blocks):
    table = _table()
    budget = KvBudget(table, num_blocks, 4)
    for row, num_tokens in steps:
        if num_tokens % 3 == 0:
            budget.release(row)
            assert table.num_blocks[row] == 0
        else:
            before, free = int(table.num_blocks[row]), budget.num_free_blocks
            need = max(0, -(-num_tokens // 4) - before)
            grown = budget.grow(row, num_tokens)
            assert grown == (need <= free)
            assert table.num_blocks[row] == before + (need if grown else 0)
        assert table.num_blocks.sum() + budget.num_free_blocks == num_blocks


@given(st.lists(st.integers(1, 40), min_size=6, max_size=6), st.integers(1, 40))
def test_the_first_get_blocks_as_one_after_another_up_to_who_gets_none(num_tokens, num_blocks):
    together, single = _table(), _table()
    pool, budget = KvBudget(together, num_blocks, 4), KvBudget(single, num_blocks, 4)
    grown = pool.grow_first(np.arange(6), np.array(num_tokens))
    each = list(takewhile(lambda row: budget.grow(row, num_tokens[row]), range(6)))
    assert grown == len(each)
    assert together.num_blocks.tolist() == single.num_blocks.tolist()
    assert pool.num_free_blocks == budget.num_free_blocks


def test_a_request_larger_than_the_pool_is_refused():
    with pytest.raises(UserError, match=r"'r0' may need 5 KV blocks \(17 tokens\) and the pool has 4 of 4 tokens"):
        KvBudget(_table(new=7), 4, 4).check_fits(0)


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 4), (4, 0)])
def test_an_empty_pool_is_refused(num_blocks, block_size):
    with pytest.raises(UserError, match="must be at least 1"):
        KvBudget(_table(), num_blocks, block_size)


def test_what_is_free_goes_to_the_first_who_ask():
    table = _table(new=20)
    scheduler = Scheduler(table, KvBudget(table, 9, 4), 6, 100)
    for row in range(2):
        scheduler.add(row)
    assert scheduler.admit(0.0, 2) == [0, 1]  # 12 of 36 slots each
    rows = np.array([0, 1])
    assert scheduler.reserve_if_free(rows, np.array([20, 24])).tolist() == [True, False]
    assert table.num_blocks[:2].tolist() == [5, 3]
    assert scheduler.reserve_if_free(rows, np.array([20, 16])).tolist() == [True, True]
    assert scheduler.running == [0, 1]


@given(st.lists(st.integers(13, 40), min_size=5, max_size=5), st.integers(15, 40))
def test_the_youngest_give_way_as_if_requests_asked_one_after_another(num_tokens, num_blocks):
    table = _table(5)
    scheduler = Scheduler(table, KvBudget(table, num_blocks, 4), 5, 100)
    for row in range(5):
        scheduler.add(row)
    assert scheduler.admit(0.0, 2) == [0, 1, 2, 3, 4]  # 3 blocks each
    given_to, preempted = scheduler.reserve(np.arange(5), np.array(num_tokens))
    running, free = list(range(5)), num_blocks - 15
    for row, count in enumerate(num_tokens):
        further = -(-count // 4) - 3
        while row in running and further > free:
            running.pop()
            free += 3
        free -= further if row in running else 0
    assert given_to.tolist() == [row in running for row in range(5)]
    assert preempted == list(range(4, len(running) - 1, -1))
    assert scheduler.running == running
    assert table.num_blocks.sum() == num_blocks - free
