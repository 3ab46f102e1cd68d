"""What one request was drafted, and the law that it was drawn from."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.runtime.upload import upload


@dataclass(frozen=True, eq=False, slots=True)
class DraftedStep:
    """The next token of every request that a drafter still drafts for."""

    token_ids: torch.Tensor
    """Target token ids, int64 [requests]."""
    probability: torch.Tensor | None = None
    """[requests]: with which each was drawn; None where nothing was drawn at random."""
    law: torch.Tensor | None = None
    """[requests, draft vocab]: the probabilities of all."""


@dataclass(frozen=True, eq=False, slots=True)
class DraftLaw:
    """What the drafts of a group were drawn from, kept on the device for their verification."""

    probability: torch.Tensor
    """[rows, draft vocab]: one row per request and step, steps behind each other."""
    target_ids: torch.Tensor | None
    """Target token id of each column; tokens that are not among them have probability 0. None = the same ids."""


@dataclass(frozen=True, eq=False, slots=True)
class Draft:
    """The drafted tokens of a request. Without a law each was certain: copied, or the drafter's best."""

    token_ids: torch.Tensor
    """Target token ids, int64 [drafted]."""
    probability: torch.Tensor | None = None
    """[drafted]: with which each token was drawn."""
    law: DraftLaw | None = None
    law_rows: IntArray | None = None
    """[drafted]: which row of the law each token was drawn from."""
    parents: IntArray | None = None
    """[drafted]: of a tree, the token that each follows, at a lower place in it; -1 = the newest. None = a chain."""

    def __len__(self) -> int:
        """Drafted tokens."""
        return len(self.token_ids)

    def first(self, count: int) -> "Draft":
        """The first tokens of a chain."""
        if count == len(self):
            return self
        probability = None if self.probability is None else self.probability[:count]
        rows = None if self.law_rows is None else self.law_rows[:count]
        return Draft(self.token_ids[:count], probability, self.law, rows)

    def behind_first(self) -> "Draft":
        """A chain without its first token."""
        probability = None if self.probability is None else self.probability[1:]
        return Draft(self.token_ids[1:], probability, self.law, None if self.law_rows is None else self.law_rows[1:])


@dataclass(frozen=True, slots=True)
class Drafts:
    """One draft per request, the drafter's confidence if measured, and tokens that its model was run for."""

    of_request: tuple[Draft, ...]
    confidence: FloatArray | None
    num_steps: IntArray


class DraftRecorder:
    """Collects the steps of a group, each of some of its requests, into one draft per request."""

    def __init__(self, target_ids: torch.Tensor | None) -> None:
        self._target_ids = target_ids
        self._steps: list[DraftedStep] = []
        self._requests: list[IntArray] = []

    def add(self, step: DraftedStep, requests: IntArray) -> None:
        """The next token of these requests of the group, int [requests of the step]."""
        self._steps.append(step)
        self._requests.append(requests)

    def drafts(self, lengths: IntArray) -> list[Draft]:
        """One draft per request of the group, of the first `lengths` tokens of each."""
        # [group, steps]: place of each token among those of all steps behind each other
        place = np.zeros((len(lengths), len(self._steps)), np.int64)
        first = 0
        for number, requests in enumerate(self._requests):
            place[requests, number] = first + np.arange(len(requests))
            first += len(requests)
        places = place[np.arange(len(self._steps)) < lengths[:, None]]
        sizes = lengths.tolist()
        token_ids = self._at([step.token_ids for step in self._steps], places).split(sizes)
        law = self._law()
        if law is None:
            return [Draft(tokens) for tokens in token_ids]
        probability = self._at([step.probability for step in self._steps if step.probability is not None], places)
        columns = token_ids, probability.split(sizes), np.split(places, np.cumsum(lengths)[:-1])
        return [Draft(tokens, drawn_with, law, rows) for tokens, drawn_with, rows in zip(*columns, strict=True)]

    def _at(self, of_steps: list[torch.Tensor], places: IntArray) -> torch.Tensor:
        """Entries of the steps' columns, which are put behind each other."""
        behind_each_other = torch.cat(of_steps)
        return behind_each_other[upload(places, behind_each_other.device)]

    def _law(self) -> DraftLaw | None:
        laws = [step.law for step in self._steps if step.law is not None]
        return DraftLaw(torch.cat(laws), self._target_ids) if laws else None


@dataclass(frozen=True, eq=False, slots=True)
class ScoredRows:
    """The rows that the target scored: per request its newest token, then the drafted ones."""

    token_ids: torch.Tensor
    """int64 [requests, width]"""
    own: BoolArray
    """[requests, width]: False behind a request's last token. A row of logits belongs to each that is True."""
    start: IntArray
    """[requests]: position of the newest token."""
    seeds: IntArray
    """[requests]"""
    drafts: tuple[Draft | None, ...]
    """[requests]"""

    def places(self) -> tuple[IntArray, IntArray]:
        """Of each row of logits its request, and the position of the token that it chooses, int [logit rows]."""
        requests, columns = np.nonzero(self.own)
        return requests, self.start[requests] + columns + 1


@dataclass(frozen=True, eq=False, slots=True)
class Verdict:
    """What a request's draft came to."""

    token_ids: torch.Tensor
    """int64 [requests, width]: the accepted tokens, then the bonus token; the rest has no meaning."""
    accepted: torch.Tensor
    """int64 [requests]"""
