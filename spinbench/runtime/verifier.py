"""The target's jobs: prefill, and verification of drafted tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.jobs.job import TokenSpans, VerifyJob
from spinbench.control.jobs.result import PrefillResult, VerifyResult
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Draft, ScoredRows
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.graphs.static_forward import ForwardReplays
from spinbench.runtime.sampling.rejection import RejectionSampler
from spinbench.runtime.sampling.sampler import TokenSampler
from spinbench.runtime.token_tree import KvMoves, tree_rows, walk
from spinbench.runtime.upload import upload


class Verifier:
    """The target model with its KV pool."""

    def __init__(self, runner: ModelRunner, sampler: TokenSampler, replays: ForwardReplays | None = None) -> None:
        """With `replays`, packed and decomposed verifications and those of trees are replayed where they can be."""
        self.runner = runner
        self._replays = replays
        self._sampler = sampler

    @property
    def judges_by_law(self) -> bool:
        """Whether it needs the laws that drafts were drawn from, not their tokens alone."""
        return isinstance(self._sampler, RejectionSampler)

    def prefill(self, spans: TokenSpans, text: LiveText) -> PrefillResult:
        """Run whole contexts and choose the token behind each."""
        last_rows = np.cumsum(spans.num_tokens) - 1
        device = self.runner.device
        tokens = upload(text.span_token_ids(spans), device)
        logits = self.runner.packed(spans, tokens, upload(last_rows, device))
        chosen = self._sampler.target_tokens(logits, text.seeds[spans.rows], spans.stop)
        return PrefillResult(chosen.cpu().numpy())

    def verify(self, job: VerifyJob, drafts: Mapping[int, Draft], text: LiveText) -> VerifyResult:
        """Score the newest and the drafted tokens of every request in one pass, and judge the drafts by it."""
        spans = job.spans
        width = job.layout.query_width or int(spans.num_tokens.max())
        own = np.arange(width) < spans.num_tokens[:, None]
        rows, lengths = spans.rows.tolist(), job.num_drafted.tolist()
        drafted = tuple(drafts[row] if length else None for row, length in zip(rows, lengths, strict=True))
        tokens = self._query_tokens(job, drafted, text, own)
        real = upload(np.flatnonzero(own), tokens.device)
        logits = self._logits(spans, job.layout, tokens.view(-1), real)
        verdict = self._sampler.judge(logits, ScoredRows(tokens, own, spans.start, text.seeds[spans.rows], drafted))
        # one transfer to the host for the whole batch
        host = torch.cat((verdict.accepted[:, None], verdict.token_ids), 1).cpu().numpy()
        return VerifyResult(host[:, 1:], host[:, 0] + 1)

    def verify_trees(
        self, job: VerifyJob, drafts: Mapping[int, Draft], text: LiveText
    ) -> tuple[VerifyResult, IntArray]:
        """As `verify` in the packed layout, for drafts that branch: down each tree, where the target's choice leads.

        A choice is what plain decoding would emit behind its token, as long as the path to it was chosen all along.
        Also gives the accepted places [requests, width], in order behind place 0, the newest token's. KV of accepted
        tokens is moved to where a chain has it.
        """
        spans, seeds = job.spans, text.seeds[job.spans.rows]
        counts = spans.num_tokens.tolist()
        own = np.arange(max(counts)) < spans.num_tokens[:, None]
        drafted = tuple(
            drafts[row] if count > 1 else None for row, count in zip(spans.rows.tolist(), counts, strict=True)
        )
        rows = tree_rows(drafted, max(counts))
        nodes = TreeNodes(
            spans.rows,
            spans.start,
            [np.arange(count) for count in counts],
            [depth[:count] for depth, count in zip(rows.depth, counts, strict=True)],
            [sees[:count, :count] for sees, count in zip(rows.sees, counts, strict=True)],
        )
        tokens = self._query_tokens(job, drafted, text, own)
        real = upload(np.flatnonzero(own), tokens.device)
        own_tokens = tokens.view(-1)[real]
        logits = self._tree_logits(nodes, own_tokens)
        choices = torch.full_like(tokens, -1)
        requests, _ = np.nonzero(own)
        choices.view(-1)[real] = self._sampler.target_tokens(logits, seeds[requests], nodes.positions + 1)
        accepted, path = walk(tokens, choices, upload(own, tokens.device), rows)
        # one transfer to the host for the whole batch
        host = torch.cat((accepted[:, None], path, choices.gather(1, path)), 1).cpu().numpy()
        num_accepted, places = host[:, 0], host[:, 1 : 1 + own.shape[1]]
        self.runner.keep_path(KvMoves.along(spans.rows, spans.start, places, num_accepted))
        return VerifyResult(host[:, 1 + own.shape[1] :], num_accepted + 1), places

    def _logits(self, spans: TokenSpans, layout: LayoutPlan, tokens: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Logits of the places `real` of `tokens`, which are those of the spans: [len(real), vocab]."""
        own_tokens = tokens[real]
        if self._replays is not None:
            logits = self._replays.logits(spans, own_tokens, layout)
            if logits is not None:
                return logits
        if layout.query_width:
            return self.runner.tiled(spans, tokens, layout, real)
        rows = torch.arange(len(real), device=tokens.device)
        if layout.rectangles:
            return self.runner.tiled(spans, own_tokens, layout, rows)
        return self.runner.packed(spans, own_tokens, rows)

    def _tree_logits(self, nodes: TreeNodes, own_tokens: torch.Tensor) -> torch.Tensor:
        """Of all nodes, [nodes, vocab]."""
        logits = None if self._replays is None else self._replays.tree_logits(nodes, own_tokens)
        if logits is not None:
            return logits
        return self.runner.tree(nodes, own_tokens, torch.arange(len(own_tokens), device=own_tokens.device))

    def _query_tokens(
        self, job: VerifyJob, drafts: Sequence[Draft | None], text: LiveText, own: BoolArray
    ) -> torch.Tensor:
        """Newest token, then drafted ones where `own` is True: int64 [requests, width]."""
        newest = np.zeros(own.shape, np.int64)
        newest[:, 0] = [
            text.token_ids(row, start, start + 1)[0]
            for row, start in zip(job.spans.rows.tolist(), job.spans.start.tolist(), strict=True)
        ]
        tokens = upload(newest, self.runner.device)
        drafted = [draft.token_ids for draft in drafts if draft is not None]
        if drafted:
            where = np.flatnonzero(own & (np.arange(own.shape[1]) > 0))
            tokens.view(-1)[upload(where, tokens.device)] = torch.cat(drafted)
        return tokens
