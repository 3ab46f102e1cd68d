"""Selectors that know what only hindsight tells: bounds on what others may reach."""

from typing import Any

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.selector.joint import JointSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.survival import SurvivalEstimate
from spinbench.control.selector.survival_prior import SurvivalPrior


class OwnChoices:
    """Each request has a drafter and a K of its own from beginning to end: what hindsight would choose."""

    needs_confidence = False

    def __init__(self, setting: SelectorSetting, *, drafter: list[int], num_speculative_tokens: list[int]) -> None:
        """One entry per request, in the order in which they arrive."""
        self._drafter = np.array(drafter)
        self._lengths = np.array(num_speculative_tokens)
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens

    def choose(self, context: RoundContext) -> IntArray:
        """Its drafter."""
        return self._drafter[context.rows]

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """Its K."""
        return self._lengths[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""


class ForesightSurvival(SurvivalEstimate):
    """Knows what becomes of drafts: of copies, or of all of them. What no context can tell is the difference."""

    def __init__(self, setting: SelectorSetting, foresight: Foresight, models_too: bool) -> None:
        sources = DraftSources.of(setting.drafters)
        super().__init__(sources, setting.num_requests, setting.max_num_speculative_tokens, SurvivalPrior())
        self._foresight = foresight
        self._models_too = models_too

    def begin(self, context: RoundContext) -> None:
        """Note how far the texts are."""
        super().begin(context)
        self._num_output_tokens = context.output_tokens

    def survival(self, rows: IntArray, optimism: float) -> FloatArray:
        """1 as far as a draft will be accepted, then 0."""
        chances = super().survival(rows, optimism)
        length = np.arange(1, chances.shape[2] + 1)
        streams, drafters = self._foresight.streams, self._foresight.drafters
        for place, info in enumerate(drafters):
            copies = info.kind == "prompt_lookup"
            if copies or (self._models_too and info.kind == "model"):
                by_lookup = np.full(len(rows), copies)
                run = streams.accepted_run(rows, self._num_output_tokens, place, by_lookup)
                source = -1 if copies else self._sources.source_of_drafter[place]
                chances[:, source] = length <= run[:, None]
        return chances


class ForesightJoint(JointSelector):
    """`joint` with foresight in place of estimates."""

    def __init__(self, setting: SelectorSetting, *, models_too: bool, **keys: Any) -> None:
        super().__init__(setting, **keys)
        assert setting.foresight is not None
        self._ahead.survival = ForesightSurvival(setting, setting.foresight, models_too)
