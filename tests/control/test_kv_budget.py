import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.kv_budget import KvBudget
from spinbench.control.request_state import RequestState
from spinbench.errors import UserError
from spinbench.workload.request import Request


def _state(name: str, prompt: int, new: int, block_size: int = 4) -> RequestState:
    request = Request(id=name, arrival_s=0.0, max_new_tokens=new, prompt_token_ids=(1,) * prompt)
    return RequestState(request, (1,) * prompt, 0.0, 1, block_size)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=60), st.integers(1, 24))
def test_no_block_has_two_owners_and_none_is_lost(steps, num_blocks):
    budget = KvBudget(num_blocks, 4)
    held: dict[int, RequestState] = {}
    for who, num_tokens in steps:
        state = held.get(who)
        if state is not None and num_tokens % 3 == 0:
            budget.release(held.pop(who))
            continue
        state = state or _state(str(who), 10, 30)
        before, free = len(state.blocks), budget.num_free_blocks
        need = max(0, -(-num_tokens // 4) - before)
        grown = budget.grow(state, num_tokens)
        assert grown == (need <= free)
        assert len(state.blocks) == before + (need if grown else 0)
        if state.blocks:
            held[who] = state
        owned = [block for other in held.values() for block in other.blocks]
        assert len(owned) == len(set(owned))
        assert len(owned) + budget.num_free_blocks == num_blocks
        for other in held.values():
            slots = other.slots(0, 4 * len(other.blocks))
            assert slots.tolist() == [4 * block + offset for block in other.blocks for offset in range(4)]
            assert other.slots_contiguous == bool((np.diff(slots) == 1).all())


def test_blocks_stay_together_while_there_is_room():
    budget = KvBudget(20, 4)
    states = [_state(name, 4, 12) for name in "abcd"]  # 16 tokens = 4 blocks each at the most
    for num_tokens in (4, 8, 12, 16):
        for state in states:
            assert budget.grow(state, num_tokens)
    assert all(state.slots_contiguous for state in states)


def test_others_homes_are_used_before_anyone_is_refused():
    budget = KvBudget(4, 4)
    small, large = _state("small", 4, 12), _state("large", 4, 8)  # 4 and 3 blocks at the most
    assert budget.grow(small, 4)
    assert budget.grow(large, 12)
    assert len(large.blocks) == 3
    assert not budget.grow(small, 8)


def test_a_request_larger_than_the_pool_is_refused():
    with pytest.raises(UserError, match=r"'big' may need 5 KV blocks \(17 tokens\) and the pool has 4 of 4 tokens"):
        KvBudget(4, 4).check_fits(_state("big", 10, 7))


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 4), (4, 0)])
def test_an_empty_pool_is_refused(num_blocks, block_size):
    with pytest.raises(UserError, match="must be at least 1"):
        KvBudget(num_blocks, block_size)
