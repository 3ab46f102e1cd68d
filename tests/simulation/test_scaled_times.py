"""A profile that is off by a factor per kind of job is mended by what another run's jobs took."""

import numpy as np
import pytest

from spinbench.calibration.fitting.expected_times import ExpectingBody
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import Body
from spinbench.metrics.drift import time_factors
from spinbench.metrics.validation import JobsCompared
from spinbench.simulation.body import JobTimes
from spinbench.simulation.scaled_times import ScaledTimes
from tests.simulation.simulated import StatedTimes, bernoulli, fixed, requests, simulate

PROFILED = StatedTimes(prefill_s=2.0, verify_s=3.0, draft_token_s=0.5, gap_s=0.25)
TODAY = StatedTimes(prefill_s=2.5, verify_s=3.75, draft_token_s=0.25, gap_s=0.25)


def test_times_are_those_of_the_run_that_they_were_scaled_to() -> None:
    trace = requests(3, 9)
    streams = bernoulli(trace, {"d": 0.6})
    bodies: list[ExpectingBody] = []

    def expecting(body: Body) -> Body:
        bodies.append(ExpectingBody(body, PROFILED.job_s))
        return bodies[0]

    def run(times: JobTimes, interface=None):
        return simulate(trace, streams, times, selector=fixed(), draft_length=2, max_num_seqs=2, interface=interface)

    real = run(TODAY, expecting)
    factors = time_factors([bodies[0].compared()])
    assert factors == pytest.approx({("prefill", "target"): 1.25, ("verify", "target"): 1.25, ("draft", "d"): 0.5})
    again = run(ScaledTimes(PROFILED, factors, [DrafterInfo("d", "model")]))
    assert list(again.spans) == list(real.spans)
    # as profiled it took another time
    assert run(PROFILED).end_s != real.end_s


def test_jobs_that_took_no_time_or_were_expected_to_are_not_scaled() -> None:
    jobs = JobsCompared(
        ("verify", "verify", "draft", "catch_up"),
        ("target", "target", "d", "d"),
        np.array([1.0, 2.0, 0.0, 1.0]),
        np.array([2.0, 4.0, 1.0, 0.0]),
    )
    assert time_factors([jobs]) == {("verify", "target"): 0.5}  # 3 / 6
