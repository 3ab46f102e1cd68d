from collections.abc import Callable
from dataclasses import replace

import pytest

from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.identities import IdentityError, check_identities

from .records import request, round_, rounds, span, spans


def _with_request(record: RunRecord, **changes) -> RunRecord:
    return replace(record, requests=(replace(record.requests[0], **changes), *record.requests[1:]))


def _with_round(record: RunRecord, **changes) -> RunRecord:
    return replace(record, rounds=rounds(replace(record.rounds[0], **changes), *list(record.rounds)[1:]))


def _with_span(record: RunRecord, **changes) -> RunRecord:
    return replace(record, spans=spans(replace(record.spans[0], **changes), *list(record.spans)[1:]))


BROKEN: dict[str, tuple[Callable[[RunRecord], RunRecord], str]] = {
    "accepted above drafted": (lambda r: _with_round(r, drafted=1), "accepted 2 of 1 drafted"),
    "negative accepted": (lambda r: _with_round(r, accepted=-1, emitted=0), "accepted -1"),
    "drafted above K": (lambda r: _with_round(r, num_speculative_tokens=3), "drafted 4, asked for 3"),
    "accepted off the paths": (lambda r: _with_round(r, draft_depth=1), "accepted 2 on paths of 1 among 4 drafted"),
    "no drafter": (lambda r: _with_round(r, drafter=None), "4 drafted tokens and no drafter"),
    "stranger": (lambda r: _with_round(r, request_id="z"), "request z in round 0: not among"),
    "tokens": (
        lambda r: _with_request(r, output_tokens=6, output_token_ids=()),
        "6 output tokens, but 1 from prefills and 4 from rounds",
    ),
    "ids": (lambda r: _with_request(r, output_token_ids=(1, 2)), "request a: 5 output tokens, but 2 ids"),
    "limit": (lambda r: _with_request(r, max_new_tokens=4), "request a: 5 output tokens, limit 4"),
    "unfinished": (lambda r: _with_request(r, finish_s=None), "request a: finish reason stop"),
    "aborted": (
        lambda r: _with_request(r, finish_reason="aborted"),
        "request a: aborted in a run that calls itself complete",
    ),
    "time runs back": (
        lambda r: _with_request(r, first_token_s=0.5),
        "first_token_s 0.5 is before first_scheduled_s 1.0",
    ),
    "twice": (lambda r: replace(r, requests=(*r.requests, r.requests[0])), "request a: recorded twice"),
    "overlap": (
        lambda r: replace(r, spans=spans(*r.spans, span("target", "verify", 7.5, 7.75))),
        "lane target, verify at 7.5 s",
    ),
    "backward span": (lambda r: _with_span(r, end_s=0.5), "ends before it starts"),
    "keys": (lambda r: _with_span(r, key_tokens=3, peak_key_tokens=4), "3 keys, of them 4 copied at once"),
    "used beyond what was drafted ahead": (
        lambda r: _with_span(r, kind="draft_ahead", used_tokens=4),
        "4 tokens used of 3 that were drafted ahead",
    ),
    "used though not ahead": (lambda r: _with_span(r, used_tokens=1), "1 tokens used of 3 that were drafted ahead"),
    "cells": (lambda r: _with_span(r, padded_cells=-1), "30 useful and -1 padded cells"),
}


def test_a_sound_record_passes(record: RunRecord) -> None:
    check_identities(record, expected_request_ids=["a", "b"])


@pytest.mark.parametrize("name", BROKEN)
def test_each_contradiction_is_named(record: RunRecord, name: str) -> None:
    break_it, said = BROKEN[name]
    with pytest.raises(IdentityError, match=said):
        check_identities(break_it(record))


def test_a_request_of_the_trace_that_left_no_record(record: RunRecord) -> None:
    with pytest.raises(IdentityError, match="request c: in the trace or in the record, but not in both"):
        check_identities(record, expected_request_ids=["a", "b", "c"])


def test_an_interrupted_run_may_hold_aborted_requests(record: RunRecord) -> None:
    cut = request("c", finish_reason="aborted", finish_s=None, output_tokens=3, output_token_ids=(1, 2, 3))
    check_identities(
        replace(
            record,
            complete=False,
            requests=(*record.requests, cut),
            rounds=rounds(*record.rounds, round_(3, "c", "d1", 4, 1)),
        )
    )


def test_jobs_of_different_lanes_may_overlap_and_touch(record: RunRecord) -> None:
    check_identities(replace(record, spans=spans(*record.spans, span("d1", "draft", 6.0, 9.0))))
