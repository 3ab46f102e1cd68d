"""Jobs of a profile timed once more: how much slower or faster the machine is than when it was profiled."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.profile.job_plan import JobGroup, job_groups
from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.calibration.profile.point import JobPoint
from spinbench.calibration.profile.profile_file import Profile
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError
from spinbench.metrics.validation import JobsCompared
from spinbench.text_file import write_text

COLUMNS = ("kind", "lane", "real_s", "expected_s")


class PaceCheck:
    """Goes through jobs of a profile, each kind for its share of the time."""

    def __init__(self, profile: Profile, drafters: Iterable[str], shares: Mapping[tuple[str, str], float]) -> None:
        """`drafters` that there are to time; `shares` of time, in any unit, of the kinds and lanes that matter."""
        self._mean_s = {point: timing.mean_s for point, timing in profile.tables.jobs}
        self._source = profile.source
        meta = profile.meta
        # the profile's own, in its order: by them it drew its jobs
        layouts: list[LayoutKind] = [*dict.fromkeys(job.layout for job in self._mean_s if job.layout)]
        lanes = {TARGET_LANE, *drafters}
        lasting = [of for of, share in shares.items() if share > 0]
        self._stands_for: dict[JobPoint, list[str]] = {}
        by_kind: dict[str, list[JobGroup]] = defaultdict(list)
        for group in job_groups(meta.drafters, layouts, meta.limits.of_plan):
            jobs: list[JobPoint] = []
            for job in group.jobs:
                self._stands_for[job] = [lane for kind, lane in lasting if kind == job.kind and _alike(meta, job, lane)]
                if self._stands_for[job] and job in self._mean_s:
                    jobs.append(job)
            if jobs and all(job.lane in lanes for job in group.lead_in):
                by_kind[jobs[0].kind].append(replace(group, jobs=tuple(jobs)))
        rng = np.random.default_rng(0)
        self._groups = {
            kind: cycle([groups[place] for place in rng.permutation(len(groups))]) for kind, groups in by_kind.items()
        }
        self._share = {kind: sum(share for (of, _), share in shares.items() if of == kind) for kind in by_kind}
        self._timed: set[JobPoint] = set()

    def run(self, bench: Bench, seconds: float) -> JobsCompared:
        """Jobs for about `seconds`, each beside its mean in the profile; goes on where the last call stopped.

        Every kind is there at least once. Raises UserError if the profile has none of the jobs.
        """
        if not self._groups:
            raise UserError(
                f"{self._source}: was measured by another version, on other jobs than those that would be timed again; "
                "profile anew, or set pace_check_s=0"
            )
        rows: list[tuple[str, str, float, float]] = []
        bench.begin()
        spent_s = dict.fromkeys(self._groups, 0.0)
        while 0.0 in spent_s.values() or sum(spent_s.values()) < seconds:
            kind = min(spent_s, key=lambda kind: spent_s[kind] / self._share[kind])
            start_s = time.perf_counter()
            rows += self._visit(bench, next(self._groups[kind]))
            spent_s[kind] += time.perf_counter() - start_s
        kinds, lanes, real_s, expected_s = zip(*rows, strict=True)
        return JobsCompared(kinds, lanes, np.array(real_s), np.array(expected_s))

    def _visit(self, bench: Bench, group: JobGroup) -> Iterator[tuple[str, str, float, float]]:
        """Kind, lane, seconds now and seconds in the profile of each job, once for every lane that it stands for."""
        for job in group.jobs:
            if job not in self._timed:  # the first time a shape comes, kernels are chosen
                self._timed.add(job)
                _lead_in(bench, group)
                bench.job_s(job)
        _lead_in(bench, group)
        for job in group.jobs:
            real_s = bench.job_s(job)
            for lane in self._stands_for[job]:
                yield job.kind, lane, real_s, self._mean_s[job]


def _lead_in(bench: Bench, group: JobGroup) -> None:
    for before in group.lead_in:
        bench.job_s(before)


def _alike(meta: ProfileMeta, job: JobPoint, lane: str) -> bool:
    """Whether the job takes what it would on `lane`: a model behind a lookup catches up as the model by itself does."""
    if job.kind != "catch_up":
        return job.lane == lane
    return meta.drafter(job.lane).model == meta.drafter(lane).model


def write_pace(path: Path, jobs: JobsCompared) -> None:
    """Keep what a check found. Raises UserError if it cannot be written."""
    columns = (jobs.kind, jobs.lane, jobs.real_s, jobs.expected_s)
    write_text(path, pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).to_csv(index=False))


def read_pace(path: Path) -> JobsCompared | None:
    """What `write_pace` kept; None where it kept nothing. Raises UserError for another file."""
    try:
        table = pd.read_csv(path)
        kinds, lanes, real_s, expected_s = (table[name].tolist() for name in COLUMNS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as what a pace check found: {error}; delete it") from error
    return JobsCompared(tuple(kinds), tuple(lanes), np.array(real_s, float), np.array(expected_s, float))
