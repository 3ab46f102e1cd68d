"""Hand-made records on whole seconds, small enough to add up in a comment."""

from dataclasses import replace

from spinbench.control.records.round_record import RoundColumns, RoundRecord
from spinbench.control.records.run_record import RequestRecord, RunRecord
from spinbench.control.records.span_record import SpanColumns, SpanRecord


def request(request_id: str, **changes) -> RequestRecord:
    plain = RequestRecord(
        request_id=request_id,
        category="code",
        seed=0,
        arrival_s=0.0,
        first_scheduled_s=1.0,
        first_token_s=2.0,
        finish_s=10.0,
        prompt_tokens=5,
        output_tokens=5,
        max_new_tokens=8,
        finish_reason="stop",
        num_preemptions=0,
        num_prefill_emitted_tokens=1,
        prompt_token_ids=(1, 2, 3, 4, 5),
        output_token_ids=(7, 8, 9, 10, 11),
    )
    return replace(plain, **changes)


def round_(
    round_index: int, request_id: str, drafter: str | None, drafted: int, accepted: int, **changes
) -> RoundRecord:
    plain = RoundRecord(
        round_index=round_index,
        request_id=request_id,
        drafter=drafter,
        num_speculative_tokens=4 if drafter else 0,
        drafted=drafted,
        accepted=accepted,
        emitted=accepted + 1,
        context_tokens=6,
        lookup_match_order=0,
        catch_up_tokens=0,
        batch_size=2,
        draft_start_s=None,
        draft_end_s=None,
        verify_start_s=0.0,
        verify_end_s=0.0,
    )
    return replace(plain, **changes)


def span(lane: str, kind, start_s: float, end_s: float, **changes) -> SpanRecord:
    plain = SpanRecord(
        lane=lane,
        kind=kind,
        start_s=start_s,
        end_s=end_s,
        round_index=0,
        request_ids=("a",),
        num_tokens=3,
        useful_cells=30,
        padded_cells=10,
    )
    return replace(plain, **changes)


def rounds(*records: RoundRecord) -> RoundColumns:
    return RoundColumns.of(records)


def spans(*records: SpanRecord) -> SpanColumns:
    return SpanColumns.of(records)


def two_request_record() -> RunRecord:
    """Request a (code): 1 + 3 + 1 = 5 tokens. Request b (chat): 1 + 2 + 1 = 4 tokens, the last from a plain round."""
    return RunRecord(
        requests=(
            request("a", arrival_s=0.0, first_token_s=2.0, finish_s=10.0, output_tokens=5),
            request(
                "b",
                category="chat",
                arrival_s=1.0,
                first_scheduled_s=3.0,
                first_token_s=4.0,
                finish_s=13.0,
                prompt_tokens=3,
                output_tokens=4,
                finish_reason="length",
                max_new_tokens=4,
                num_preemptions=1,
                prompt_token_ids=(1, 2, 3),
                output_token_ids=(7, 8, 9, 10),
            ),
        ),
        rounds=rounds(
            round_(0, "a", "d1", drafted=4, accepted=2, verify_start_s=6.0, verify_end_s=8.0),
            round_(0, "b", "d2", drafted=2, accepted=1, verify_start_s=6.0, verify_end_s=8.0),
            round_(1, "a", "d1", drafted=3, accepted=0, verify_start_s=9.0, verify_end_s=10.0),
            round_(2, "b", None, drafted=0, accepted=0, verify_start_s=12.0, verify_end_s=13.0),
        ),
        spans=spans(
            span("target", "prefill", 1.0, 2.0, round_index=-1, request_ids=("a",), padded_cells=90),
            span("target", "prefill", 3.0, 4.0, round_index=-1, request_ids=("b",)),
            span("d1", "draft", 5.0, 6.0),
            span("d2", "draft", 4.5, 5.5, request_ids=("b",)),
            span(
                "target",
                "verify",
                6.0,
                8.0,
                request_ids=("a", "b"),
                useful_cells=60,
                padded_cells=20,
                query_tokens=10,
                key_tokens=16,
                peak_key_tokens=12,
            ),
            span("host", "host", 8.0, 9.0),
            span("target", "verify", 9.0, 10.0, round_index=1, useful_cells=15, padded_cells=5),
            span("target", "verify", 12.0, 13.0, round_index=2, request_ids=("b",), useful_cells=15, padded_cells=5),
        ),
        drafters=("d1", "d2"),
        start_s=0.0,
        end_s=20.0,
        complete=True,
    )
