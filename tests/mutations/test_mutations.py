"""Bugs that speculative decoding is prone to, planted one by one: each is caught by a check of the suite."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from spinbench.control.drafting.ready_drafts import NO_JOB
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.job import Job, TokenSpans, VerifyJob
from spinbench.control.jobs.result import VerifyResult
from spinbench.control.request_table import RequestTable
from spinbench.control.round_closer import RoundCloser
from spinbench.control.rounds.draft_ahead import DraftAhead
from spinbench.control.rounds.round import Round
from spinbench.runtime import token_tree, verifier
from spinbench.runtime.draft import Draft, ScoredRows, Verdict
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.forward import model_runner
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.forward.paged_batch import PagedBatch
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.proposals import Proposals
from spinbench.runtime.sampling import rejection, sampler
from spinbench.runtime.verifier import Verifier
from tests.mutations.checks import CHECKS, passes

Patch = pytest.MonkeyPatch


def lost_bonus_token(patch: Patch) -> None:
    """A draft that is kept whole is not followed by the target's own token."""
    verify = Verifier.verify

    def mutated(self: Verifier, job: VerifyJob, *rest: Any) -> VerifyResult:
        result = verify(self, job, *rest)
        return replace(result, num_emitted=np.maximum(1, np.minimum(result.num_emitted, job.num_drafted)))

    patch.setattr(Verifier, "verify", mutated)


def lost_token_after_a_rejection(patch: Patch) -> None:
    """Behind tokens that were kept, the next round drafts again what was rejected."""
    verify = Verifier.verify

    def mutated(self: Verifier, job: VerifyJob, *rest: Any) -> VerifyResult:
        result = verify(self, job, *rest)
        return replace(result, num_emitted=np.maximum(1, result.num_emitted - 1))

    patch.setattr(Verifier, "verify", mutated)


def unwritten_bonus_token(patch: Patch) -> None:
    """The bonus token's place keeps what was drafted there."""

    def mutated(law: torch.Tensor, rows: ScoredRows) -> Verdict:
        verdict = judge_by_law(law, rows)
        return Verdict(torch.cat((rows.token_ids[:, 1:], rows.token_ids[:, :1]), 1), verdict.accepted)

    judge_by_law = rejection.judge_by_law
    patch.setattr(rejection, "judge_by_law", mutated)


def draws_shared_by_requests(patch: Patch) -> None:
    """All requests use the draws of one."""
    draws = rejection.request_uniforms
    patch.setattr(
        rejection, "request_uniforms", lambda stream, seeds, *rest: draws(stream, np.zeros_like(seeds), *rest)
    )


def noise_shared_by_requests(patch: Patch) -> None:
    """The same, for noise that target and drafters share."""
    noise = sampler.gumbel_noise
    patch.setattr(sampler, "gumbel_noise", lambda seeds, *rest: noise(np.zeros_like(seeds), *rest))


def draws_shared_by_draft_and_verdict(patch: Patch) -> None:
    """Whether a token is kept is decided by the number that it was drawn with."""
    draws = rejection.request_uniforms
    patch.setattr(
        rejection,
        "request_uniforms",
        lambda stream, seeds, positions, device, start=0: draws("one", seeds, positions, device),
    )


def noise_position_off_by_one(patch: Patch) -> None:
    """Verification takes the noise of the next position."""
    places = ScoredRows.places

    def mutated(self: ScoredRows) -> tuple[np.ndarray, np.ndarray]:
        requests, positions = places(self)
        return requests, positions + 1

    patch.setattr(ScoredRows, "places", mutated)


def model_position_off_by_one(patch: Patch) -> None:
    """Tokens behind a context are told that they stand one further on."""
    run = ModelRunner.run

    def mutated(self: ModelRunner, token_ids: torch.Tensor, positions: np.ndarray, *rest: Any) -> torch.Tensor:
        return run(self, token_ids, positions + int(positions[0] > 0), *rest)

    patch.setattr(ModelRunner, "run", mutated)


def scored_row_off_by_one(patch: Patch) -> None:
    """A drafted token is held against the law of the position behind its own."""

    def mutated(law: torch.Tensor, rows: ScoredRows) -> Verdict:
        return judge_by_law(law.roll(-1, 0), rows)

    judge_by_law = rejection.judge_by_law
    patch.setattr(rejection, "judge_by_law", mutated)


def phantom_kv_in_the_target(patch: Patch) -> None:
    """What was written for a rejected token stays, and is read as that of the token now in its place."""
    written: dict[int, set[int]] = {}
    packed_batch = model_runner.packed_batch

    def mutated(spans: TokenSpans, slots: Any, pool: Any, share: int) -> PagedBatch:
        batch = packed_batch(spans, slots, pool, share)
        known = written.setdefault(id(pool), set())
        if not spans.start.any():
            known.clear()  # a prefill: its requests are new
        kept = [pool.null_slot if slot in known else slot for slot in batch.write_slots.tolist()]
        known.update(kept)
        return replace(batch, write_slots=torch.tensor(kept))

    patch.setattr(model_runner, "packed_batch", mutated)


def take_in_the_newest(patch: Patch) -> None:
    """Whatever KV a drafter is believed to hold, it takes the newest token in: a draft job has one at the least."""
    first_jobs = Round.first_jobs

    def mutated(self: Round, table: RequestTable) -> list[Job]:
        held = table.drafter_kv_tokens
        table.drafter_kv_tokens = np.minimum(held, (table.num_tokens - 1)[:, None])
        jobs = first_jobs(self, table)
        table.drafter_kv_tokens = held
        return jobs

    patch.setattr(Round, "first_jobs", mutated)


def phantom_kv_in_a_drafter(patch: Patch) -> None:
    """A drafter believes that it has seen all it drafted, though others stand there now when its next turn comes."""
    close = RoundCloser.close

    def mutated_close(self: RoundCloser, round_: Round, done: JobDone, result: VerifyResult) -> None:
        close(self, round_, done, result)
        by_model = (round_.drafted > 0) & ~round_.by_lookup
        rows, drafter = round_.rows[by_model], round_.drafter[by_model]
        self._table.drafter_kv_tokens[rows, drafter] = (round_.context_tokens + round_.drafted - 1)[by_model]

    patch.setattr(RoundCloser, "close", mutated_close)
    take_in_the_newest(patch)


def phantom_kv_of_drafts_made_ahead(patch: Patch) -> None:
    """A drafter believes that it has seen all that it drafted ahead, though it was thrown away."""
    verified = DraftAhead.verified

    def mutated_verified(self: DraftAhead, round_: Round, *rest: Any) -> None:
        rows = round_.rows[self._drafts.job[round_.rows] != NO_JOB]
        verified(self, round_, *rest)
        drafts = self._drafts
        held = self._num_before[rows] + drafts.num_tokens[rows]
        self._table.drafter_kv_tokens[rows, drafts.drafter[rows]] = held

    patch.setattr(DraftAhead, "verified", mutated_verified)
    take_in_the_newest(patch)


def draft_used_behind_a_wrong_guess(patch: Patch) -> None:
    """What was drafted behind a guess is the next draft, whatever the target's bonus token is."""
    decide = DraftAhead._decide

    def mutated(self: DraftAhead, rows: np.ndarray) -> None:
        self._guess[rows] = self._bonus[rows]
        decide(self, rows)

    patch.setattr(DraftAhead, "_decide", mutated)


def guess_taken_for_the_first_drafted_token(patch: Patch) -> None:
    """The next draft begins with the guess at the token in front of it."""

    def mutated(self: Draft) -> Draft:
        return replace(self, token_ids=self.token_ids[:-1])

    patch.setattr(Draft, "behind_first", mutated)


def tree_seen_as_a_chain(patch: Patch) -> None:
    """A node of a tree sees all that has a lower number, its siblings and their children included."""
    tree_batch = model_runner.tree_batch

    def mutated(nodes: TreeNodes, *rest: Any) -> PagedBatch:
        sees = [np.arange(s.shape[1]) <= places[:, None] for s, places in zip(nodes.sees, nodes.places, strict=True)]
        return tree_batch(replace(nodes, sees=sees), *rest)

    patch.setattr(model_runner, "tree_batch", mutated)


def tree_position_off_by_one(patch: Patch) -> None:
    """Nodes of a tree are told that they stand one further on."""
    tree = ModelRunner.tree

    def mutated(self: ModelRunner, nodes: TreeNodes, *rest: Any) -> torch.Tensor:
        return tree(self, replace(nodes, depth=[depth + (depth > 0) for depth in nodes.depth]), *rest)

    patch.setattr(ModelRunner, "tree", mutated)


def first_branch_taken_for_the_path(patch: Patch) -> None:
    """As many tokens are kept as were accepted, but those of the likeliest children."""
    walk = verifier.walk

    def mutated(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        accepted, path = walk(*args)
        return accepted, torch.arange(path.shape[1]).expand_as(path)

    patch.setattr(verifier, "walk", mutated)


def kv_of_a_rejected_sibling_in_the_target(patch: Patch) -> None:
    """Behind an accepted path off the first branch, that branch's KV stays where the path's should be."""
    patch.setattr(ModelRunner, "keep_path", lambda *_: None)


def kv_of_a_rejected_sibling_in_a_drafter(patch: Patch) -> None:
    """The same in a drafter's own pool."""
    patch.setattr(ModelDrafter, "move_kv", lambda *_: None)


def phantom_kv_of_merged_drafts(patch: Patch) -> None:
    """A drafter believes that it has seen what another drafted and was accepted."""
    settle = Proposals.settle
    patch.setattr(Proposals, "settle", lambda *args: replace(settle(*args), accepted_of=None))


def merged_behind_the_newest_token(patch: Patch) -> None:
    """What a draft adds to a tree follows the newest token, however far the two agree."""
    with_added = token_tree._with

    def mutated(proposal: Any, drafter: int, draft: Draft, place: Any, parent: np.ndarray, added: Any) -> Any:
        return with_added(proposal, drafter, draft, place, np.zeros_like(parent), added)

    patch.setattr(token_tree, "_with", mutated)


def residual_omitted(patch: Patch) -> None:
    """A rejected token is replaced by a draw from the target's law."""
    patch.setattr(rejection, "residual_law", lambda target, draft: target)


def residual_not_normalised(patch: Patch) -> None:
    """What p leaves over q is taken for a law as it is; the missing rest falls to the last token."""

    def mutated(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        return (weights.cumsum(-1) <= uniforms[:, None]).sum(-1).clamp(max=weights.shape[-1] - 1)

    patch.setattr(rejection, "residual_law", lambda target, draft: (target - draft).clamp(min=0))
    patch.setattr(rejection, "draw", mutated)


def everything_accepted(patch: Patch) -> None:
    """Drafted tokens are kept as they are."""
    patch.setattr(rejection, "num_accepted", lambda target, draft, uniform, is_drafted: is_drafted.sum(1))


def ratio_inverted(patch: Patch) -> None:
    """Kept with probability min(1, q / p)."""
    num_accepted = rejection.num_accepted
    patch.setattr(rejection, "num_accepted", lambda target, draft, *rest: num_accepted(draft, target, *rest))


@dataclass(frozen=True)
class Mutation:
    """A planted bug, and the check that finds it."""

    plant: Callable[[Patch], None]
    caught_by: str


MUTATIONS = (
    Mutation(lost_bonus_token, "acceptance as recorded"),
    Mutation(lost_token_after_a_rejection, "joint law of a model"),
    Mutation(unwritten_bonus_token, "known laws"),
    Mutation(draws_shared_by_requests, "joint law of a model"),
    Mutation(noise_shared_by_requests, "joint law of a model, drafter-invariant"),
    Mutation(draws_shared_by_draft_and_verdict, "known laws"),
    Mutation(noise_position_off_by_one, "lossless, drafter-invariant"),
    Mutation(model_position_off_by_one, "lossless, greedy"),
    Mutation(scored_row_off_by_one, "known laws"),
    Mutation(phantom_kv_in_the_target, "lossless, greedy"),
    Mutation(phantom_kv_in_a_drafter, "acceptance as recorded"),
    Mutation(phantom_kv_of_drafts_made_ahead, "acceptance behind drafts made ahead"),
    Mutation(draft_used_behind_a_wrong_guess, "acceptance behind drafts made ahead"),
    Mutation(guess_taken_for_the_first_drafted_token, "acceptance behind drafts made ahead"),
    Mutation(tree_seen_as_a_chain, "lossless, trees"),
    Mutation(tree_seen_as_a_chain, "acceptance of trees as recorded"),
    Mutation(tree_position_off_by_one, "lossless, trees"),
    Mutation(first_branch_taken_for_the_path, "lossless, trees"),
    Mutation(kv_of_a_rejected_sibling_in_the_target, "lossless, trees"),
    Mutation(kv_of_a_rejected_sibling_in_a_drafter, "acceptance of trees as recorded"),
    Mutation(phantom_kv_of_merged_drafts, "acceptance of merged drafts as recorded"),
    Mutation(merged_behind_the_newest_token, "acceptance of merged drafts as recorded"),
    Mutation(residual_omitted, "known laws"),
    Mutation(residual_omitted, "joint law of a model"),
    Mutation(residual_not_normalised, "known laws"),
    Mutation(everything_accepted, "known laws"),
    Mutation(ratio_inverted, "known laws"),
)


MOST_RUNS = 8
"""Who shares a round, and so who drafts for whom, depends on the clock: some bugs show in four runs of five."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.plant.__name__}: {m.caught_by}")
def test_a_planted_bug_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passes(mutation.caught_by)
    mutation.plant(monkeypatch)
    with pytest.raises(AssertionError):
        _run_often(mutation.caught_by)


def _run_often(check: str) -> None:
    for _ in range(MOST_RUNS):
        CHECKS[check]()


def test_every_check_catches_something() -> None:
    assert {mutation.caught_by for mutation in MUTATIONS} == set(CHECKS)
