from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.acceptance import position_rates
from spinbench.metrics.definitions import METRICS
from spinbench.metrics.identities import check_identities
from spinbench.metrics.lanes import union_length_s
from spinbench.metrics.latency import latency_samples
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record

from .records import request, round_, rounds, span, spans


def test_counts_and_throughput(record: RunRecord) -> None:
    summary = summarise(tables_from_record(record))
    assert summary["duration"] == 20.0
    assert (summary["num_prompts"], summary["completed"]) == (2, 2)
    assert summary["total_input_tokens"] == 8  # 5 + 3
    assert summary["total_output_tokens"] == 9  # 5 + 4
    assert summary["request_throughput"] == 0.1  # 2 / 20
    assert summary["output_throughput"] == 0.45  # 9 / 20
    assert summary["total_token_throughput"] == 0.85  # 17 / 20
    assert summary["num_preemptions"] == 1
    assert summary["max_concurrent_requests"] == 2


def test_latencies_count_from_arrival(record: RunRecord) -> None:
    samples = latency_samples(tables_from_record(record))
    assert samples.ttft_ms.tolist() == [2000, 3000]  # 2 - 0, 4 - 1
    assert samples.e2el_ms.tolist() == [10_000, 12_000]  # 10 - 0, 13 - 1
    assert samples.tpot_ms.tolist() == [2000, 3000]  # (10 - 2) / 4, (12 - 3) / 3
    assert sorted(samples.itl_ms.tolist()) == [2000, 4000, 5000, 6000]  # a: 2, 8, 10; b: 4, 8, 13
    summary = summarise(tables_from_record(record))
    assert summary["mean_ttft_ms"] == summary["median_ttft_ms"] == 2500
    assert summary["std_ttft_ms"] == 500  # population: sqrt((500^2 + 500^2) / 2)
    assert summary["p90_ttft_ms"] == pytest.approx(2900)  # 2000 + 0.9 * 1000
    assert summary["mean_itl_ms"] == 4250  # (2 + 4 + 5 + 6) / 4 s


def test_one_token_answers_have_no_tpot(record: RunRecord) -> None:
    single = request("c", output_tokens=1, finish_s=2.0, output_token_ids=(7,))
    summary = summarise(tables_from_record(replace(record, requests=(*record.requests, single))))
    assert summary["mean_tpot_ms"] == 2500  # (2000 + 3000) / 2, c left out
    assert summary["median_ttft_ms"] == 2000  # 2000, 2000, 3000: c counts here


def test_a_prefill_after_preemption_is_an_emission() -> None:
    again = request("a", output_tokens=3, num_prefill_emitted_tokens=2, num_preemptions=1, output_token_ids=(7, 8, 9))
    record = RunRecord(
        requests=(again,),
        rounds=rounds(round_(1, "a", None, 0, 0, verify_end_s=10.0)),
        spans=spans(span("target", "prefill", 1.0, 2.0), span("target", "prefill", 5.0, 7.0)),
        drafters=(),
        start_s=0.0,
        end_s=10.0,
        complete=True,
    )
    assert latency_samples(tables_from_record(record)).itl_ms.tolist() == [5000, 3000]  # 2 -> 7 -> 10 s


def test_aborted_requests_count_in_nothing_but_num_prompts(record: RunRecord) -> None:
    aborted = request("c", finish_reason="aborted", finish_s=None)
    partial = replace(
        record,
        requests=(*record.requests, aborted),
        rounds=rounds(*record.rounds, round_(3, "c", "d1", 4, 4, verify_end_s=14.0)),
    )
    before, after = summarise(tables_from_record(record)), summarise(tables_from_record(partial))
    assert after["num_prompts"] == 3
    for key in ("completed", "output_throughput", "mean_ttft_ms", "mean_itl_ms", "p99_e2el_ms"):
        assert after[key] == before[key]


def test_what_did_not_fit_is_counted_and_no_more(record: RunRecord) -> None:
    given_up = request("c", finish_reason="out_of_memory", finish_s=17.0, output_tokens=1, output_token_ids=(7,))
    unfit = [
        span("target", "out_of_memory", 16.0 + start, 16.5 + start, peak_key_tokens=99, key_tokens=99)
        for start in (0, 1)
    ]
    scarce = replace(record, requests=(*record.requests, given_up), spans=spans(*record.spans, *unfit))
    check_identities(scarce, ["a", "b", "c"])
    before, after = summarise(tables_from_record(record)), summarise(tables_from_record(scarce))
    assert (before["failed"], before["num_out_of_memory"]) == (0, 0)
    assert (after["failed"], after["num_out_of_memory"], after["completed"]) == (1, 2, 2)
    for key in ("output_throughput", "mean_itl_ms", "padding_share", "verify_key_tokens", "peak_key_tokens"):
        assert after[key] == before[key]


def test_speculation_counts_follow_vllm(record: RunRecord) -> None:
    summary = summarise(tables_from_record(record))
    assert summary["spec_decode_num_drafts"] == 3  # the plain round of b is no draft
    assert summary["spec_decode_draft_tokens"] == 9  # 4 + 2 + 3
    assert summary["spec_decode_accepted_tokens"] == 3  # 2 + 1 + 0
    assert summary["spec_decode_acceptance_rate"] == pytest.approx(100 * 3 / 9)
    assert summary["spec_decode_acceptance_length"] == 2.0  # 1 + 3 / 3
    assert summary["acceptance_length"] == 1.75  # (3 + 2 + 1 + 1) / 4
    assert summary["acceptance_length_per_drafter"] == {"d1": 2.0, "d2": 2.0}  # (3 + 1) / 2, 2 / 1
    assert summary["acceptance_length_per_category"] == {"chat": 1.5, "code": 2.0}  # (2 + 1) / 2, (3 + 1) / 2


def test_position_rates_marginal_and_conditional(record: RunRecord) -> None:
    rates = position_rates(tables_from_record(record).rounds)  # (drafted, accepted): (4, 2), (2, 1), (3, 0)
    assert rates.marginal == pytest.approx((2 / 3, 1 / 3, 0, 0))
    assert rates.reached == (3, 2, 1, 0)
    assert rates.conditional == (pytest.approx(2 / 3), 0.5, 0.0, None)


def test_positions_of_a_tree_are_depths(record: RunRecord) -> None:
    tree = rounds(round_(0, "a", "d1", drafted=9, accepted=2, num_speculative_tokens=9, draft_depth=3))
    rates = position_rates(tables_from_record(replace(record, rounds=tree)).rounds)
    assert (rates.marginal, rates.reached) == ((1, 1, 0), (1, 1, 1))


def test_lanes(record: RunRecord) -> None:
    summary = summarise(tables_from_record(record))
    assert summary["padding_share"] == 0.25  # verify only: (20 + 5 + 5) / (80 + 20 + 20)
    assert summary["verify_query_tokens"] == pytest.approx(10 / 3)  # (10 + 0 + 0) / 3
    assert summary["verify_key_tokens"] == pytest.approx(16 / 3)
    assert summary["peak_key_tokens"] == 12
    assert summary["lane_occupancy"] == {"d1": 0.05, "d2": 0.05, "host": 0.05, "target": 0.3}  # 1, 1, 1, 6 of 20 s
    # In the system 0-13 s; the target busy 1-2, 3-4, 6-8, 9-10, 12-13 = 6 s.
    assert summary["bubble_share"] == pytest.approx(7 / 13)
    # In the system 0-13 s; models busy 1-2, 3-4, 4.5-8, 9-10, 12-13 = 7.5 s.
    assert summary["host_share"] == pytest.approx(5.5 / 13)


def test_goodput_needs_every_limit(record: RunRecord) -> None:
    tables = tables_from_record(record)
    assert summarise(tables)["request_goodput"] is None
    assert summarise(tables, {"ttft": 2000.0})["request_goodput"] == 0.05  # a only: 1 / 20
    assert summarise(tables, {"ttft": 3000.0, "tpot": 3000.0})["request_goodput"] == 0.1
    assert summarise(tables, {"ttft": 3000.0, "tpot": 1999.0})["request_goodput"] == 0.0


def test_an_empty_run_has_no_numbers_but_no_error() -> None:
    empty = RunRecord(requests=(), rounds=rounds(), spans=spans(), drafters=(), start_s=1.0, end_s=1.0, complete=False)
    summary = summarise(tables_from_record(empty))
    assert summary["mean_ttft_ms"] is None
    assert summary["acceptance_length"] is None
    assert summary["output_throughput"] is None
    assert summary["spec_decode_per_position_acceptance_rates"] == []


def test_every_metric_has_a_key_of_its_own_a_unit_and_a_formula() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert all(metric.unit and metric.formula for metric in METRICS)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=12))
def test_union_length_equals_counting_seconds(pairs: list[tuple[int, int]]) -> None:
    covered = {second for start, length in pairs for second in range(start, start + length)}
    intervals = np.array([(start, start + length) for start, length in pairs], dtype=float).reshape(-1, 2)
    assert union_length_s(intervals) == pytest.approx(len(covered))
