from dataclasses import replace

import pytest

from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.summary import summarise
from spinbench.metrics.switching import switch_stalls_ms
from spinbench.metrics.tables import tables_from_record

from .records import request, round_, rounds, span, spans


def part(index: int, request_id: str, drafter: str | None, draft_s: tuple[float, float] | None, verify_end_s: float):
    """A round; without a draft, of plain decoding."""
    start_s, end_s = draft_s or (None, None)
    return round_(
        index, request_id, drafter, 4 if draft_s else 0, 0, draft_start_s=start_s, draft_end_s=end_s,
        verify_start_s=verify_end_s - 1, verify_end_s=verify_end_s,
    )  # fmt: skip


def record_of(parts, catch_ups, **changes) -> RunRecord:
    """Two requests, and catch-ups (drafter, start, end)."""
    jobs = [span(lane, "catch_up", start, end) for lane, start, end in catch_ups]
    jobs += changes.pop("prefills", [])
    return RunRecord(
        requests=(request("a", **changes), request("b")), rounds=rounds(*parts), spans=spans(*jobs),
        drafters=("x", "y", "prompt_lookup", "t-ngram"), start_s=0.0, end_s=40.0, complete=True,
    )  # fmt: skip


def test_a_switch_waits_for_its_drafters_catch_ups_between_verification_and_draft():
    parts = (
        part(0, "a", "x", (3, 4), 6),  # the first round is no switch
        part(1, "a", "y", (9, 10), 12),  # waits from 6 to 9
        part(2, "a", "y", (12, 13), 15),  # the same drafter
        part(3, "a", None, None, 17),
        part(4, "a", "y", (18, 19), 21),  # back from plain decoding
        part(5, "a", "prompt_lookup", (21, 21), 22),  # keeps no KV
        part(5, "a", "t-ngram", (22, 22), 23),  # nor does that
        part(6, "a", "x", (27, 28), 30),
        part(7, "b", "x", (31, 32), 34),
    )
    catch_ups = [
        ("x", 1, 3),  # in front of the first draft
        ("y", 5, 8),  # began while the target verified: of it 6 to 8 is waited for
        ("x", 6, 9),  # another drafter's
        ("x", 20, 24),  # 23 to 24
        ("x", 25, 27),
        ("y", 24, 26),  # another drafter's
    ]
    stalls_ms = switch_stalls_ms(tables_from_record(record_of(parts, catch_ups)))
    assert stalls_ms.tolist() == [2000, 0, 3000]  # 8 - 6; nothing; (24 - 23) + (27 - 25)
    summary = summarise(tables_from_record(record_of(parts, catch_ups)))
    assert summary["num_switches"] == 3
    assert summary["mean_switch_stall_ms"] == pytest.approx(5000 / 3)
    assert summary["p99_switch_stall_ms"] == pytest.approx(2980)  # 2000 + (0.99 * 2 - 1) * 1000


def test_waiting_to_be_prefilled_again_is_no_stall():
    parts = (part(0, "a", "x", (3, 4), 6), part(1, "a", "y", (20, 21), 23))
    catch_ups = [("y", 7, 10), ("y", 17, 19)]  # the first while `a` waited, for somebody else
    prefills = [span("target", "prefill", 1, 2, round_index=-1), span("target", "prefill", 14, 16, round_index=-1)]
    record = record_of(parts, catch_ups, num_preemptions=1, prefills=prefills)
    assert switch_stalls_ms(tables_from_record(record)).tolist() == [2000]  # 19 - 17


def test_without_a_switch_there_is_no_stall():
    summary = summarise(tables_from_record(record_of((part(0, "a", "x", (3, 4), 6),), [("x", 1, 3)])))
    assert (summary["num_switches"], summary["mean_switch_stall_ms"], summary["p99_switch_stall_ms"]) == (0, None, None)
    nothing = replace(record_of((), []), requests=())
    assert summarise(tables_from_record(nothing))["num_switches"] == 0
