"""What each job is on real models, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    PrefillResult,
    Result,
    ScoreResult,
    TokenSpans,
    VerifyJob,
)
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.draft import Draft
from spinbench.runtime.drafter import Drafter
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.lookup_drafter import LookupThenModelDrafter, with_lookup
from spinbench.runtime.model_drafter import ModelDrafter
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.out_of_memory import in_parts
from spinbench.runtime.sampler import Sampling, make_sampler
from spinbench.runtime.slot_table import Slots, SlotTable
from spinbench.runtime.text_drafter import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.token_tree import SlotMoves
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


class JobWork:
    """Does jobs on the target and the drafters. Nothing here changes from job to job, so that lanes may do them."""

    def __init__(
        self, verifier: Verifier, drafters: Sequence[tuple[DrafterInfo, Drafter | None]], is_shared: bool = False
    ) -> None:
        """A drafter is None where another process has it; `is_shared`: other processes have parts of the target."""
        self.verifier = verifier
        self._is_shared = is_shared
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
        """In parts where the device has too little memory for all at once; of a shared target all devices must."""
        if self._is_shared:
            return Outcome(self.verifier.prefill(spans, text))
        parts = in_parts("prefill", len(spans), lambda places: self.verifier.prefill(spans.only(places), text))
        return Outcome(PrefillResult(np.concatenate([part.token_ids for part in parts])))

    def catch_up(self, job: CatchUpJob, moves: SlotMoves | None, slots: Slots, text: LiveText) -> Outcome:
        """`moves` are what the drafter has to move before; `slots` those of the requests when the job was submitted."""
        drafter = self._drafter(job, moves)
        if job.num_scored is not None:
            return Outcome(ScoreResult(drafter.score(job.spans, job.num_scored, text)))
        spans = job.spans
        in_parts("catch-up", len(spans), lambda places: drafter.catch_up(spans.only(places), slots, text))
        return Outcome(None)

    def draft(self, job: DraftJob, moves: SlotMoves | None, text: LiveText) -> Outcome:
        """Behind the text."""
        drafts = self._drafter(job, moves).draft(job, text)
        lengths = np.array([len(draft) for draft in drafts.of_request], np.int64)
        return Outcome(DraftResult(lengths, drafts.confidence, drafts.num_steps), drafts.of_request)

    def go_on(self, job: DraftJob, drafts: Sequence[Draft], slots: Slots, text: LiveText) -> Outcome:
        """Behind `drafts` of the requests that are being verified: a guess at the bonus token, and tokens behind it."""
        newest = torch.stack([draft.token_ids[-1] for draft in drafts])
        further = self._drafter(job, None).go_on(job, newest, slots, text).of_request
        guesses = torch.stack([draft.token_ids[0] for draft in further]).cpu().numpy()
        behind = tuple(draft.behind_first() for draft in further)
        return Outcome(DraftResult(job.num_speculative_tokens - 1, guesses=guesses), behind)

    def verify(self, job: VerifyJob, drafts: Mapping[int, Draft], text: LiveText) -> Outcome:
        """Of `drafts` by row."""
        if all(draft.parents is None for draft in drafts.values()):
            return Outcome(self.verifier.verify(job, drafts, text))
        result, path = self.verifier.verify_trees(job, drafts, text)
        return Outcome(result, path=path)

    def _drafter(self, job: CatchUpJob | DraftJob, moves: SlotMoves | None) -> Drafter:
        drafter = self._drafters[job.drafter][1]
        if drafter is None:
            raise RuntimeError(f"drafter {self.name_of(job.drafter)} is in another process")
        if moves is not None:
            drafter.move_kv(moves)
        return drafter


def make_work(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | NgramModel | None]],
    sampling: Sampling,
    slots: SlotTable,
    execution: Execution,
    is_shared: bool = False,
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
    return JobWork(verifier, parts, is_shared)
