"""UCBSpec: the upper-confidence bandit of BanditSpec."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import FloatArray
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import ScaledReward, ScaledRewardKind
from spinbench.control.selector.ucb import UpperConfidence


class UcbSpecSelector(UpperConfidence):
    """BanditSpec's algorithm 4 (arXiv 2505.15141v2): largest mean + radius, equations 5 to 7.

    The paper's reward is the acceptance length Y in 1 .. L + 1, with L the longest draft, and its radius after t
    rounds, n of them with one of K drafters, is (L / 2) sqrt((1 + n) / n^2 (1 + 2 ln(K t^2 sqrt(1 + n) / delta))).
    Divided by L, which changes no choice, it fits rewards in [0, 1], of which Y's is (Y - 1) / L = accepted / L. With
    throughput as reward (its section 6.2) the radius is the same. Each request is a bandit of its own. The paper's text
    does not say which delta its experiments used, so it is a parameter. `exploration` 1 is the paper's radius: after
    100 rounds shared evenly by 7 drafters, delta 0.1, it is still 0.8 of the whole scale.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        delta: Annotated[float, Field(gt=0, le=1)],
        exploration: Annotated[float, Field(ge=0)],
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: ScaledRewardKind,
        per_request: bool,
    ) -> None:
        setting.require_drafters("ucbspec")
        num_drafters = len(setting.drafters)

        def radius(num_rounds: FloatArray, total_rounds: FloatArray) -> FloatArray:
            confidence = 1 + 2 * np.log(num_drafters * total_rounds**2 * np.sqrt(1 + num_rounds) / delta)
            return exploration / 2 * np.sqrt((1 + num_rounds) * confidence) / num_rounds

        super().__init__(setting, ScaledReward(reward, setting), radius, rounds_per_choice, per_request)
