"""Every metric of a run: its key, unit, formula and function. Keys as in `vllm bench serve` where it has one."""

import pandas as pd

from spinbench.control.records.span_chunk import OUT_OF_MEMORY
from spinbench.metrics.acceptance import acceptance_length_by_category, acceptance_length_by_drafter
from spinbench.metrics.lanes import (
    bubble_share,
    host_share,
    lane_occupancy,
    max_concurrent_requests,
    padding_share,
    peak_key_tokens,
    verify_mean,
)
from spinbench.metrics.latency import LATENCIES
from spinbench.metrics.measured import Measured
from spinbench.metrics.metric import Metric, statistic
from spinbench.metrics.slo import requests_within_slo


def _latency_metric(name: str, latency: str) -> Metric:
    return Metric(
        key=f"{name}_{latency}_ms",
        unit="ms",
        formula=f"{name} of {LATENCIES[latency]}",
        compute=lambda m: statistic(name, m.latencies.of(latency)),
    )


def _per_second(m: Measured, count: float) -> float | None:
    return count / m.tables.duration_s if m.tables.duration_s > 0 else None


def _sum(table: pd.DataFrame, column: str) -> int:
    return int(table[column].sum())


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _acceptance_length_of_drafts(m: Measured) -> float | None:
    accepted_per_draft = _ratio(_sum(m.drafts, "accepted"), len(m.drafts))
    return None if accepted_per_draft is None else 1 + accepted_per_draft


def _acceptance_rate_percent(m: Measured) -> float | None:
    return _ratio(100 * _sum(m.drafts, "accepted"), _sum(m.drafts, "drafted"))


def _goodput(m: Measured) -> float | None:
    return None if m.slo_ms is None else _per_second(m, requests_within_slo(m.latencies, m.slo_ms))


METRICS: tuple[Metric, ...] = (
    Metric("duration", "s", "end of the run - start of the run", lambda m: m.tables.duration_s),
    Metric("num_prompts", "requests", "requests recorded", lambda m: len(m.tables.requests)),
    Metric("completed", "requests", "requests that ended by end token or length", lambda m: len(m.completed)),
    Metric(
        "failed",
        "requests",
        "requests that were given up: out of memory even alone",
        lambda m: int((m.tables.requests["finish_reason"] == OUT_OF_MEMORY).sum()),
    ),
    Metric(
        "total_input_tokens",
        "tokens",
        "sum of prompt_tokens, completed requests",
        lambda m: _sum(m.completed, "prompt_tokens"),
    ),
    Metric(
        "total_output_tokens",
        "tokens",
        "sum of output_tokens, completed requests",
        lambda m: _sum(m.completed, "output_tokens"),
    ),
    Metric("request_throughput", "requests/s", "completed / duration", lambda m: _per_second(m, len(m.completed))),
    Metric(
        "output_throughput",
        "tokens/s",
        "total_output_tokens / duration",
        lambda m: _per_second(m, _sum(m.completed, "output_tokens")),
    ),
    Metric(
        "total_token_throughput",
        "tokens/s",
        "(total_input_tokens + total_output_tokens) / duration",
        lambda m: _per_second(m, _sum(m.completed, "prompt_tokens") + _sum(m.completed, "output_tokens")),
    ),
    Metric(
        "request_goodput", "requests/s", "completed requests within every SLO / duration; null without an SLO", _goodput
    ),
    *(_latency_metric(stat, name) for name in LATENCIES for stat in ("mean", "median", "std", "p90", "p95", "p99")),
    Metric("spec_decode_num_drafts", "drafts", "(round, request) pairs with drafted > 0", lambda m: len(m.drafts)),
    Metric("spec_decode_draft_tokens", "tokens", "sum of drafted", lambda m: _sum(m.drafts, "drafted")),
    Metric("spec_decode_accepted_tokens", "tokens", "sum of accepted", lambda m: _sum(m.drafts, "accepted")),
    Metric(
        "spec_decode_ahead_tokens",
        "tokens",
        "sum of num_tokens, draft_ahead jobs: drafted while the draft in front was verified, guesses included",
        lambda m: _sum(m.drafted_ahead, "num_tokens"),
    ),
    Metric(
        "spec_decode_used_ahead_tokens",
        "tokens",
        "sum of used_tokens: of those, tokens that a round verified",
        lambda m: _sum(m.drafted_ahead, "used_tokens"),
    ),
    Metric(
        "spec_decode_acceptance_rate",
        "%",
        "100 x accepted / drafted tokens (a percentage, as in vLLM)",
        _acceptance_rate_percent,
    ),
    Metric(
        "spec_decode_acceptance_length",
        "tokens",
        "1 + accepted tokens / drafts: rounds without a draft left out",
        _acceptance_length_of_drafts,
    ),
    Metric(
        "acceptance_length",
        "tokens",
        "emitted tokens / (round, request) pairs, all rounds: 1.0 = plain decoding",
        lambda m: _ratio(_sum(m.tables.rounds, "emitted"), len(m.tables.rounds)),
    ),
    Metric(
        "spec_decode_per_position_acceptance_rates",
        "share",
        "marginal: drafts with accepted >= i / all drafts, i = 1..longest draft",
        lambda m: list(m.positions.marginal),
    ),
    Metric(
        "spec_decode_per_position_conditional_acceptance_rates",
        "share",
        "drafts with accepted >= i / drafts with accepted >= i - 1 that proposed position i",
        lambda m: list(m.positions.conditional),
    ),
    Metric(
        "acceptance_length_per_drafter",
        "tokens",
        "emitted / (round, request) pairs of the drafter",
        lambda m: acceptance_length_by_drafter(m.tables.rounds),
    ),
    Metric(
        "acceptance_length_per_category",
        "tokens",
        "emitted / (round, request) pairs of the category",
        lambda m: acceptance_length_by_category(m.tables),
    ),
    Metric(
        "padding_share",
        "share",
        "padded cells / (useful + padded) cells, verify jobs",
        lambda m: padding_share(m.tables),
    ),
    Metric(
        "verify_query_tokens",
        "tokens",
        "mean of query_tokens, verify jobs: rows that attention reads, copies and padding included",
        lambda m: verify_mean(m.tables, "query_tokens"),
    ),
    Metric(
        "verify_key_tokens",
        "tokens",
        "mean of key_tokens, verify jobs: keys that attention reads, padding included",
        lambda m: verify_mean(m.tables, "key_tokens"),
    ),
    Metric(
        "peak_key_tokens",
        "tokens",
        "largest peak_key_tokens: keys that a layer copies out of the KV cache at once",
        lambda m: peak_key_tokens(m.tables),
    ),
    Metric("lane_occupancy", "share", "busy time of the lane / duration, per lane", lambda m: lane_occupancy(m.tables)),
    Metric(
        "bubble_share",
        "share",
        "time with a request in the system in which the target did nothing / time with a request in it",
        lambda m: bubble_share(m.tables),
    ),
    Metric(
        "host_share",
        "share",
        "time with a request in the system and no model running / time with a request in it",
        lambda m: host_share(m.tables),
    ),
    Metric(
        "max_concurrent_requests",
        "requests",
        "most requests in the system at once, waiting ones included",
        lambda m: max_concurrent_requests(m.tables),
    ),
    Metric(
        "num_preemptions", "preemptions", "sum of num_preemptions", lambda m: _sum(m.tables.requests, "num_preemptions")
    ),
    Metric(
        "num_out_of_memory",
        "jobs",
        "out_of_memory jobs: a device had too little memory; done again in smaller batches, or given up",
        lambda m: int((m.tables.spans["kind"] == OUT_OF_MEMORY).sum()),
    ),
    Metric(
        "num_switches",
        "switches",
        "(round, request) pairs whose drafter keeps KV and is not that of the request's round before",
        lambda m: len(m.switch_stalls_ms),
    ),
    *(
        Metric(
            f"{name}_switch_stall_ms",
            "ms",
            f"{name} over switches of the time between verification and draft in which the new drafter caught up",
            lambda m, name=name: statistic(name, m.switch_stalls_ms),
        )
        for name in ("mean", "p99")
    ),
)
