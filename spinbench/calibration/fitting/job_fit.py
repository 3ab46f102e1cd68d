"""What jobs cost beside their passes, fitted to whole jobs.

A job's time is factor x its passes, plus a time per job, per request and per pass. The factor says what a pass costs
inside a job over what it costs by itself, and is drawn to 1. Factor and time per job (a drafter's weights have left the
caches since its last job) are each model's own; requests and steps cost the host the same whatever the model, so all
drafters share them, and the few jobs of each go further.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from spinbench.calibration.fitting.least_squares import named_nnls
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import FIT
from spinbench.calibration.profile.point import JobPoint, Timing
from spinbench.calibration.profile.profile_file import JOBS_FILE, Profile
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import JobCost, JobKind
from spinbench.control.costs.model_cost import DrafterCost
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError

Coefficient = tuple[str, str]
"""What a coefficient is, and of which model or kind of drafter; the second is empty for those that all share."""
Features = dict[Coefficient, float]
Rows = list[tuple[Features, float]]


def fit_jobs(profile: Profile, by_itself: CostModel, layouts: Sequence[LayoutKind]) -> CostModel:
    """`by_itself`, in which jobs take as long as their passes, with the costs that the profile's jobs show.

    Raises UserError for a kind of job that the profile has no rows of.
    """
    jobs = [(point, timing) for point, timing in profile.tables.jobs if point.role == FIT]
    fit = _JobFit(f"{profile.source}/{JOBS_FILE}", by_itself, profile.meta.drafters, jobs)
    return replace(
        by_itself,
        drafters=fit.drafters(),
        prefill=fit.target_job("prefill", ""),
        verify={layout: fit.target_job("verify", layout) for layout in layouts},
    )


class _JobFit:
    def __init__(
        self,
        where: str,
        by_itself: CostModel,
        drafters: Sequence[DrafterMeta],
        jobs: Sequence[tuple[JobPoint, Timing]],
    ) -> None:
        self._where = where
        self._by_itself = by_itself
        self._drafters = drafters
        self._jobs = jobs
        self._places = {drafter.name: place for place, drafter in enumerate(drafters)}

    def target_job(self, kind: JobKind, layout: LayoutKind | Literal[""]) -> JobCost:
        """Of the target's jobs of a kind (and layout)."""
        chosen = [(p, t) for p, t in self._jobs if p.kind == kind and p.lane == TARGET_LANE and p.layout == layout]
        rows = [(self._features(point, ""), timing.median_s) for point, timing in chosen]
        return self._cost(self._solve(rows, f"{layout} {kind}".strip()), "")

    def drafters(self) -> tuple[DrafterCost, ...]:
        """Of every drafter of the profile."""
        catch_ups: Rows = []
        drafts: Rows = []
        drafting: set[str] = set()
        catching_up: set[str] = set()
        for point, timing in self._jobs:
            model = self._model(point.lane)
            if point.kind == "catch_up":
                catch_ups.append((self._features(point, model), timing.median_s))
                catching_up.add(model)
            elif point.kind == "draft":
                drafts.append((self._draft_features(point, model), timing.median_s))
                drafting.add(point.lane)
        catch_up = self._solve(catch_ups, "catch_up") if any(d.model for d in self._drafters) else {}
        draft = self._solve(drafts, "draft") if self._drafters else {}
        costs = []
        for drafter, cost in zip(self._drafters, self._by_itself.drafters, strict=True):
            if drafter.name not in drafting:
                raise UserError(f"{self._where}: no draft rows of lane {drafter.name!r} with role fit")
            if drafter.model is not None and drafter.model not in catching_up:
                raise UserError(f"{self._where}: no catch_up rows of a lane of {drafter.model!r} with role fit")
            costs.append(
                replace(
                    cost,
                    catch_up=self._cost(catch_up, drafter.model) if drafter.model is not None else None,
                    draft=self._draft_cost(draft, drafter),
                    lookup=self._lookup_cost(draft, drafter) if drafter.copies else None,
                )
            )
        return tuple(costs)

    def _model(self, lane: str) -> str:
        """The model that drafts on a lane; empty for the target and for a lookup."""
        return (self._drafters[self._places[lane]].model if lane in self._places else None) or ""

    def _kind(self, lane: str) -> str:
        return self._drafters[self._places[lane]].kind

    def _features(self, point: JobPoint, model: str) -> Features:
        """Of a job of one pass."""
        return {
            ("factor", model): self._by_itself.job_s(point.job(self._places.get(point.lane, 0))),
            ("job", model): 1.0,
            ("request", ""): float(len(point.stop_tokens)),
        }

    def _draft_features(self, point: JobPoint, model: str) -> Features:
        copied = sum(point.by_lookup)
        by_model = [k for k, copies in zip(point.num_speculative_tokens, point.by_lookup, strict=True) if not copies]
        features: Features = {}
        if copied:
            # behind a model, a lookup has the work of parting its requests from the model's
            features |= {("job", self._kind(point.lane)): 1.0, ("request", "lookup"): float(copied)}
        if by_model and not model:
            table = f"{self._kind(point.lane)} table"
            features |= {
                ("job", table): 1.0,
                ("request", table): float(len(by_model)),
                ("pass", table): float(max(by_model)),
            }
        elif by_model:
            features |= {
                ("factor", model): self._by_itself.job_s(point.job(self._places[point.lane])),
                ("job", model): 1.0,
                ("request", ""): float(len(by_model)),
                ("pass", ""): float(max(by_model)),
            }
        return features

    def _solve(self, rows: Rows, what: str) -> dict[Coefficient, float]:
        if not rows:
            raise UserError(f"{self._where}: no {what} rows with role fit")
        # in the rows' order: a set's differs from process to process, and with it the last digits of the solution
        factors = (name for features, _ in rows for name in features if name[0] == "factor")
        return named_nnls(rows, dict.fromkeys(factors, 1.0))

    def _cost(self, solved: dict[Coefficient, float], model: str) -> JobCost:
        return JobCost(
            pass_factor=solved[("factor", model)],
            job_s=solved[("job", model)],
            request_s=solved[("request", "")],
            pass_s=solved.get(("pass", ""), 0.0),
        )

    def _draft_cost(self, solved: dict[Coefficient, float], drafter: DrafterMeta) -> JobCost | None:
        if drafter.model is not None:
            return self._cost(solved, drafter.model)
        if not drafter.asks_ngrams:
            return None
        table = f"{drafter.kind} table"
        job_s, request_s, pass_s = (solved.get((what, table), 0.0) for what in ("job", "request", "pass"))
        return JobCost(pass_factor=0.0, job_s=job_s, request_s=request_s, pass_s=pass_s)

    def _lookup_cost(self, solved: dict[Coefficient, float], drafter: DrafterMeta) -> JobCost:
        return JobCost(
            pass_factor=0.0,
            job_s=solved.get(("job", drafter.kind), 0.0),
            request_s=solved.get(("request", "lookup"), 0.0),
            pass_s=0.0,
        )
