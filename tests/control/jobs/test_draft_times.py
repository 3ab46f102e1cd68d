"""When drafts were made: the same of jobs that end one by one and of a series that was done at one go."""

import numpy as np

from spinbench.control.drafting.drafter_groups import DrafterGroups
from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.draft_series import DraftSeries, SeriesDone
from spinbench.control.jobs.draft_times import DraftTimes, TimesAtOnce, TimesOfJobs
from spinbench.control.jobs.job import CatchUpJob, TokenSpans
from spinbench.control.jobs.result import DraftResult

DRAFTER = np.array([2, -1, 0, 2])
CATCH_UP_S, DRAFTS_S = KnownTimes(3.0, 3.5), {0: KnownTimes(1.0, 2.5), 2: KnownTimes(3.5, 5.0)}
"""Drafter 2 has to catch up first."""


def series() -> DraftSeries:
    groups = DrafterGroups(3).of(DRAFTER)
    spans = TokenSpans(groups.places, groups.places + 4, groups.places + 5)
    catch_ups = [None, CatchUpJob(2, spans.only(np.array([1])))]
    return DraftSeries(groups, spans, np.full(3, 4), np.zeros(3, np.bool_), catch_ups, False, None)


def as_lists(times: DraftTimes) -> list[list[float]]:
    return [times.start_s.tolist(), times.end_s.tolist(), times.duration_s.tolist(), times.group_size().tolist()]


def test_both_know_the_same():
    at_once = TimesAtOnce(SeriesDone(series(), ["a", "c"], [DRAFTS_S[0], CATCH_UP_S, DRAFTS_S[2]]), DRAFTER, 3)
    one_by_one = TimesOfJobs(len(DRAFTER), several=False)
    for (number, places), job in zip(series().groups.parts, series().drafts(), strict=True):
        done = JobDone(job, DraftResult(job.num_speculative_tokens), "lane", DRAFTS_S[number])
        one_by_one.add(places, done, places)
    nan = np.nan
    np.testing.assert_equal(
        as_lists(at_once), [[3.5, nan, 1.0, 3.5], [5.0, nan, 2.5, 5.0], [1.5, 0.0, 1.5, 1.5], [2, 0, 1, 2]]
    )
    np.testing.assert_equal(as_lists(one_by_one), as_lists(at_once))


def test_of_several_drafts_the_first_begins_and_the_last_ends():
    times = TimesOfJobs(1, several=True)
    (job, _), place = series().drafts(), np.array([0])
    for start_s, end_s in ((2.0, 4.0), (1.0, 3.0)):
        times.add(place, JobDone(job, DraftResult(np.array([4])), "lane", KnownTimes(start_s, end_s)), place)
    assert as_lists(times) == [[1.0], [4.0], [3.0], [1]]
