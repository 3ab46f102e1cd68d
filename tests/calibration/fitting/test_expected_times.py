"""Jobs of a run beside what is expected of them."""

import pytest

from spinbench.calibration.fitting.expected_times import ExpectingBody
from spinbench.control.jobs.body import Body
from spinbench.control.jobs.job import CatchUpJob, Job
from spinbench.metrics.validation import job_errors
from tests.simulation.simulated import StatedTimes, bernoulli, fixed, requests, simulate


def test_every_job_is_held_against_what_was_expected_of_it():
    taken = StatedTimes(prefill_s=2.0, verify_s=3.0, draft_token_s=0.5)
    expected = StatedTimes(prefill_s=2.0, verify_s=1.5, draft_token_s=1.0)
    trace = requests(1, 7)
    bodies: list[ExpectingBody] = []

    def expecting(body: Body) -> Body:
        bodies.append(ExpectingBody(body, expected.job_s))
        return bodies[0]

    record = simulate(trace, bernoulli(trace, {"d": 1.0}), taken, selector=fixed(), draft_length=2, interface=expecting)
    errors = job_errors([bodies[0].compared()]).set_index("job")
    # 1 token of the prefill, then two rounds of 2 drafted tokens and a bonus: 1 + 3 + 3 = 7
    assert errors["jobs"].to_dict() == {"prefill": 1, "draft": 2, "verify": 2}
    assert errors["lane"].to_dict() == {"prefill": "target", "draft": "d", "verify": "target"}
    assert errors["error"].to_dict() == pytest.approx({"prefill": 0.0, "draft": 1.0, "verify": -0.5})
    assert errors["real_mean_ms"].to_dict() == pytest.approx({"prefill": 2000, "draft": 1000, "verify": 3000})
    # 2 + 2 * 1 + 2 * 3 = 10 seconds
    assert errors["share_of_time"].to_dict() == pytest.approx({"prefill": 0.2, "draft": 0.2, "verify": 0.6})
    assert record.end_s == 10.0


def test_the_run_is_as_without():
    taken = StatedTimes(draft_token_s=0.5, catch_up_s=0.25)
    trace = requests(3, 20)
    streams = bernoulli(trace, {"d": 0.7})

    def asks_in_vain(job: Job) -> float:
        return 0.0 if isinstance(job, CatchUpJob) else 1.0

    runs = [
        simulate(trace, streams, taken, selector=fixed(), max_num_seqs=2, interface=interface)
        for interface in (None, lambda body: ExpectingBody(body, asks_in_vain))
    ]
    assert list(runs[0].spans) == list(runs[1].spans)
    assert list(runs[0].rounds) == list(runs[1].rounds)
