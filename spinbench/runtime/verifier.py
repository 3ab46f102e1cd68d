"""The target's jobs: prefill, and verification of drafted tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spinbench.control.job import PrefillResult, TokenSpan, VerifyItem, VerifyJob, VerifyResult
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler


class Verifier:
    """The target model with its KV pool."""

    def __init__(self, runner: ModelRunner, sampler: Sampler) -> None:
        self.runner = runner
        self._sampler = sampler

    def prefill(self, spans: Sequence[TokenSpan]) -> PrefillResult:
        """Run whole contexts and choose the token behind each."""
        tokens = np.concatenate([span.state.token_ids(span.start, span.stop) for span in spans])
        last_rows = np.cumsum([span.num_tokens for span in spans]) - 1
        device = self.runner.device
        logits = self.runner.packed(spans, torch.from_numpy(tokens).to(device), torch.from_numpy(last_rows).to(device))
        seeds = [span.state.request.seed for span in spans]
        chosen = self._sampler.target_tokens(logits, seeds, [span.stop for span in spans])
        return PrefillResult(tuple(chosen.tolist()))

    def verify(self, job: VerifyJob, drafts: Mapping[str, torch.Tensor]) -> VerifyResult:
        """Score the newest and the drafted tokens of every request in one pass.

        The target's own choice at each row is what plain decoding would emit there, as long as all drafted tokens
        before it were its choice too: so the accepted tokens and the bonus token are a prefix of its choices.
        """
        width = job.layout.query_width or max(job.layout.query_tokens)
        tokens, own = self._query_tokens(job.items, drafts, width)
        rows = torch.from_numpy(np.flatnonzero(own)).to(tokens.device)
        spans = [
            TokenSpan(item.state, item.state.num_tokens - 1, item.state.num_tokens + item.num_drafted)
            for item in job.items
        ]
        if job.layout.kind == "padded":
            logits = self.runner.padded(spans, tokens.view(-1), width, rows)
        else:
            logits = self.runner.packed(spans, tokens.view(-1)[rows], torch.arange(len(rows), device=tokens.device))
        seeds = [item.state.request.seed for item in job.items for _ in range(item.num_drafted + 1)]
        positions = [position + 1 for span in spans for position in range(span.start, span.stop)]
        choices = torch.full_like(tokens, -1)
        choices.view(-1)[rows] = self._sampler.target_tokens(logits, seeds, positions)
        real = torch.from_numpy(own).to(tokens.device)
        agree = (choices[:, :-1] == tokens[:, 1:]) & real[:, 1:]
        accepted = agree.long().cumprod(1).sum(1)
        # one transfer to the host for the whole batch
        host = torch.cat((accepted[:, None], choices), 1).tolist()
        return VerifyResult(tuple(tuple(row[1 : row[0] + 2]) for row in host))

    def _query_tokens(
        self, items: Sequence[VerifyItem], drafts: Mapping[str, torch.Tensor], width: int
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Newest token, then drafted ones: int64 [requests, width], and bool [requests, width] of real ones."""
        newest = np.zeros((len(items), width), np.int64)
        newest[:, 0] = [item.state.token_ids(item.state.num_tokens - 1, item.state.num_tokens)[0] for item in items]
        tokens = torch.from_numpy(newest).to(self.runner.device)
        own = np.arange(width) <= np.array([item.num_drafted for item in items])[:, None]
        drafted = [drafts[item.state.request.id][: item.num_drafted] for item in items if item.num_drafted]
        if drafted:
            where = np.flatnonzero(own & (np.arange(width) > 0))
            tokens.view(-1)[torch.from_numpy(where).to(tokens.device)] = torch.cat(drafted)
        return tokens, own
