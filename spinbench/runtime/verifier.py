"""The target's jobs: prefill, and verification of drafted tokens."""

from collections.abc import Mapping

import numpy as np
import torch

from spinbench.control.arrays import BoolArray
from spinbench.control.job import PrefillResult, TokenSpans, VerifyJob, VerifyResult
from spinbench.control.text import LiveText
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler


class Verifier:
    """The target model with its KV pool."""

    def __init__(self, runner: ModelRunner, sampler: Sampler) -> None:
        self.runner = runner
        self._sampler = sampler

    def prefill(self, spans: TokenSpans, text: LiveText) -> PrefillResult:
        """Run whole contexts and choose the token behind each."""
        last_rows = np.cumsum(spans.num_tokens) - 1
        device = self.runner.device
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(device)
        logits = self.runner.packed(spans, tokens, torch.from_numpy(last_rows).to(device))
        chosen = self._sampler.target_tokens(logits, text.seeds[spans.rows], spans.stop)
        return PrefillResult(chosen.cpu().numpy())

    def verify(self, job: VerifyJob, drafts: Mapping[int, torch.Tensor], text: LiveText) -> VerifyResult:
        """Score the newest and the drafted tokens of every request in one pass.

        The target's own choice at each row is what plain decoding would emit there, as long as all drafted tokens
        before it were its choice too: so the accepted tokens and the bonus token are a prefix of its choices.
        """
        spans = job.spans
        width = job.layout.query_width or int(spans.num_tokens.max())
        own = np.arange(width) < spans.num_tokens[:, None]
        tokens = self._query_tokens(job, drafts, text, own)
        places = np.flatnonzero(own)
        rows = torch.from_numpy(places).to(tokens.device)
        own_tokens, own_rows = tokens.view(-1)[rows], torch.arange(len(rows), device=tokens.device)
        if job.layout.query_width:
            logits = self.runner.tiled(spans, tokens.view(-1), job.layout, rows)
        elif job.layout.rectangles:
            logits = self.runner.tiled(spans, own_tokens, job.layout, own_rows)
        else:
            logits = self.runner.packed(spans, own_tokens, own_rows)
        requests, columns = np.divmod(places, width)
        positions = spans.start[requests] + columns + 1
        choices = torch.full_like(tokens, -1)
        choices.view(-1)[rows] = self._sampler.target_tokens(logits, text.seeds[spans.rows[requests]], positions)
        real = torch.from_numpy(own).to(tokens.device)
        agree = (choices[:, :-1] == tokens[:, 1:]) & real[:, 1:]
        accepted = agree.long().cumprod(1).sum(1)
        # one transfer to the host for the whole batch
        host = torch.cat((accepted[:, None], choices), 1).cpu().numpy()
        return VerifyResult(host[:, 1:], host[:, 0] + 1)

    def _query_tokens(
        self, job: VerifyJob, drafts: Mapping[int, torch.Tensor], text: LiveText, own: BoolArray
    ) -> torch.Tensor:
        """Newest token, then drafted ones where `own` is True: int64 [requests, width]."""
        rows, num_drafted = job.spans.rows.tolist(), job.num_drafted.tolist()
        newest = np.zeros(own.shape, np.int64)
        newest[:, 0] = [
            text.token_ids(row, start, start + 1)[0] for row, start in zip(rows, job.spans.start.tolist(), strict=True)
        ]
        tokens = torch.from_numpy(newest).to(self.runner.device)
        drafted = [drafts[row][:count] for row, count in zip(rows, num_drafted, strict=True) if count]
        if drafted:
            where = np.flatnonzero(own & (np.arange(own.shape[1]) > 0))
            tokens.view(-1)[torch.from_numpy(where).to(tokens.device)] = torch.cat(drafted)
        return tokens
