"""What each job is on real models, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, TokenSpans, VerifyJob
from spinbench.control.jobs.result import DraftResult, Result, ScoreResult
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.draft import Draft
from spinbench.runtime.drafters.drafter import Drafter
from spinbench.runtime.drafters.lookup import LookupThenModelDrafter, with_lookup
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.drafters.text import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.kv.slot_table import Slots, SlotTable
from spinbench.runtime.sampling.sampler import Sampling, make_sampler
from spinbench.runtime.token_tree import KvMoves, SlotMoves
from spinbench.runtime.verifier import Verifier
from spinbench.workload.acceptance.ngram_model import NgramModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to."""

    result: Result
    drafts: tuple[Draft, ...] = ()
    """Of each of its requests."""
    path: IntArray | None = None
    """The places in token trees that were accepted, see `Verifier.verify_trees`."""
    unmoved: KvMoves | None = None
    """What the drafter was to move before the job, where not even that fitted on its device."""


class JobWork:
    """Does jobs on the target and the drafters. Nothing here changes from job to job, so that lanes may do them."""

    def __init__(self, verifier: Verifier, drafters: Sequence[tuple[DrafterInfo, Drafter | None]]) -> None:
        """A drafter is None where another process has it."""
        self.verifier = verifier
        self._drafters = list(drafters)

    @property
    def device(self) -> torch.device:
        """The target's."""
        return self.verifier.runner.device

    @property
    def num_drafters(self) -> int:
        """Those of the run."""
        return len(self._drafters)

    def name_of(self, drafter: int) -> str:
        """What records call a drafter."""
        return self._drafters[drafter][0].name

    @property
    def ngrams(self) -> NgramModel | None:
        """The n-gram table that a drafter asks, None without one."""
        parts = [
            drafter.model if isinstance(drafter, LookupThenModelDrafter) else drafter for _, drafter in self._drafters
        ]
        return next((part.model for part in parts if isinstance(part, NgramDrafter)), None)

    @property
    def forward_s(self) -> float:
        """Host time spent inside model forwards so far; on a CPU, the models' own time."""
        drafters = (drafter for _, drafter in self._drafters if drafter is not None)
        return self.verifier.runner.forward_s + sum(drafter.forward_s for drafter in drafters)

    def prefill(self, spans: TokenSpans, text: LiveText) -> Outcome:
        """Of newcomers' whole contexts."""
        return Outcome(self.verifier.prefill(spans, text))

    def move_kv(self, job: CatchUpJob | DraftJob, moves: SlotMoves) -> None:
        """What the drafter has to move before this job."""
        self._drafter(job).move_kv(moves)

    def catch_up(self, job: CatchUpJob, slots: Slots, text: LiveText) -> Outcome:
        """`slots` are those of the requests when the job was submitted."""
        drafter = self._drafter(job)
        if job.num_scored is not None:
            return Outcome(ScoreResult(drafter.score(job.spans, job.num_scored, text)))
        drafter.catch_up(job.spans, slots, text)
        return Outcome(None)

    def draft(self, job: DraftJob, text: LiveText) -> Outcome:
        """Behind the text."""
        drafts = self._drafter(job).draft(job, text)
        lengths = np.array([len(draft) for draft in drafts.of_request], np.int64)
        return Outcome(DraftResult(lengths, drafts.confidence, drafts.num_steps), drafts.of_request)

    def go_on(self, job: DraftJob, drafts: Sequence[Draft], slots: Slots, text: LiveText) -> Outcome:
        """Behind `drafts` of the requests that are being verified: a guess at the bonus token, and tokens behind it."""
        newest = torch.stack([draft.token_ids[-1] for draft in drafts])
        further = self._drafter(job).go_on(job, newest, slots, text).of_request
        guesses = torch.stack([draft.token_ids[0] for draft in further]).cpu().numpy()
        behind = tuple(draft.behind_first() for draft in further)
        return Outcome(DraftResult(job.num_speculative_tokens - 1, guesses=guesses), behind)

    def verify(self, job: VerifyJob, drafts: Mapping[int, Draft], text: LiveText) -> Outcome:
        """Of `drafts` by row."""
        if all(draft.parents is None for draft in drafts.values()):
            return Outcome(self.verifier.verify(job, drafts, text))
        result, path = self.verifier.verify_trees(job, drafts, text)
        return Outcome(result, path=path)

    def _drafter(self, job: CatchUpJob | DraftJob) -> Drafter:
        drafter = self._drafters[job.drafter][1]
        if drafter is None:
            raise RuntimeError(f"drafter {self.name_of(job.drafter)} is in another process")
        return drafter


def make_work(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | NgramModel | None]],
    sampling: Sampling,
    slots: SlotTable,
    execution: Execution,
) -> JobWork:
    """On `target` and `drafters`, each with a KV pool of the slots of `slots`.

    A drafter has no model for prompt lookup, and where another process has its network.
    """
    sampler = make_sampler(sampling)
    runner = ModelRunner(target.model, slots, execution.attention)
    verifier = Verifier(runner, sampler, execution.forward_replays(runner, slots))
    parts: list[tuple[DrafterInfo, Drafter | None]] = []
    device = target.model.device
    for info, model in drafters:
        if isinstance(model, NgramModel):
            part = with_lookup(info, NgramDrafter(model, device), device)
        elif model is not None:
            part = with_lookup(info, ModelDrafter(model, slots, sampler, execution=execution), device)
        elif info.has_kv_cache:
            part = None
        else:
            part = PromptLookupDrafter(info, device)
        parts.append((info, part))
    return JobWork(verifier, parts)
