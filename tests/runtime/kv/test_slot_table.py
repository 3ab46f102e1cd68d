import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.runtime.kv.slot_table import SlotTable


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 16)), max_size=60))
def test_no_slot_has_two_owners(steps):
    slots = SlotTable(20, 4)  # room for 5 requests of 16 tokens
    held: dict[int, int] = {}
    for row, num_tokens in steps:
        if num_tokens % 5 == 0:
            slots.release(row)
            held.pop(row, None)
            continue
        slots.hold(row, num_tokens, 16)
        held[row] = max(held.get(row, 0), num_tokens)
        owned = np.concatenate([slots.slots(other, 0, count) for other, count in held.items()])
        assert len(np.unique(owned)) == len(owned)
        assert owned.max() < slots.num_slots
        for other, count in held.items():
            if slots.first_slot(other) >= 0:
                assert slots.slots(other, 0, count).tolist() == list(
                    range(slots.first_slot(other), slots.first_slot(other) + count)
                )


def test_requests_stay_together_while_there_is_room():
    slots = SlotTable(20, 4)
    for num_tokens in (4, 8, 12, 16):
        for row in range(4):
            slots.hold(row, num_tokens, 16)
    assert all(slots.first_slot(row) >= 0 for row in range(4))


def test_others_homes_are_used_before_anyone_is_refused():
    slots = SlotTable(4, 4)
    slots.hold(0, 4, 16)
    slots.hold(1, 12, 12)
    assert slots.slots(1, 0, 12).max() < 16
    with pytest.raises(RuntimeError, match="1 KV blocks are needed and 0 are free"):
        slots.hold(0, 8, 16)


def test_clear_frees_everything():
    slots = SlotTable(2, 4)
    slots.hold(0, 8, 8)
    slots.clear()
    slots.hold(1, 8, 8)
    assert slots.first_slot(1) == 0
