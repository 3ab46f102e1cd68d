"""UCB1: optimism in the face of uncertainty."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import FloatArray
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import ScaledReward, ScaledRewardKind
from spinbench.control.selector.ucb import UpperConfidence


class Ucb1Selector(UpperConfidence):
    """The drafter of largest mean reward + c sqrt(2 ln n / n_j) after n rounds, n_j of them with drafter j.

    Auer, Cesa-Bianchi and Fischer 2002, figure 1, where c = 1 and the rewards are in [0, 1]; ours are scaled into it as
    `ScaledReward` says.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        exploration: Annotated[float, Field(ge=0)],
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: ScaledRewardKind,
        per_request: bool,
    ) -> None:
        setting.require_drafters("ucb1")

        def radius(num_rounds: FloatArray, total_rounds: FloatArray) -> FloatArray:
            return exploration * np.sqrt(2 * np.log(total_rounds) / num_rounds)

        super().__init__(setting, ScaledReward(reward, setting), radius, rounds_per_choice, per_request)
