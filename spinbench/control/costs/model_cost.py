"""What the passes of one model cost, and what a drafter costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention
from spinbench.control.costs.job_cost import JobCost
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError

Part = TypeVar("Part")


@dataclass(frozen=True)
class ModelCost:
    """What a pass of one model costs."""

    name: str
    forward: Curve
    """By rows, attention left out, one row of logits included."""
    head: Curve
    """By rows of logits: what those beyond the first add, sampling included; 0 for one row."""
    ragged: RaggedAttention
    rectangle: Mapping[LayoutKind, RectangleAttention]
    """By verification layout, the target's only."""
    max_num_requests: int
    """Most requests in a pass that was profiled."""
    max_context_tokens: int
    """Longest context that was profiled."""

    def rows_s(self, num_rows: int, num_head_rows: int) -> float:
        """Seconds of a pass without its attention, `num_head_rows` of its rows with logits."""
        forward, head = self.forward.table, self.head.table
        if num_rows < len(forward) and num_head_rows < len(head):  # a simulation asks millions of times
            return forward[num_rows] + head[num_head_rows]
        return self.forward.of(num_rows) + self.head.of(num_head_rows)


@dataclass(frozen=True)
class DrafterCost:
    """What a drafter costs: a model's passes, a look into an n-gram table, a lookup, or two of them."""

    name: str
    model: ModelCost | None
    catch_up: JobCost | None
    draft: JobCost | None
    """For the requests whose tokens come from the model, or without one from the n-gram table: no passes then."""
    lookup: JobCost | None
    """For the requests whose tokens are copied."""

    def profiled(self, part: Part | None, what: str) -> Part:
        """`part` of this, which a job needs. Raises UserError, calling it `what`, if the profile does not have it."""
        if part is None:
            raise UserError(f"the profile has no {what} of drafter {self.name!r}")
        return part
