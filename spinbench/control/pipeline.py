"""The running batch in micro-batches: while the target verifies one, drafters draft for another."""

from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.depth import AdaptiveDepth, DepthControl, FixedDepth

Split = Literal["by_drafter", "by_length", "round_robin"]


class Pipeline(Protocol):
    """How many rounds are in flight, and which requests share one."""

    @property
    def depth(self) -> int:
        """Rounds in flight at the most, >= 1. At 1 a prefill is not overlapped either."""
        ...

    @property
    def depths(self) -> range:
        """All that `depth` may come to."""
        ...

    def split(self, context: RoundContext, drafters: IntArray, num_parts: int) -> list[IntArray]:
        """Places in `context` of each of at most `num_parts` micro-batches, none empty, each request in one of them."""
        ...

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """A round of `num_requests` was verified at `end_s`; up to then `num_running` requests were running.

        `gain` is what depths are to be compared by: tokens emitted, or requests where those do not depend on the depth.
        """
        ...


class SerialPipeline:
    """One round after another, each with the whole batch."""

    depth = 1
    depths = range(1, 2)

    def split(self, context: RoundContext, drafters: IntArray, num_parts: int) -> list[IntArray]:
        """All in one."""
        return [np.arange(len(context))]

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """Nothing to learn."""


class DraftWhileVerifyPipeline(SerialPipeline):
    """As serial, but a drafter goes on drafting while the target verifies what it drafted (`control.draft_ahead`)."""


class MicroBatchPipeline:
    """Micro-batches of equal size.

    Requests that start together are put in order and cut: `by_drafter` (who waits for a slow drafter waits together),
    `by_length` of the context (so that padding is small), `round_robin` (as they come). Once in flight a micro-batch
    stays together; it takes newcomers in, and gives requests up while it is larger than its share of the batch.
    """

    @validate_call
    def __init__(
        self,
        depth: Annotated[int, Field(ge=1)] | Literal["adaptive"],
        split: Split,
        max_depth: Annotated[int, Field(ge=1)],
        passes_per_trial: Annotated[int, Field(ge=1)],
        trials_per_probe: Annotated[int, Field(ge=1)],
    ) -> None:
        self._split = split
        self.depths = range(1, max_depth + 1) if depth == "adaptive" else range(depth, depth + 1)
        self._control: DepthControl = (
            AdaptiveDepth(max_depth, passes_per_trial, trials_per_probe) if depth == "adaptive" else FixedDepth(depth)
        )

    @property
    def depth(self) -> int:
        """As the control says."""
        return self._control.depth

    def split(self, context: RoundContext, drafters: IntArray, num_parts: int) -> list[IntArray]:
        """In order, cut into parts that differ by one request at most."""
        count = len(context)
        if self._split == "round_robin":
            return [np.arange(part, count, num_parts) for part in range(min(num_parts, count))]
        key = drafters if self._split == "by_drafter" else context.context_tokens
        order = np.argsort(key, kind="stable")
        # a micro-batch keeps the order of its requests in the batch
        return [np.sort(part) for part in np.array_split(order, num_parts) if len(part)]

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """The control's to learn from."""
        self._control.observe(end_s, num_requests, num_running, gain)


def share_of_batch(num_running: int, depth: int) -> int:
    """Requests in a micro-batch at the most, so that they stay of one size: running requests / depth, rounded up."""
    return -(-num_running // depth)


def num_parts(num_requests: int, num_running: int, depth: int) -> int:
    """Micro-batches that these requests make beside the other running ones, rounded up."""
    return -(-num_requests * depth // num_running)


def next_to_start(idle: IntArray, last_round: IntArray, num_places: int) -> IntArray:
    """Of the `idle` rows, in their order, the at most `num_places` whose last round is longest ago.

    `last_round` is by row, over all requests of the run.
    """
    if len(idle) <= num_places:
        return idle
    longest_idle = np.argsort(last_round[idle], kind="stable")[:num_places]
    return idle[np.sort(longest_idle)]
