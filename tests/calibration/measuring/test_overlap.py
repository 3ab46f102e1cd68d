"""Two lanes of one device, measured in miniature on the cores of a CPU."""

import pytest

from spinbench.calibration.measuring import overlap
from spinbench.calibration.measuring.bench import BLOCK_SIZE, Bench
from spinbench.calibration.measuring.gaps import loop_gaps_s
from spinbench.calibration.measuring.overlap import measure_overlap
from spinbench.calibration.profile.meta import ModelMeta
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.point import JobPoint
from spinbench.control.costs.overlap import Overlap
from spinbench.runtime.out_of_memory import TooLittleMemory
from spinbench.runtime.sampling.sampler import Sampling
from tests.calibration.measuring.test_measure import INFOS, METAS
from tests.runtime.tiny_models import drafters, target

LIMITS = ProfileLimits(3, 64, 64, 2)


@pytest.fixture(scope="module")
def bench() -> Bench:
    made = target()
    models = {model.name: model for model in drafters(made)}
    lanes = [(meta, info, models[meta.model] if meta.model else None) for meta, info in zip(METAS, INFOS, strict=True)]
    return Bench(made, lanes, Sampling(), LIMITS)


def sizes(**macs: int) -> list[ModelMeta]:
    return [
        ModelMeta(name=name, sha256=None, macs_per_token=size, weights_bytes=1, kv_bytes_per_token=1)
        for name, size in macs.items()
    ]


def test_the_largest_drafter_is_timed_beside_the_target(bench: Bench) -> None:
    """Behind the serving loop, whose own texts are shorter, as in a profile."""
    loop_gaps_s(bench.body, INFOS, 1, bench.num_blocks, BLOCK_SIZE, bench.vocab_size)
    found = measure_overlap(bench, sizes(llama=9, good=2, small_vocabulary=3), METAS, LIMITS, repeats=2)
    assert found is not None
    assert (found.drafter, found.drafter_threads) == ("small_vocabulary", 1)
    factors = found.target_alone, found.target_beside, found.drafter_alone, found.drafter_beside
    assert all(0.05 < factor < 100 for factor in factors)


def test_both_lanes_are_busy_throughout(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two jobs as many timings as asked for at least, each while the other lane had a job."""
    bench.begin()
    from spinbench.calibration.measuring.overlap import _jobs

    jobs = _jobs("good", 2, LIMITS)
    with bench.two_lanes(1) as lanes:
        in_flight: list[int] = []
        submit, next_event = lanes._body.submit, lanes._body.next_event
        count = 0

        def submitted(job) -> None:
            nonlocal count
            count += 1
            submit(job)

        def ended(deadline_s):
            nonlocal count
            done = next_event(deadline_s)
            in_flight.append(count)
            count -= 1
            return done

        monkeypatch.setattr(lanes._body, "submit", submitted)
        monkeypatch.setattr(lanes._body, "next_event", ended)
        seconds = lanes.beside(jobs, 3)
    assert min(map(len, seconds)) == 3
    timed = sum(map(len, seconds))
    assert in_flight[:timed] == [2] * timed
    assert in_flight[timed:] == [2, 1]
    bench.begin()


def test_lookups_alone_have_nothing_to_overlap(bench: Bench) -> None:
    assert measure_overlap(bench, sizes(llama=9), METAS[2:3], LIMITS, repeats=1) is None


def test_a_batch_that_does_not_fit_on_two_lanes_is_halved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    most = 1

    def factors(bench: Bench, jobs: tuple[JobPoint, JobPoint], repeats: int) -> Overlap:
        tried.append(len(jobs[0].stop_tokens))
        if tried[-1] > most:
            raise TooLittleMemory("scarce")
        return Overlap(1.0, 2.0, 3.0, 4.0)

    monkeypatch.setattr(overlap, "_factors", factors)
    found = measure_overlap(bench, sizes(llama=9, good=2, small_vocabulary=3), METAS, LIMITS, repeats=1)
    assert tried == [3, 1]
    assert found is not None
    assert found.factors == Overlap(1.0, 2.0, 3.0, 4.0)
    most = 0
    assert measure_overlap(bench, sizes(llama=9, good=2, small_vocabulary=3), METAS, LIMITS, repeats=1) is None
