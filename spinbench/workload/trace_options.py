"""Which requests of a trace file are replayed."""

import math
from dataclasses import dataclass

from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Filters and caps, the same for every format. Raises UserError, naming the key, for a value out of range.

    Applied in this order: `start_s` and `end_s`, `categories`, `max_prompt_tokens`, `num_prompts` with `sample_seed`,
    `part_category`, `part` with `part_seed`, `max_output_tokens`, `time_scale`. What the first six leave out is counted
    in `Trace.dropped_requests`, what `max_output_tokens` shortens in `Trace.clipped_requests`. A trace thinned by
    `num_prompts` has a lower rate; one thinned by `part` keeps its rate, as its times are multiplied by the part.
    """

    num_prompts: int | None = None
    """Requests kept at most, at least 1; `None` = all."""
    sample_seed: int | None = None
    """Seed of a random choice of `num_prompts` requests; `None` = the earliest ones."""
    part: float = 1.0
    """Share of those kept, drawn at random, > 0 and at most 1. Of one seed, a smaller part lies within a larger one."""
    part_seed: int = 0
    """Seed of the draw of `part`, at least 0."""
    part_category: str | None = None
    """The category kept of what `num_prompts` has left, where `categories` would draw others; `None` = all of them."""
    categories: tuple[str, ...] | None = None
    """Categories kept; `None` = all, requests without one included."""
    max_prompt_tokens: int | None = None
    """Requests with a longer prompt are left out; at least 1. A text needs a tokenizer to be measured."""
    max_output_tokens: int | None = None
    """`max_new_tokens` is lowered to this; at least 1."""
    default_max_new_tokens: int = 128
    """`max_new_tokens` where the format states none (spec_bench, sharegpt); at least 1."""
    start_s: float = 0.0
    """Requests that arrive earlier are left out; seconds from the trace's start, >= 0. Arrivals then count from it."""
    end_s: float | None = None
    """Requests that arrive then or later are left out; seconds from the trace's start, > `start_s`. `None` = no end."""
    time_scale: float = 1.0
    """Factor on arrival times, > 0: 2 = half the rate."""

    def __post_init__(self) -> None:
        self._check_times()
        for key in ("num_prompts", "max_prompt_tokens", "max_output_tokens", "default_max_new_tokens"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"trace.{key} is {value}; it must be >= 1")
        if self.sample_seed is not None and self.sample_seed < 0:
            raise UserError(f"trace.sample_seed is {self.sample_seed}; it must be >= 0")
        if self.sample_seed is not None and self.num_prompts is None:
            raise UserError("trace.sample_seed is set but trace.num_prompts is not: say how many requests to draw")
        if not 0 < self.part <= 1:
            raise UserError(f"trace.part is {self.part}; it must be > 0 and <= 1")
        if self.part_seed < 0:
            raise UserError(f"trace.part_seed is {self.part_seed}; it must be >= 0")
        if self.categories is not None and not self.categories:
            raise UserError("trace.categories is empty; name at least one category, or leave it null for all")

    def _check_times(self) -> None:
        # `not` before a comparison also catches nan.
        if not 0 <= self.start_s < math.inf:
            raise UserError(f"trace.start_s is {self.start_s}; it must be >= 0 and finite")
        if self.end_s is not None and not self.start_s < self.end_s < math.inf:
            raise UserError(
                f"trace.end_s is {self.end_s}; it must be > trace.start_s ({self.start_s}) and finite, or null for "
                "no end"
            )
        if not 0 < self.time_scale < math.inf:
            raise UserError(f"trace.time_scale is {self.time_scale}; it must be > 0 and finite")
