"""How a captured draft chooses its tokens: what is random comes in as static integers, nothing from the host."""

from typing import Protocol

import numpy as np
import torch

from spinbench.control.jobs.job import TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.draft import DraftedStep
from spinbench.runtime.graphs.static_ints import Int32Array, StaticInts
from spinbench.runtime.sampling.noise import noise_keys
from spinbench.runtime.sampling.rejection import RejectionSampler, host_uniforms
from spinbench.runtime.sampling.sampler import Sampler, TokenSampler

RANDOM = "random"
"""Name of the static integers that choices are drawn with."""


class StaticChoice(Protocol):
    """A sampler's choice of drafted tokens over static tensors."""

    @property
    def num_words(self) -> int:
        """Integers that a token's draw takes; 0 = nothing is drawn."""
        ...

    def words(self, known: TokenSpans, num_steps: int, text: LiveText) -> Int32Array | None:
        """Those of drafts behind the `known` tokens, int32 [steps, requests, num_words]; None without any."""
        ...

    def choose(self, logits: torch.Tensor, random: torch.Tensor | None) -> DraftedStep:
        """A token per row of drafter logits [rows, draft vocab], from its words [rows, num_words]."""
        ...

    def children(self, logits: torch.Tensor, random: torch.Tensor | None, count: int) -> torch.Tensor:
        """The `count` best target token ids of each row, int64 [rows, count]. Raises TypeError for draws from a law."""
        ...


class NoiseChoice:
    """The largest logit, or the largest with the noise of drafter-invariant sampling."""

    def __init__(self, sampler: Sampler, target_ids: torch.Tensor | None) -> None:
        self._sampler = sampler
        self._target_ids = target_ids
        self.num_words = 2 if sampler.draws else 0

    def words(self, known: TokenSpans, num_steps: int, text: LiveText) -> Int32Array | None:
        """Keys of the noise, see `noise_keys`."""
        if not self.num_words:
            return None
        positions = known.stop + np.arange(num_steps)[:, None]
        seeds = np.broadcast_to(text.seeds[known.rows], positions.shape)
        return noise_keys(seeds.reshape(-1), positions.reshape(-1)).reshape(*positions.shape, 2)

    def choose(self, logits: torch.Tensor, random: torch.Tensor | None) -> DraftedStep:
        """No law: the choice is certain."""
        return DraftedStep(self._sampler.drafted_by_keys(logits, random, self._target_ids))

    def children(self, logits: torch.Tensor, random: torch.Tensor | None, count: int) -> torch.Tensor:
        """The largest ones, with the noise if there is some."""
        return self._sampler.children_by_keys(logits, random, count, self._target_ids)


class LawChoice:
    """A draw from the drafter's own law, which is kept for the verification."""

    num_words = 2

    def __init__(self, sampler: RejectionSampler, target_ids: torch.Tensor | None) -> None:
        self._sampler = sampler
        self._target_ids = target_ids

    def words(self, known: TokenSpans, num_steps: int, text: LiveText) -> Int32Array:
        """A float64 in [0, 1) as two integers."""
        positions = known.stop + np.arange(num_steps)[:, None]
        seeds = np.broadcast_to(text.seeds[known.rows], positions.shape)
        return host_uniforms("draft", seeds, positions, known.stop).view(np.int32).reshape(*positions.shape, 2)

    def choose(self, logits: torch.Tensor, random: torch.Tensor | None) -> DraftedStep:
        """With its probability, and the probabilities of all."""
        if random is None:
            raise ValueError("a draw needs its number")
        return self._sampler.drafted_by_uniforms(logits, random.view(torch.float64)[:, 0], self._target_ids)

    def children(self, logits: torch.Tensor, random: torch.Tensor | None, count: int) -> torch.Tensor:
        """Never asked."""
        raise TypeError("rejection sampling judges chains only")


def static_choice(sampler: TokenSampler, target_ids: torch.Tensor | None) -> StaticChoice:
    """This sampler's, `target_ids` being those of the drafter's vocabulary. Raises TypeError for an unknown one."""
    if isinstance(sampler, Sampler):
        return NoiseChoice(sampler, target_ids)
    if isinstance(sampler, RejectionSampler):
        return LawChoice(sampler, target_ids)
    raise TypeError(f"{type(sampler).__name__} has no choice over static tensors")


def random_shape(choice: StaticChoice, num_steps: int, batch: int) -> dict[str, tuple[int, ...]]:
    """The table of the words, if any; to be the first one, so that two of them lie as a number of 64 bits does."""
    return {RANDOM: (num_steps, batch, choice.num_words)} if choice.num_words else {}


def put_random(ints: StaticInts, words: Int32Array | None) -> None:
    """Write the words of a batch's draws; those of nobody's rows are 0."""
    if words is not None:
        table = np.zeros(tuple(ints[RANDOM].shape), np.int32)
        table[:, : words.shape[1]] = words
        ints.put(RANDOM, table)
