"""Several drafters at once: each drafts for every request, and their drafts are verified as one tree."""

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError

MERGED = "merged"
"""Stands for the drafter of such rounds in records."""


class MergedSelector:
    """All of its drafters for everyone, whose drafts are merged by common prefixes (SpecInfer, arXiv 2305.09781)."""

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, drafters: list[str] | None) -> None:
        names = [drafter.name for drafter in setting.drafters]
        asked = names if drafters is None else drafters
        for name in asked:
            if name not in names:
                raise UserError(f"selector.drafters has {name!r}; the drafters of this run are {', '.join(names)}")
        if len(set(asked)) != len(asked) or len(asked) < 2:
            raise UserError(
                f"selector=merged merges the drafts of at least two different drafters; here it has "
                f"{', '.join(asked) or 'none'}"
            )
        self.members = tuple(sorted(map(names.index, asked)))
        """Drafters, as indices."""
        self._choice = len(names)

    def choose(self, context: RoundContext) -> IntArray:
        """The index behind the last drafter's, for everyone: all members."""
        return np.full(len(context), self._choice, np.int64)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
