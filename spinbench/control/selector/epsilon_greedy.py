"""The best drafter so far, and now and then another."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import ConfigDict, Field, validate_call

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import GoodputEstimate, RewardKind


class EpsilonGreedySelector:
    """Per request: with probability epsilon a uniform draw, else the drafter of highest estimated goodput.

    A choice is kept for `rounds_per_choice` rounds of the request, since each switch costs KV catch-up.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        epsilon: Annotated[float, Field(ge=0, le=1)],
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: RewardKind,
        decay: Annotated[float, Field(gt=0, le=1)],
        prior_rounds: Annotated[float, Field(ge=0)],
    ) -> None:
        setting.require_drafters("epsilon_greedy")
        self._num_drafters = len(setting.drafters)
        self._rng = setting.rng
        self._epsilon = epsilon
        self._rounds_per_choice = rounds_per_choice
        self._estimate = GoodputEstimate(reward, self._num_drafters, decay, prior_rounds, per_request=True)
        self._current: dict[str, int] = {}

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """Explore or exploit where a choice is due; drafters that nobody tried come first."""
        for context in contexts:
            if context.num_rounds % self._rounds_per_choice and context.request_id in self._current:
                continue
            if self._rng.random() < self._epsilon:
                drafter = int(self._rng.integers(self._num_drafters))
            else:
                goodput = self._estimate.of(context.request_id)
                drafter = int(self._rng.choice((goodput == goodput.max()).nonzero()[0]))
            self._current[context.request_id] = drafter
        return [self._current[context.request_id] for context in contexts]

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Update the estimates and forget finished requests."""
        for outcome in outcomes:
            self._estimate.update(outcome)
            if outcome.finished:
                self._current.pop(outcome.request_id, None)
