"""Nothing padded."""

from spinbench.control.arrays import IntArray
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.layout.protocol import LayoutSetting


class PackedLayout:
    """Ragged rows behind each other, each attending to its own keys: nothing is padded."""

    def __init__(self, setting: LayoutSetting | None = None) -> None:
        """Nothing in the setting matters to it."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """Rows as they are."""
        # a few hundred whole numbers are added up as a list before NumPy has begun to
        useful = sum((query_tokens * key_tokens).tolist())
        return LayoutPlan("packed", 0, useful, 0, sum(query_tokens.tolist()), sum(key_tokens.tolist()))
