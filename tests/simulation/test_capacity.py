"""The capacity found by simulation is that of queueing theory, where theory knows it."""

import math

import numpy as np
import pytest

from spinbench.metrics.capacity import Load, find_capacity
from spinbench.metrics.latency import latency_samples
from spinbench.metrics.slo import requests_within_slo
from spinbench.metrics.tables import tables_from_record
from spinbench.workload.arrivals import ArrivalPattern
from tests.simulation.simulated import StatedTimes, bernoulli, requests, simulate

SERVICE_S = 1.0
LIMIT_S = 4.0
GOAL = 0.9


def waits_at_most(rho: float, time_s: float) -> float:
    """P(wait <= t) in M/D/1 with service time 1 and utilisation rho (Erlang, 1909)."""
    terms = (
        (rho * (k - time_s)) ** k / math.factorial(k) * math.exp(-rho * (k - time_s)) for k in range(int(time_s) + 1)
    )
    return (1 - rho) * sum(terms)


def theoretical_rate() -> float:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if waits_at_most(middle, LIMIT_S - SERVICE_S) >= GOAL:
            low = middle
        else:
            high = middle
    return low


def test_erlangs_formula_at_its_ends() -> None:
    assert waits_at_most(0.3, 0.0) == pytest.approx(0.7)  # nobody there on arrival
    assert waits_at_most(1e-9, 3.0) == pytest.approx(1.0)


def test_one_server_with_a_fixed_service_time_is_an_m_d_1_queue() -> None:
    # one token each, which the prefill emits: a service of exactly one second
    trace = requests(700, 1)
    streams = bernoulli(trace, {})
    shares: dict[float, float] = {}

    def load_at(rate_rps: float) -> Load:
        within, duration_s = 0, 0.0
        for seed in range(2):
            at_once = math.isinf(rate_rps)
            pattern = ArrivalPattern("all_at_once") if at_once else ArrivalPattern("gamma", rate_rps, seed=seed)
            record = simulate(trace, streams, StatedTimes(prefill_s=SERVICE_S), pattern=pattern)
            tables = tables_from_record(record)
            within += requests_within_slo(latency_samples(tables), {"ttft": 1e3 * LIMIT_S})
            duration_s += tables.duration_s
        shares[rate_rps] = within / (2 * len(trace))
        return Load(rate_rps, 2 * len(trace), within, 2 * len(trace) / duration_s)

    capacity = find_capacity(load_at, GOAL, 0.03)
    assert capacity.saturation_rate == pytest.approx(1 / SERVICE_S)
    # 1,400 requests whose waits go together: some percent of noise in the rate
    assert capacity.request_rate == pytest.approx(theoretical_rate(), rel=0.1)
    by_rate = [shares[rate] for rate in sorted(shares)]
    assert (np.diff(by_rate) <= 0).all(), "the same gaps, closer together: nobody waits less"
