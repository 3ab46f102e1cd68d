"""All padded to the largest."""

from spinbench.control.arrays import IntArray
from spinbench.control.layout.plan import LayoutPlan, rectangles_plan, whole_contexts
from spinbench.control.layout.protocol import LayoutSetting


class PaddedLayout:
    """Every request padded to the most query rows and the longest context, for kernels that need rectangles."""

    def __init__(self, setting: LayoutSetting | None = None) -> None:
        """Nothing in the setting matters to it."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """One rectangle."""
        return rectangles_plan("padded", query_tokens, key_tokens, [whole_contexts(query_tokens, key_tokens)])
